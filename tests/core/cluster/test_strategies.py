"""The brain under each eviction strategy: where long calls go, and what evictions cost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fallow.core.cluster.events import (
    Dispatch,
    FenceRaised,
    RaiseFence,
    Refuse,
)
from fallow.core.cluster.state import ClusterLimits
from fallow.core.model import (
    ActivationId,
    RefusalReason,
    Resources,
    Status,
)
from support.rig import C1, ECHO, OK, ONCE, REPORT, Rig, dispatch


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
