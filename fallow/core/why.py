"""The story of an activation: what was considered, chosen, waited for, moved, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fallow.core.model import ActionSpec, ActivationId, Considered, VmId

STEPS_KEPT = 64  # of one activation; of a longer story the middle is left out


class StepKind(StrEnum):
    """What happened in a step."""

    PLACED = "placed"
    WAITED = "waited"
    RETURNED = "returned"
    NOTICE = "notice"  # an eviction of its VM was announced, moved or called off
    CUT_OFF = "cut off"
    FENCE_ASKED = "fence asked"
    FENCE_RAISED = "fence raised"
    DURABLE = "made durable"
    FINISHED = "finished"
    DISCARDED = "late result discarded"
    CONCLUDED = "concluded"
    REFUSED = "refused"
    FORGOTTEN = "forgotten"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryStep:
    after_s: float  # since the call arrived at this controller
    what: StepKind
    attempt: int
    vm_id: VmId | None
    note: str  # one clause: the reason
    considered: tuple[Considered, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    activation_id: ActivationId
    action: str  # namespace/name
    durable: bool
    attempts: int  # the number of the last attempt
    ended: bool
    steps: tuple[StoryStep, ...]
    left_out: int  # steps from the middle that were not kept


class StoryLog:
    """Collects one activation's steps; cheap on the hot path, turned into a Story only when somebody asks."""

    __slots__ = ("_action", "_arrived_s", "_id", "_left_out", "_steps", "attempt", "durable", "ended")

    def __init__(self, activation_id: ActivationId, action: ActionSpec, arrived_s: float) -> None:
        self._id = activation_id
        self._action = action
        self._arrived_s = arrived_s
        self._steps: list[tuple[float, StepKind, int, VmId | None, str, tuple[Considered, ...]]] = []
        self._left_out = 0
        self.attempt = 0
        self.durable = False
        self.ended = False

    def add(
        self,
        now_s: float,
        what: StepKind,
        vm_id: VmId | None = None,
        note: str = "",
        considered: tuple[Considered, ...] = (),
    ) -> None:
        if len(self._steps) == STEPS_KEPT:
            del self._steps[STEPS_KEPT // 2]
            self._left_out += 1
        self._steps.append((now_s, what, self.attempt, vm_id, note, considered))

    def story(self) -> Story:
        return Story(
            activation_id=self._id,
            action=f"{self._action.namespace}/{self._action.name}",
            durable=self.durable,
            attempts=self.attempt,
            ended=self.ended,
            steps=tuple(
                StoryStep(
                    after_s=at_s - self._arrived_s, what=what, attempt=attempt, vm_id=vm_id, note=note, considered=seen
                )
                for at_s, what, attempt, vm_id, note, seen in self._steps
            ),
            left_out=self._left_out,
        )
