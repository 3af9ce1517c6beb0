"""The controller's brain, one story a test: which instructions follow which facts."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from fallow.core.cluster.events import (
    AcceptOutcome,
    ActivationArrived,
    ActivationMadeDurable,
    AttemptCompleted,
    AttemptFinished,
    AttemptReturned,
    CancelAttempt,
    ClusterInstruction,
    Conclude,
    DeclareLost,
    DiscardOutcome,
    Dispatch,
    FenceRaised,
    FenceRefused,
    Forget,
    RaiseFence,
    Refuse,
    Ticked,
    VmDisconnected,
    VmJoined,
    VmReported,
)
from fallow.core.cluster.state import ClusterLimits, ClusterState
from fallow.core.eviction import make_strategy
from fallow.core.lifecycle import VmState
from fallow.core.model import (
    ActionSpec,
    Activation,
    ActivationId,
    Outcome,
    RefusalReason,
    Resources,
    ReturnReason,
    Status,
    VmId,
    VmInfo,
    VmKind,
    VmReport,
)
from fallow.core.policies.base import Policy, make_policy
from fallow.core.policies.mws import Mws
from fallow.core.why.placement import PassedOver, Placement
from fallow.core.why.story import CoresChange, StepKind

ECHO = ActionSpec(namespace="guest", name="echo", version="0.0.1", revision="1", kind="python:3", timeout_s=60.0)
ONCE = replace(ECHO, name="once", idempotent=False)
OK = Outcome(status=Status.SUCCESS, run_s=0.1, cpu_s=0.05)
REPORT = VmReport(capacity=Resources(cpu_cores=8, memory_mb=16384), used=Resources(cpu_cores=0.0, memory_mb=0.0))
C1, H1, H2, R1 = ActivationId("c1"), VmId("h1"), VmId("h2"), VmId("r1")
Out = list[ClusterInstruction]


class Rig:
    """A ClusterState with a clock of its own."""

    def __init__(
        self,
        *vms: str,
        limits: ClusterLimits | None = None,
        strategy: str = "prefer-regular",
        policy: Policy | None = None,
    ) -> None:
        self.state = ClusterState(
            policy=policy or Mws(), strategy=make_strategy(strategy, 30.0), limits=limits or ClusterLimits()
        )
        self.now_s = 1000.0
        for name in vms:
            assert self.join(name) == []

    def feed(self, event: object) -> Out:
        out = self.state.handle(event, self.now_s)  # type: ignore[arg-type]
        self.state.validate()
        return out

    def join(
        self, name: str, *holds: tuple[ActivationId, int], incarnation: str = "i", report: VmReport = REPORT
    ) -> Out:
        kind = {"h": VmKind.HARVEST, "r": VmKind.REGULAR, "s": VmKind.SPOT}[name[0]]
        vm = VmInfo(id=VmId(name), incarnation=incarnation, kind=kind, runtimes=("python:3",))
        return self.feed(VmJoined(vm=vm, report=report, holds=holds))

    def report(self, name: str, report: VmReport = REPORT) -> Out:
        return self.feed(VmReported(vm_id=VmId(name), report=report))

    def arrive(
        self, call_id: str = "c1", spec: ActionSpec = ECHO, *, durable: bool = False, attempts: int = 0, size: int = 0
    ) -> Out:
        call = Activation(
            id=ActivationId(call_id),
            action=spec,
            blocking=not durable,
            durable=durable,
            attempts=attempts,
            payload_bytes=size,
        )
        return self.feed(ActivationArrived(activation=call))

    def finish(self, vm: str, attempt: int = 1, outcome: Outcome = OK) -> Out:
        return self.feed(AttemptFinished(vm_id=VmId(vm), activation_id=C1, attempt=attempt, outcome=outcome))

    def complete(self, vm: str, attempt: int = 1) -> Out:
        return self.feed(AttemptCompleted(vm_id=VmId(vm), activation_id=C1, attempt=attempt))

    def give_back(self, vm: str, reason: ReturnReason, attempt: int = 1) -> Out:
        return self.feed(AttemptReturned(vm_id=VmId(vm), activation_id=C1, attempt=attempt, reason=reason))

    def raised(self, attempt: int) -> Out:
        return self.feed(FenceRaised(activation_id=C1, attempt=attempt))

    def refused(self, attempt: int, *, recorded: bool) -> Out:
        return self.feed(FenceRefused(activation_id=C1, attempt=attempt, recorded=recorded))

    def wait(self, seconds: float, *talking: str) -> Out:
        """Time passes with four ticks a second; the VMs named report every second."""
        out: Out = []
        for n in range(round(seconds * 4)):
            self.now_s += 0.25
            if n % 4 == 0:
                for name in talking:
                    out += self.report(name)
            out += self.feed(Ticked())
        return out

    def status(self, name: str) -> VmState:
        return next(vm.state for vm in self.state.vms(self.now_s) if vm.info.id == name)


def dispatch(vm: str, *, attempt: int = 1, seq: int = 1, call: str = "c1", long: bool = False) -> Dispatch:
    return Dispatch(
        vm_id=VmId(vm), activation_id=ActivationId(call), attempt=attempt, seq=seq, cap_cores=1.0, long=long
    )


def fence(expect: int, attempt: int) -> RaiseFence:
    return RaiseFence(activation_id=C1, expect=expect, attempt=attempt)


def cancel(vm: str, attempt: int = 1) -> CancelAttempt:
    return CancelAttempt(vm_id=VmId(vm), activation_id=C1, attempt=attempt)


def concluded(out: Out) -> Conclude:
    (only,) = [i for i in out if isinstance(i, Conclude)]
    assert only.status is Status.WHISK_ERROR
    return only


def test_a_blocking_call_starts_at_once_and_ends_once() -> None:
    rig = Rig("h1")
    assert rig.arrive() == [dispatch("h1")]
    assert rig.finish("h1") == [AcceptOutcome(vm_id=H1, activation_id=C1, attempt=1)]
    assert rig.state.in_flight == 1, "its logs are still being collected"
    assert rig.complete("h1") == []
    assert rig.state.in_flight == 0
    assert rig.finish("h1") == [DiscardOutcome(vm_id=H1, activation_id=C1, attempt=1)]
    assert rig.complete("h1") == []


def test_a_durable_call_starts_behind_its_fence_only() -> None:
    rig = Rig("h1")
    assert rig.arrive(durable=True, attempts=1) == [fence(1, 2)]
    assert rig.raised(1) == [], "the answer to another question"
    assert rig.raised(2) == [dispatch("h1", attempt=2)]


@pytest.mark.parametrize("recorded", [True, False])
def test_a_refused_fence_ends_the_call_here(recorded: bool) -> None:
    rig = Rig("h1")
    rig.arrive(durable=True)
    assert rig.refused(1, recorded=recorded) == [Forget(activation_id=C1, recorded=recorded)]
    assert rig.state.in_flight == 0


def test_a_claimed_call_that_may_not_run_again_is_concluded() -> None:
    rig = Rig("h1")
    only = concluded(rig.arrive(spec=ONCE, durable=True, attempts=1))
    assert only.fence == 1
    assert "outcome unknown" in only.error
    assert concluded(rig.arrive("c2", durable=True, attempts=3)).fence == 3


def test_bookings_count_until_a_report_has_seen_them() -> None:
    rig = Rig("h1")
    rig.arrive()
    rig.arrive("c2")
    (vm,) = rig.state.vms(rig.now_s)
    assert vm.booked == Resources(cpu_cores=2.0, memory_mb=512.0)
    rig.report("h1", replace(REPORT, seen=1, running=1))
    (vm,) = rig.state.vms(rig.now_s)
    assert (vm.booked, vm.in_flight) == (Resources(cpu_cores=1.0, memory_mb=256.0), 2)
    rig.finish("h1")
    rig.complete("h1")
    (vm,) = rig.state.vms(rig.now_s)
    assert (vm.booked, vm.in_flight) == (Resources(cpu_cores=1.0, memory_mb=256.0), 1), "c1 was in the report already"


def test_a_burst_spreads_over_vms_before_any_report() -> None:
    rig = Rig("h1", "h2")
    used = [i.vm_id for n in range(10) for i in rig.arrive(f"c{n}") if isinstance(i, Dispatch)]
    assert used.count(H1) == used.count(H2) == 5


def test_a_returned_dispatch_keeps_its_number_and_goes_elsewhere() -> None:
    rig = Rig("h1", "h2")
    (first,) = rig.arrive()
    assert isinstance(first, Dispatch)
    other = H2 if first.vm_id == H1 else H1
    assert rig.give_back(first.vm_id, ReturnReason.WAITED) == [dispatch(other)]
    assert rig.give_back(first.vm_id, ReturnReason.WAITED) == [], "a stale return"
    assert rig.state.counters()["replaced"] == 1


def test_a_full_vm_gets_nothing_before_its_next_report() -> None:
    rig = Rig("h1")
    rig.arrive()
    assert rig.give_back("h1", ReturnReason.FULL) == []
    assert rig.arrive("c2") == []
    assert rig.state.waiting == 2
    assert rig.report("h1") == [dispatch("h1", seq=2), dispatch("h1", seq=3, call="c2")], "placed before: goes first"


def test_a_notice_drains_and_its_withdrawal_brings_back() -> None:
    rig = Rig("h1", "r1")
    assert rig.arrive() == [dispatch("h1")]
    assert rig.report("h1", replace(REPORT, notice_left_s=30.0, seen=1)) == []
    assert rig.status("h1") is VmState.DRAINING
    assert rig.arrive("c2") == [dispatch("r1", call="c2")]
    rig.now_s += 1.0
    assert rig.report("h1", replace(REPORT, notice_left_s=28.7, seen=1)) == [], "as announced, but for the way"
    assert rig.report("h1", replace(REPORT, notice_left_s=60.0, seen=1)) == []
    assert rig.report("h1", replace(REPORT, seen=1)) == []
    assert rig.report("h1", replace(REPORT, seen=1)) == []
    assert rig.status("h1") is VmState.UP
    assert rig.arrive("c3") == [dispatch("h1", seq=2, call="c3")]
    story = rig.state.why(C1)
    assert story is not None
    assert [step.note for step in story.steps if step.what is StepKind.NOTICE] == [
        "h1 is to be evicted in 30.0 s",
        "the eviction of h1 was moved: it is due in 60.0 s",
        "the eviction of h1 was called off",
    ]


def test_what_runs_at_the_eviction_starts_elsewhere_at_once() -> None:
    rig = Rig("h1", "r1")
    rig.arrive()
    rig.arrive("c2", replace(ONCE, app="x"))
    draining = replace(REPORT, notice_left_s=2.0, seen=2)
    rig.report("h1", draining)
    assert rig.wait(1.75, "r1") == []
    out = rig.wait(0.5, "r1")
    end = concluded(out)
    assert (end.activation_id, end.evicted) == ("c2", True)
    assert "evicted" in end.error
    assert "not idempotent" in end.error
    assert [i for i in out if not isinstance(i, Conclude)] == [
        cancel("h1"),
        fence(0, 2),
        replace(cancel("h1"), activation_id=ActivationId("c2")),
    ]
    assert rig.raised(2) == [dispatch("r1", attempt=2)]
    assert rig.finish("h1") == [DiscardOutcome(vm_id=H1, activation_id=C1, attempt=1)]
    assert rig.finish("r1", 2) == [AcceptOutcome(vm_id=R1, activation_id=C1, attempt=2)]
    assert rig.state.counters()["evictions_with_loss"] == 1


def test_an_outcome_cut_off_by_the_eviction_is_no_outcome() -> None:
    rig = Rig("h1", "r1")
    rig.arrive()
    discard = DiscardOutcome(vm_id=H1, activation_id=C1, attempt=1)
    assert rig.finish("h1", outcome=replace(OK, evicted=True)) == [discard, fence(0, 2)]


def test_a_silent_vm_is_lost_after_five_seconds_and_off_the_ring_after_ten() -> None:
    rig = Rig("h1", "r1")
    rig.arrive()
    assert rig.wait(4.75, "r1") == []
    assert rig.wait(0.5, "r1") == [DeclareLost(vm_id=H1), fence(0, 2)]
    assert rig.status("h1") is VmState.LOST
    assert rig.raised(2) == [dispatch("r1", attempt=2)]
    rig.wait(10, "r1")
    assert rig.join("h1", (C1, 1)) == [cancel("h1")], "it was stopped and goes on: stale attempts are cancelled"
    assert rig.finish("h1") == [DiscardOutcome(vm_id=H1, activation_id=C1, attempt=1)]
    assert rig.arrive("c2") == [dispatch("h1", seq=2, call="c2")]


def test_attempts_are_used_up() -> None:
    rig = Rig("h1", limits=ClusterLimits(max_attempts=1))
    rig.arrive()
    rig.feed(VmDisconnected(vm_id=H1))
    out = rig.wait(2.5)
    assert out[0] == DeclareLost(vm_id=H1)
    assert "last of 1 attempts" in concluded(out).error


def test_an_answered_call_is_left_alone_when_its_vm_is_lost() -> None:
    rig = Rig("h1")
    rig.arrive()
    rig.finish("h1")
    rig.feed(VmDisconnected(vm_id=H1))
    assert rig.wait(2.5) == [DeclareLost(vm_id=H1)]
    assert rig.state.in_flight == 0


def test_a_link_that_comes_back_keeps_what_its_vm_holds() -> None:
    rig = Rig("h1")
    rig.arrive()
    rig.feed(VmDisconnected(vm_id=H1))
    assert rig.arrive("c2") == [], "not to a VM without a link"
    assert rig.wait(1.0) == []
    report = replace(REPORT, seen=1, running=1)
    assert rig.join("h1", (C1, 1), report=report) == [dispatch("h1", seq=2, call="c2")]
    assert rig.finish("h1") == [AcceptOutcome(vm_id=H1, activation_id=C1, attempt=1)]


def test_a_dispatch_that_never_arrived_is_no_attempt_but_one_that_vanished_is() -> None:
    rig = Rig("h1")
    rig.arrive()
    rig.feed(VmDisconnected(vm_id=H1))
    assert rig.join("h1") == [dispatch("h1", seq=2)]
    rig.feed(VmDisconnected(vm_id=H1))
    assert rig.join("h1", report=replace(REPORT, seen=2)) == [cancel("h1"), fence(0, 2)]


def test_an_answer_not_yet_recorded_is_not_cancelled() -> None:
    rig = Rig("h1")
    rig.arrive()
    rig.finish("h1")
    rig.complete("h1")
    rig.feed(VmDisconnected(vm_id=H1))
    assert rig.join("h1", (C1, 1), report=replace(REPORT, seen=1)) == []


def test_a_cancel_that_was_lost_with_the_link_is_sent_again() -> None:
    rig = Rig("h1", "r1")
    rig.arrive()
    rig.report("h1", replace(REPORT, notice_left_s=0.0, seen=1))
    rig.wait(0.5, "r1")
    rig.raised(2)
    rig.finish("r1", 2)
    rig.complete("r1", 2)
    rig.feed(VmDisconnected(vm_id=H1))
    assert rig.join("h1", (C1, 1), report=replace(REPORT, seen=1)) == [cancel("h1")]


def test_a_new_process_under_the_old_name_has_lost_everything() -> None:
    rig = Rig("h1")
    rig.arrive()
    out = rig.join("h1", incarnation="other")
    assert out == [DeclareLost(vm_id=H1, keep_link=True), fence(0, 2)]
    assert rig.raised(2) == [dispatch("h1", attempt=2, seq=1)]


def test_a_stalled_controller_blames_no_vm() -> None:
    rig = Rig("h1")
    rig.wait(1, "h1")
    rig.now_s += 20.0
    assert rig.feed(Ticked()) == []
    assert rig.status("h1") is VmState.UP


def test_an_attempt_that_exceeds_its_own_deadline_is_cut_off() -> None:
    limits = ClusterLimits(max_queue_wait_s=5, start_limit_s=5, deadline_margin_s=5)
    rig = Rig("h1", limits=limits)
    rig.arrive(spec=replace(ECHO, timeout_s=10.0))
    assert rig.wait(34.5, "h1") == []
    assert rig.wait(1.0, "h1") == [cancel("h1"), fence(0, 2)]


def test_an_attempt_that_ends_without_a_result_was_cut_off() -> None:
    rig = Rig("h1")
    rig.arrive()
    assert rig.complete("h1") == [fence(0, 2)]


def test_made_durable_while_it_runs() -> None:
    rig = Rig("h1", "r1")
    rig.arrive()
    assert rig.state.running_attempt(C1) == 1
    assert rig.feed(ActivationMadeDurable(activation_id=C1, running_attempt=1)) == []
    assert rig.arrive(durable=True) == [], "read back from the stream"
    assert rig.finish("h1", outcome=replace(OK, evicted=True))[1:] == [fence(1, 2)]


def test_made_durable_while_it_waits_needs_the_fence_for_its_first_start() -> None:
    rig = Rig()
    assert rig.arrive() == []
    assert rig.state.running_attempt(C1) == 0
    assert rig.feed(ActivationMadeDurable(activation_id=C1, running_attempt=0)) == [fence(0, 1)]
    assert rig.state.waiting == 0
    assert rig.raised(1) == []
    assert rig.join("h1") == [dispatch("h1")]


def test_made_durable_while_the_fence_is_asked_asks_again_from_what_the_entry_set() -> None:
    rig = Rig("h1", "r1")
    rig.arrive()
    rig.finish("h1", outcome=replace(OK, evicted=True))
    rig.feed(ActivationMadeDurable(activation_id=C1, running_attempt=1))
    assert rig.refused(2, recorded=False) == [fence(1, 2)]
    assert rig.refused(2, recorded=False) == [Forget(activation_id=C1, recorded=False)]


def test_no_vm_at_all_is_refused_after_a_while_but_never_what_was_accepted() -> None:
    rig = Rig()
    rig.feed(Ticked())
    rig.arrive()
    rig.arrive("c2", durable=True)
    rig.feed(FenceRaised(activation_id=ActivationId("c2"), attempt=1))
    assert rig.wait(4.5) == []
    assert rig.wait(1.0) == [Refuse(activation_id=C1, reason=RefusalReason.NO_VM, retry_after_s=5.0)]
    assert rig.wait(60.0) == []
    assert rig.join("h1") == [dispatch("h1", call="c2")]


def test_full_vms_let_wait_and_then_refuse() -> None:
    rig = Rig("h1", limits=ClusterLimits(waiting_calls=2, waiting_bytes=100, max_wait_s=10.0))
    full = replace(REPORT, full=True)
    rig.report("h1", full)
    assert rig.arrive() == rig.arrive("c2", size=60) == []
    overloaded = Refuse(activation_id=ActivationId("c3"), reason=RefusalReason.OVERLOADED, retry_after_s=1.0)
    assert rig.arrive("c3") == [overloaded]
    for _ in range(10):
        rig.report("h1", full)
        assert rig.feed(Ticked()) == []
        rig.now_s += 1.0
    rig.report("h1", full)
    out = rig.feed(Ticked()) or rig.feed(Ticked())
    assert {i.reason for i in out if isinstance(i, Refuse)} == {RefusalReason.WAITED}
    assert rig.state.waiting == 0


def test_the_waiting_room_is_bounded_in_bytes() -> None:
    rig = Rig("h1", limits=ClusterLimits(waiting_bytes=100))
    rig.report("h1", replace(REPORT, full=True))
    assert rig.arrive(size=60) == []
    assert [type(i) for i in rig.arrive("c2", size=60)] == [Refuse]


def test_a_runtime_that_nobody_offers() -> None:
    rig = Rig("h1")
    rig.arrive(spec=replace(ECHO, kind="ruby:9"))
    out = rig.wait(6.0, "h1")
    assert out == [Refuse(activation_id=C1, reason=RefusalReason.NO_RUNTIME, retry_after_s=5.0)]


def test_an_action_larger_than_every_vm() -> None:
    rig = Rig("h1")
    large = replace(ECHO, memory_mb=16385)
    assert rig.state.too_large(16384) is None
    assert rig.state.too_large(16385) == 16384
    assert rig.arrive(spec=large) == []
    assert rig.wait(6.0, "h1") == [Refuse(activation_id=C1, reason=RefusalReason.TOO_LARGE, retry_after_s=5.0)]
    rig.join("r1", report=replace(REPORT, capacity=Resources(cpu_cores=1, memory_mb=32768)))
    assert rig.state.too_large(16385) is None
    full = Resources(cpu_cores=1.0, memory_mb=32768)
    rig.report("r1", replace(REPORT, capacity=full, used=full))
    assert rig.arrive("c2", large) == [dispatch("r1", call="c2")], "busy, but the only one that holds it"
    rig.report("r1", replace(REPORT, capacity=full, used=full, seen=1, full=True))
    assert rig.arrive("c3", large) == [], "it waits rather than go to a VM that cannot hold it"


def test_learned_long_calls_go_to_the_regular_vm() -> None:
    rig = Rig("h1", "r1")
    assert rig.arrive() == [dispatch("h1")]
    rig.finish("h1", outcome=replace(OK, run_s=45.0))
    rig.complete("h1")
    assert rig.arrive("c2") == [dispatch("r1", call="c2", long=True)]
    counters = rig.state.counters()
    assert (counters["placed_short_harvest"], counters["placed_long_regular"]) == (1, 1)


def learn_long(rig: Rig) -> None:
    """One call of ECHO's app runs 45 s on h1, and is over."""
    assert rig.arrive() == [dispatch("h1")]
    rig.finish("h1", outcome=replace(OK, run_s=45.0))
    rig.complete("h1")


