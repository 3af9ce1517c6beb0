"""What the attempts of a call cost, in regular core-seconds: one is what a core of a regular VM costs in a second.

An attempt costs the CPU time it used (core-seconds of its VM) times the VM's price (`VmInfo.price`: of one core-second
there, relative to a regular one). On a regular VM the same work would have taken that CPU time times the speed of the
VM's cores (`VmInfo.speed`), at the price 1. Example: 10 core-seconds on a harvest VM of price 0.24 and speed 1 cost 2.4
instead of 10 regular core-seconds.

What an attempt that was cut off had used is known as far as its VM told: with every report once an eviction is
announced, and when it is cancelled. It is then a lower bound, and wasted.
"""

from __future__ import annotations

from dataclasses import dataclass

from fallow.core.model import Outcome, VmId, VmKind
from fallow.core.why.placement import Placement
from fallow.core.why.story import CutOffUse, StepKind, Story, StoryStep

NOT_MEASURED = "not measured: its VM cannot measure CPU time"
NEVER_TOLD = "not measured: its VM ended without telling"
RUNS = "not known yet: it has not ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptCost:
    """One dispatch that may have run. Dispatches that were given back never started, and cost nothing."""

    attempt: int
    vm_id: VmId
    kind: VmKind
    price: float
    speed: float
    cpu_s: float | None  # core-seconds of the VM; None = for the reason in `note`
    wasted: bool  # it was cut off: nothing came of it
    note: str = ""

    @property
    def cost(self) -> float | None:
        """Regular core-seconds."""
        return None if self.cpu_s is None else self.cpu_s * self.price

    @property
    def regular_cost(self) -> float | None:
        """What the same work would have cost on a regular VM."""
        return None if self.cpu_s is None else self.cpu_s * self.speed


def attempt_costs(story: Story) -> tuple[AttemptCost, ...]:
    """Of every dispatch among the story's steps that was not given back, in order."""
    costs: list[AttemptCost] = []
    placed: StoryStep | None = None
    for step in story.steps:
        match step.what:
            case StepKind.PLACED:
                placed = step
            case StepKind.RETURNED:
                placed = None
            case StepKind.FINISHED | StepKind.CUT_OFF if placed is not None:
                if (placed.attempt, placed.vm_id) == (step.attempt, step.vm_id):  # else its own was not kept
                    costs.append(_cost(placed, step, story.cut_off_use))
                placed = None
            case _:
                pass
    if placed is not None:
        costs.append(_cost(placed, None, ()))
    return tuple(costs)


def _cost(placed: StoryStep, end: StoryStep | None, told: tuple[CutOffUse, ...]) -> AttemptCost:
    assert isinstance(placed.detail, Placement)
    info = placed.detail.info
    cpu_s: float | None = None
    note = RUNS
    wasted = end is not None and end.what is StepKind.CUT_OFF
    if end is not None and isinstance(end.detail, Outcome):
        cpu_s, note = end.detail.cpu_s, NOT_MEASURED
    elif wasted and end is not None:
        last = next((u for u in told if (u.attempt, u.vm_id) == (placed.attempt, info.id)), None)
        note = NEVER_TOLD
        if last is not None:
            cpu_s, note = last.cpu_s, _as_told(end.after_s - last.after_s)
    if cpu_s is not None and not wasted:
        note = ""
    return AttemptCost(
        attempt=placed.attempt,
        vm_id=info.id,
        kind=info.kind,
        price=info.price,
        speed=info.speed,
        cpu_s=cpu_s,
        wasted=wasted,
        note=note,
    )


def _as_told(before_s: float) -> str:
    if before_s > 0:
        return f"at least: as told {before_s:.1f} s before it was cut off"
    return "as told when it was cancelled"
