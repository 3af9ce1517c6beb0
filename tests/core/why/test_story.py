"""Stories: where the time went, by cause, and what the attempts cost."""

from __future__ import annotations

import pytest

from fallow.core.attempt_waits import AttemptWaits
from fallow.core.eviction import KindChoice
from fallow.core.model import ActionSpec, Activation, ActivationId, Decision, Outcome, Status, VmId, VmInfo, VmKind
from fallow.core.why.causes import Cause, Spent
from fallow.core.why.cost import NEVER_TOLD, NOT_MEASURED, RUNS, AttemptCost, attempt_costs
from fallow.core.why.placement import Placement
from fallow.core.why.story import STEPS_KEPT, StepKind, StoryLog

SPEC = ActionSpec(namespace="guest", name="echo", version="0.0.1", revision="1", kind="python:3")
H1, R1 = VmId("h1"), VmId("r1")
VMS = {
    H1: VmInfo(id=H1, incarnation="1", kind=VmKind.HARVEST, price=0.25, speed=0.5),
    R1: VmInfo(id=R1, incarnation="1", kind=VmKind.REGULAR),
}
WAITS = AttemptWaits(cpu_s=1.0, memory_s=2.0, starts_s=3.0, shrink_s=4.0, start_s=5.0)
OUTCOME = Outcome(status=Status.SUCCESS, wait_s=16.0, init_s=0.5, run_s=10.0, cpu_s=8.0, waits=WAITS)


def log_of(*, durable: bool = False) -> StoryLog:
    call = Activation(id=ActivationId("c1"), action=SPEC, blocking=not durable, durable=durable)
    log = StoryLog(call, 100.0)
    log.attempt = 1
    return log


def placed(log: StoryLog, now_s: float, vm_id: VmId = H1) -> None:
    placement = Placement(
        info=VMS[vm_id],
        cores=4.0,
        decision=Decision(vm_id=vm_id, fits=True, reason="fits"),
        reason="fits",
        considered=(),
        choices=(KindChoice(kind=VMS[vm_id].kind, only_if_fits=False),),
        asked=(VMS[vm_id].kind,),
        long=False,
    )
    log.add(now_s, StepKind.PLACED, vm_id, "fits", placement)


def test_every_second_has_its_cause() -> None:
    log = log_of(durable=True)
    log.add(100.0, StepKind.FENCE_ASKED)
    log.add(101.0, StepKind.FENCE_RAISED)
    log.add(101.0, StepKind.WAITED)
    placed(log, 103.0)
    log.add(104.0, StepKind.NOTICE, H1, "h1 is to be evicted in 3.0 s")
    log.add(107.0, StepKind.RETURNED, H1, "draining", AttemptWaits(memory_s=3.5))
    placed(log, 107.0)
    log.add(117.0, StepKind.CUT_OFF, H1, "h1 was evicted while it ran")
    log.attempt = 2
    log.add(117.0, StepKind.FENCE_ASKED)
    log.add(117.5, StepKind.FENCE_RAISED)
    placed(log, 117.5, R1)
    log.add(145.0, StepKind.FINISHED, R1, "success", OUTCOME)
    log.add(150.0, StepKind.DISCARDED, H1, "of attempt 1")
    story = log.story(now_s=1000.0)
    assert story.spent.by_cause == {
        Cause.STORE: 1.5,
        Cause.ROOM: 2.0,
        Cause.VM_MEMORY: 3.5 + 2.0,
        Cause.WAY: 0.5 + 1.0,
        Cause.CUT_OFF: 10.0,
        Cause.VM_CPU: 1.0,
        Cause.VM_STARTS: 3.0,
        Cause.SHRINK: 4.0,
        Cause.START: 5.0,
        Cause.VM_OTHER: 1.0,
        Cause.INIT: 0.5,
        Cause.RUN: 10.0,
    }
    assert story.spent.total_s == 45.0
    assert (story.ended, story.spent.disagreed_s) == (True, 0.0)


def test_a_call_that_is_not_over_is_summed_up_to_now() -> None:
    log = log_of()
    log.add(100.0, StepKind.WAITED)
    assert log.story(now_s=103.0).spent.by_cause == {Cause.ROOM: 3.0}
    placed(log, 104.0)
    assert log.story(now_s=110.0).spent.by_cause == {Cause.ROOM: 4.0, Cause.ON_VM: 6.0}
    assert log.story().spent.by_cause == {Cause.ROOM: 4.0}
    assert log.story().ended is False