def test_no_failures_waits_for_a_regular_vm_rather_than_use_another() -> None:
    rig = Rig("h1", "s1", strategy="no-failures")
    learn_long(rig)
    assert rig.arrive("c2") == []
    assert rig.arrive("c3", replace(ECHO, name="other")) == [dispatch("h1", call="c3", seq=2)], "short ones go on"
    assert rig.join("r1") == [dispatch("r1", call="c2", long=True)]


def test_no_failures_says_that_it_forbids_every_vm_that_is_there() -> None:
    rig = Rig("h1", "s1", strategy="no-failures")
    assert rig.arrive(spec=replace(ECHO, long=True)) == []
    story = rig.state.why(C1)
    assert story is not None
    assert story.steps[-1].note == RefusalReason.FORBIDDEN.value
    out = rig.wait(6.0, "h1", "s1")
    assert out == [Refuse(activation_id=C1, reason=RefusalReason.FORBIDDEN, retry_after_s=5.0)]


def test_no_failures_queues_at_a_busy_regular_vm() -> None:
    rig = Rig("h1", strategy="no-failures")
    learn_long(rig)
    busy = Resources(cpu_cores=8.0, memory_mb=16000.0)
    rig.join("r1", report=replace(REPORT, used=busy))
    assert rig.arrive("c2") == [dispatch("r1", call="c2", long=True)]


