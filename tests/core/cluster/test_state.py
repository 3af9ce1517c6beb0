"""The controller's brain, one story a test: which instructions follow which facts."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from fallow.core.cluster.events import (
    AcceptOutcome,
    ActivationMadeDurable,
    Conclude,
    DeclareLost,
    DiscardOutcome,
    Dispatch,
    FenceRaised,
    Forget,
    Refuse,
    Ticked,
    VmDisconnected,
)
from fallow.core.cluster.state import ClusterLimits
from fallow.core.lifecycle import VmState
from fallow.core.model import (
    ActivationId,
    RefusalReason,
    Resources,
    ReturnReason,
    VmId,
)
from fallow.core.policies.base import make_policy
from fallow.core.why.placement import Placement
from fallow.core.why.story import StepKind
from support.rig import C1, ECHO, H1, H2, OK, ONCE, R1, REPORT, Rig, cancel, concluded, dispatch, fence


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
    used = [i.vm_id for n in range(20) for i in rig.arrive(f"c{n}") if isinstance(i, Dispatch)]
    assert len(set(used[:7])) == 1, "0.9 of its eight cores fill up at home"
    assert set(used[7:12]) == {H1, H2} - set(used[:7]), "then 0.7 of the other's"
    assert used.count(H1) == used.count(H2) == 10


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