def test_a_vm_that_does_not_tell_leaves_its_wait_untold() -> None:
    log = log_of()
    placed(log, 100.0)
    log.add(104.0, StepKind.FINISHED, H1, "success", Outcome(status=Status.SUCCESS, wait_s=1.0, run_s=2.5))
    assert log.story().spent.by_cause == {Cause.VM_OTHER: 1.0, Cause.RUN: 2.5, Cause.WAY: 0.5}


def test_clocks_that_disagree_are_noted_and_the_sum_stands() -> None:
    spent = Spent()
    spent.add_on_vm(5.0, Outcome(status=Status.SUCCESS, wait_s=2.0, run_s=8.0), None)
    assert spent.by_cause == {Cause.VM_OTHER: 1.0, Cause.RUN: 4.0}
    assert spent.disagreed_s == 5.0


def test_steps_left_out_of_the_middle_are_in_the_sums() -> None:
    log = log_of()
    for n in range(STEPS_KEPT):
        placed(log, 100.0 + n)
        log.add(100.5 + n, StepKind.RETURNED, H1, "full", AttemptWaits(cpu_s=0.25))
        log.add(100.5 + n, StepKind.WAITED)
    story = log.story(now_s=100.0 + STEPS_KEPT)
    assert (len(story.steps), story.left_out) == (STEPS_KEPT, 2 * STEPS_KEPT)
    assert story.spent.by_cause == {
        Cause.VM_CPU: 0.25 * STEPS_KEPT,
        Cause.WAY: 0.25 * STEPS_KEPT,
        Cause.ROOM: 0.5 * STEPS_KEPT,
    }


def cost(attempt: int, vm_id: VmId, cpu_s: float | None, *, wasted: bool = False, note: str = "") -> AttemptCost:
    info = VMS[vm_id]
    return AttemptCost(
        attempt=attempt,
        vm_id=vm_id,
        kind=info.kind,
        price=info.price,
        speed=info.speed,
        cpu_s=cpu_s,
        wasted=wasted,
        note=note,
    )


def test_what_attempts_cost() -> None:
    log = log_of()
    placed(log, 100.0)
    log.used(102.0, 1, H1, 1.5)
    log.used(103.0, 1, H1, 2.5)
    log.add(103.5, StepKind.CUT_OFF, H1, "evicted")
    log.attempt = 2
    placed(log, 104.0)
    log.add(105.0, StepKind.RETURNED, H1, "full")
    placed(log, 105.0, R1)
    assert attempt_costs(log.story()) == (
        cost(1, H1, 2.5, wasted=True, note="at least: as told 0.5 s before it was cut off"),
        cost(2, R1, None, note=RUNS),
    )
    log.add(120.0, StepKind.FINISHED, R1, "success", OUTCOME)
    wasted, useful = attempt_costs(log.story())
    assert useful == cost(2, R1, 8.0)
    assert (wasted.cost, wasted.regular_cost) == (2.5 * 0.25, 2.5 * 0.5)
    assert (useful.cost, useful.regular_cost) == (8.0, 8.0)


def test_an_attempt_whose_placement_was_not_kept_is_not_priced_as_another() -> None:
    log = log_of()
    placed(log, 100.0)  # what comes between, its end and the placement on r1, is among the steps left out
    log.add(120.0, StepKind.FINISHED, R1, "success", OUTCOME)
    assert attempt_costs(log.story()) == ()


def test_a_cancelled_attempt_tells_what_it_had_used() -> None:
    log = log_of()
    placed(log, 100.0)
    log.add(160.0, StepKind.CUT_OFF, H1, "no answer")
    log.used(160.1, 1, H1, 30.0)
    assert attempt_costs(log.story()) == (cost(1, H1, 30.0, wasted=True, note="as told when it was cancelled"),)


@pytest.mark.parametrize(
    ("what", "detail", "note"),
    [
        (StepKind.CUT_OFF, None, NEVER_TOLD),
        (StepKind.FINISHED, Outcome(status=Status.SUCCESS, run_s=1.0, cpu_s=None), NOT_MEASURED),
    ],
)
def test_what_was_not_measured_costs_nothing_known(what: StepKind, detail: Outcome | None, note: str) -> None:
    log = log_of()
    placed(log, 100.0)
    log.add(101.0, what, H1, "", detail)
    (only,) = attempt_costs(log.story())
    assert (only.cpu_s, only.cost, only.regular_cost, only.note) == (None, None, None, note)