@pytest.mark.parametrize("strategy", ["no-failures", "bounded:99"])
def test_what_became_long_while_it_ran_is_placed_again_on_a_regular_vm(strategy: str) -> None:
    rig = Rig("h1", strategy=strategy)
    rig.arrive("c2")
    rig.arrive("c1")
    rig.finish("h1", outcome=replace(OK, run_s=45.0))
    rig.complete("h1")
    rig.join("h2")
    rig.join("r1")
    rig.report("h1", replace(REPORT, notice_left_s=0.5, seen=2))
    cut = rig.wait(1.0, "h2", "r1")
    assert [i for i in cut if isinstance(i, RaiseFence)] == [
        RaiseFence(activation_id=ActivationId("c2"), expect=0, attempt=2)
    ]
    again = rig.feed(FenceRaised(activation_id=ActivationId("c2"), attempt=2))
    assert again == [dispatch("r1", call="c2", attempt=2, long=True)]


def test_what_an_eviction_cuts_off_after_the_grace_period_is_learned_long() -> None:
    rig = Rig("h1", "h2", strategy="no-failures")
    (first,) = rig.arrive()
    assert isinstance(first, Dispatch)
    mine, other = first.vm_id, next(vm for vm in ("h1", "h2") if vm != first.vm_id)
    rig.wait(2.0, mine, other)
    rig.report(mine, replace(REPORT, notice_left_s=29.0, seen=1))
    for _ in range(29):
        rig.report(mine, replace(REPORT, notice_left_s=max(0.0, 1029.0 + 2.0 - rig.now_s), seen=1))
        rig.wait(1.0, other)
    rig.wait(1.0, other)
    assert rig.raised(2) == [], "31 s were not enough for it: only a regular VM will do"
    assert rig.join("r1") == [dispatch("r1", attempt=2, long=True)]


def test_out_of_the_waiting_room_a_call_goes_by_what_is_known_then() -> None:
    rig = Rig("h1", strategy="no-failures")
    rig.arrive()
    rig.report("h1", replace(REPORT, full=True, seen=1))
    assert rig.arrive("c2") == [], "short when it came, but h1 is full"
    rig.finish("h1", outcome=replace(OK, run_s=45.0))
    rig.complete("h1")
    assert rig.report("h1", replace(REPORT, seen=1)) == [], "h1 has room, but not for it"
    assert rig.join("r1") == [dispatch("r1", call="c2", long=True)]


def test_live_and_let_die_uses_a_regular_vm_only_where_no_other_can_take_the_call() -> None:
    rig = Rig("h1", "r1", strategy="live-and-let-die")
    learn_long(rig)
    busy = Resources(cpu_cores=8.0, memory_mb=16000.0)
    rig.report("h1", replace(REPORT, used=busy, seen=1))
    assert rig.arrive("c2") == [dispatch("h1", call="c2", seq=2, long=True)], "busy, and good enough"
    rig.report("h1", replace(REPORT, notice_left_s=20.0, seen=2))
    assert rig.arrive("c3") == [dispatch("r1", call="c3", long=True)]
    counters = rig.state.counters()
    assert (counters["placed_long_harvest"], counters["placed_long_regular"]) == (1, 1)


def evicted_counts(rig: Rig) -> dict[str, int]:
    counters = rig.state.counters()
    return {name: n for name, n in counters.items() if name.startswith("evicted_")}


def evict(rig: Rig, vm: str, *others: str, seen: int) -> None:
    rig.report(vm, replace(REPORT, notice_left_s=0.5, seen=seen))
    rig.wait(1.0, *others)


@pytest.mark.parametrize(
    ("status", "ending"), [(Status.SUCCESS, "evicted_succeeded"), (Status.APPLICATION_ERROR, "evicted_errored")]
)
def test_a_call_that_evictions_cut_off_twice_counts_once(status: Status, ending: str) -> None:
    rig = Rig("h1")
    rig.arrive()
    rig.join("h2")
    evict(rig, "h1", "h2", seen=1)
    assert rig.raised(2) == [dispatch("h2", attempt=2)]
    rig.join("r1")
    evict(rig, "h2", "r1", seen=1)
    assert rig.raised(3) == [dispatch("r1", attempt=3)]
    assert evicted_counts(rig) == {"evicted_calls": 1, "evicted_unforeseen": 1}
    rig.finish("r1", 3, replace(OK, status=status))
    assert evicted_counts(rig) == {"evicted_calls": 1, "evicted_unforeseen": 1, ending: 1}


def test_calls_that_evictions_end_for_good_are_counted_by_reason() -> None:
    rig = Rig("h1", limits=ClusterLimits(max_attempts=1))
    rig.arrive()
    rig.arrive("c2", replace(ONCE, long=True))
    evict(rig, "h1", seen=2)
    assert evicted_counts(rig) == {
        "evicted_calls": 2, "evicted_unforeseen": 1, "evicted_used_up": 1, "evicted_not_idempotent": 1,
    }  # fmt: skip


def test_a_vm_that_is_lost_without_a_notice_is_no_eviction() -> None:
    rig = Rig("h1")
    rig.arrive(spec=ONCE)
    rig.wait(10.0)
    assert rig.state.counters()["cut_off"] == 1
    assert evicted_counts(rig) == {}


def test_around_a_policy_that_is_blind_to_notices() -> None:
    rig = Rig("h1", "h2", policy=make_policy("hash", random.Random(0)))
    (first,) = rig.arrive()
    assert isinstance(first, Dispatch)
    home, other = first.vm_id, VmId("h2" if first.vm_id == "h1" else "h1")
    rig.report(home, replace(REPORT, notice_left_s=20.0, seen=1))
    (second,) = rig.arrive("c2")
    assert isinstance(second, Dispatch)
    assert second.vm_id == other
    story = rig.state.why(ActivationId("c2"))
    assert story is not None
    step = story.steps[0]
    assert step.note == f"least loaded that may take it: {home} may not"
    assert isinstance(step.detail, Placement)
    assert [(one.vm_id, one.fits) for one in step.detail.considered] == [(home, True), (other, True)]
    rig.join("r1")
    (third,) = rig.arrive("c3")
    assert isinstance(third, Dispatch)
    assert third.vm_id == other, "it has room there: no reason to take a regular VM for it"
    rig.report(other, replace(REPORT, used=REPORT.capacity, seen=2))
    (fourth,) = rig.arrive("c4")
    assert isinstance(fourth, Dispatch)
    assert fourth.vm_id == R1


def test_the_story_of_a_moved_call() -> None:
    rig = Rig("h1", "r1")
    rig.arrive()
    rig.report("h1", replace(REPORT, notice_left_s=1.0, seen=1))
    rig.wait(1.5, "r1")
    rig.raised(2)
    rig.finish("r1", 2)
    rig.complete("r1", 2)
    story = rig.state.why(C1)
    assert story is not None
    assert [(step.what, step.attempt, step.vm_id) for step in story.steps] == [
        (StepKind.PLACED, 1, H1),
        (StepKind.NOTICE, 1, H1),
        (StepKind.CUT_OFF, 1, H1),
        (StepKind.FENCE_ASKED, 2, None),
        (StepKind.FENCE_RAISED, 2, None),
        (StepKind.PLACED, 2, R1),
        (StepKind.FINISHED, 2, R1),
    ]
    assert story.ended
    placement = story.steps[0].detail
    assert isinstance(placement, Placement)
    assert placement.considered[0].vm_id == H1
    assert rig.state.why(ActivationId("other")) is None


def test_room_for_durable_calls() -> None:
    rig = Rig(limits=ClusterLimits(waiting_calls=10))
    assert rig.state.room_for_durable() == 0, "others may have a VM"
    rig.join("h1")
    assert rig.state.room_for_durable() == 5
    rig.arrive(durable=True)
    assert rig.state.room_for_durable() == 4
    rig.raised(1)
    assert rig.state.room_for_durable() == 5


def test_a_lost_vm_is_forgotten_in_the_end() -> None:
    rig = Rig("h1")
    rig.feed(VmDisconnected(vm_id=H1))
    rig.wait(100.0)
    assert rig.status("h1") is VmState.LOST
    rig.wait(30.0)
    assert rig.state.vms(rig.now_s) == []
    assert rig.join("h1", (C1, 1)) == [cancel("h1")]


def placements(rig: Rig, call_id: ActivationId = C1) -> list[Placement]:
    story = rig.state.why(call_id)
    assert story is not None
    return [step.detail for step in story.steps if isinstance(step.detail, Placement)]


def test_a_placement_tells_what_it_passed_over() -> None:
    rig = Rig("h1", "h2", "r1")
    rig.arrive("c0")
    assert placements(rig, ActivationId("c0"))[0].passed_over == ()
    rig.report("h1", replace(REPORT, notice_left_s=30.0))
    rig.report("h2", replace(REPORT, full=True))
    rig.arrive()
    (placement,) = placements(rig)
    assert [(one.vm_id, one.why) for one in placement.passed_over] == [
        (H1, "is draining: its eviction is announced"),
        (H2, "has a full queue"),
    ]
    assert (placement.info.id, placement.asked, placement.long) == (R1, (VmKind.REGULAR,), False)
    rig.report("h1")
    rig.report("h2", replace(REPORT, healthy=False, health_note="records wait for the store"))
    rig.arrive("c2", replace(ECHO, kind="nodejs:20"))
    story = rig.state.why(ActivationId("c2"))
    assert story is not None
    assert [(one.vm_id, one.why) for one in story.steps[0].detail or () if isinstance(one, PassedOver)] == [
        (H2, "is not healthy: records wait for the store"),
        (H1, "does not offer nodejs:20"),
        (R1, "does not offer nodejs:20"),
    ]


def test_a_vm_with_too_little_memory_is_told_as_passed_over() -> None:
    rig = Rig("h1", "r1")
    small = replace(REPORT, capacity=Resources(cpu_cores=8, memory_mb=512))
    large = replace(ECHO, name="large", memory_mb=1024)
    rig.report("h1", small)
    rig.arrive("c1", large)
    (placement,) = placements(rig)
    assert [(one.vm_id, one.why) for one in placement.passed_over] == [(H1, "has 512 MB, less than the action's limit")]
    rig.arrive("c2")
    assert placements(rig, ActivationId("c2"))[0].passed_over == ()
    rig.report("h1")
    rig.arrive("c3", large)
    assert placements(rig, ActivationId("c3"))[0].passed_over == ()


def test_a_vm_that_gave_the_call_back_is_told_as_hidden() -> None:
    rig = Rig("h1", "r1")
    rig.arrive()
    rig.give_back("h1", ReturnReason.WAITED)
    _, second = placements(rig)
    assert [(one.vm_id, one.why) for one in second.passed_over] == [
        (H1, "gave this call back and has not reported since")
    ]
    assert second.asked == (VmKind.HARVEST, VmKind.REGULAR)


def test_a_shrink_is_in_the_story_of_what_runs_there() -> None:
    rig = Rig("h1")
    rig.arrive()
    rig.now_s += 2.0
    rig.report("h1", replace(REPORT, capacity=Resources(cpu_cores=2, memory_mb=16384), seen=1))
    rig.report("h1", replace(REPORT, capacity=Resources(cpu_cores=2, memory_mb=16384), seen=1))
    story = rig.state.why(C1)
    assert story is not None
    assert [(step.after_s, step.detail) for step in story.steps if step.what is StepKind.CORES] == [
        (2.0, CoresChange(before=8, after=2))
    ]


def test_what_a_cut_off_attempt_had_used_comes_with_the_reports() -> None:
    rig = Rig("h1", "r1")
    rig.arrive()
    rig.report("h1", replace(REPORT, notice_left_s=1.0, seen=1, used_by=((C1, 1, 0.25),)))
    rig.wait(1.5, "r1")
    story = rig.state.why(C1)
    assert story is not None
    assert [(use.attempt, use.vm_id, use.cpu_s) for use in story.cut_off_use] == [(1, H1, 0.25)]
    rig.feed(AttemptCompleted(vm_id=H1, activation_id=C1, attempt=1, cpu_s=0.5))
    story = rig.state.why(C1)
    assert story is not None
    assert [use.cpu_s for use in story.cut_off_use] == [0.5]
