"""JSQ: by equality, on clusters worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fallow.core.model import ActionKey, Considered, Decision, Resources, VmId, VmKind
from fallow.core.policies.base import CONSIDERED_KEPT, Sample
from fallow.core.policies.jsq import BATCH, CpuEstimate, Jsq
from support.policies import FakeCluster, make_call, make_vm

HARVEST, REGULAR = VmKind.HARVEST, VmKind.REGULAR
F = make_call().action.key


def feed(policy: Jsq, *cpu_cores: float, action: ActionKey = F) -> None:
    for cores in cpu_cores:
        policy.completed(action, Sample(cpu_cores=cores, exec_s=1.0, total_s=1.0), 0.0)


def seen(name: str, score: float, fits: bool, note: str) -> Considered:
    return Considered(vm_id=VmId(name), kind=HARVEST, score=score, fits=fits, note=note)


def test_the_worked_example_of_the_docstring() -> None:
    # Named so that they stand on the ring in this order.
    cluster = FakeCluster(
        [
            make_vm("h1", cores=4.0, booked=3.0, memory_mb=4096.0, booked_mb=1024.0),
            make_vm("h2", cores=2.0, booked=0.5, memory_mb=4096.0, booked_mb=256.0),
            make_vm("h3", cores=8.0, booked=1.5, memory_mb=1024.0, booked_mb=1024.0),
        ]
    )
    policy = Jsq()
    feed(policy, *[0.5] * BATCH)
    decision = policy.place(make_call(), HARVEST, cluster, 0.0)
    assert decision == Decision(
        vm_id=VmId("h2"),
        fits=True,
        reason="fits: smallest score of 3; the call counts as 0.5 cores",
        considered=decision.considered,
        cpu_cores=0.5,
        memory_mb=256.0,
        cap_cores=1.0,
    )
    assert sorted(decision.considered, key=lambda one: one.vm_id) == [
        seen("h1", 2.9375, True, "with it 3.5 of 4 cores and 1280 of 4096 MB"),
        seen("h2", 1.625, True, "with it 1 of 2 cores and 512 of 4096 MB"),
        seen("h3", 2.0, False, "with it 2 of 8 cores and 1280 of 1024 MB"),
    ]


def test_what_vms_report_is_not_looked_at() -> None:
    cluster = FakeCluster([make_vm("h1", used=8.0, used_mb=8000.0), make_vm("h2", booked=0.1)])
    assert Jsq().place(make_call(), HARVEST, cluster, 0.0).vm_id == "h1"


def test_cores_now_are_what_counts() -> None:
    cluster = FakeCluster([make_vm("h1", cores=8.0, booked=2.0), make_vm("h2", cores=8.0, booked=3.0)])
    assert Jsq().place(make_call(), HARVEST, cluster, 0.0).vm_id == "h1"
    cluster.views[VmId("h1")] = make_vm("h1", cores=4.0, booked=2.0)
    assert Jsq().place(make_call(), HARVEST, cluster, 0.0).vm_id == "h2"


@pytest.mark.parametrize(("cores", "fits"), [(1.0, True), (0.99, False)])
def test_a_vm_that_is_just_filled_fits(cores: float, fits: bool) -> None:
    cluster = FakeCluster([make_vm("h1", cores=cores)])
    assert Jsq().place(make_call(), HARVEST, cluster, 0.0).fits is fits


def test_one_that_fits_is_better_than_a_lower_score_that_does_not() -> None:
    cluster = FakeCluster(
        [make_vm("h1", cores=16.0, memory_mb=1024.0, booked_mb=1000.0), make_vm("h2", cores=2.0, booked=0.9)]
    )
    decision = Jsq().place(make_call(), HARVEST, cluster, 0.0)
    scores = {one.vm_id: one.score for one in decision.considered}
    assert scores[VmId("h1")] < scores[VmId("h2")]
    assert (decision.vm_id, decision.fits) == ("h2", True)


def test_an_overload_takes_the_least_score_and_says_so() -> None:
    cluster = FakeCluster([make_vm(f"h{n}", cores=1.0, booked=9.0 - n) for n in range(5)])
    decision = Jsq().place(make_call(), HARVEST, cluster, 0.0)
    assert (decision.vm_id, decision.fits) == ("h4", False)
    assert decision.reason == "overload, none fits: smallest score of 5; the call counts as 1 cores"


def test_ties_go_to_the_first_on_the_ring() -> None:
    cluster = FakeCluster([make_vm(f"h{n}") for n in range(6)])
    assert Jsq().place(make_call("f"), HARVEST, cluster, 0.0).vm_id == cluster.vm_ids(HARVEST)[0]
    assert Jsq().place(make_call("g"), HARVEST, cluster, 0.0).vm_id == cluster.vm_ids(HARVEST)[0]


def test_each_controller_has_its_share() -> None:
    vm = make_vm("h1", cores=4.0, booked=1.5, memory_mb=4096.0)
    assert Jsq().place(make_call(), HARVEST, FakeCluster([vm], controllers=1), 0.0).fits
    decision = Jsq().place(make_call(), HARVEST, FakeCluster([vm], controllers=2), 0.0)
    assert not decision.fits
    assert decision.considered == (
        seen("h1", 3 * 2.5 / 2 + 256 / 2048, False, "with it 2.5 of 2 cores and 256 of 2048 MB"),
    )


def test_the_estimate_is_the_p75_of_the_last_hundred() -> None:
    estimate = CpuEstimate()
    for number in range(99):
        estimate.add(number / 100)
    assert estimate.cores == 1.0, "nothing is known before the hundredth"
    estimate.add(0.99)
    assert estimate.cores == 0.74, "the 75th of 0.00 to 0.99"
    for number in range(100):
        assert estimate.cores == 0.74
        estimate.add(3.0 if number < 26 else 0.2)
    assert estimate.cores == 3.0


def test_functions_are_estimated_apart() -> None:
    policy = Jsq()
    feed(policy, *[0.25] * BATCH)
    cluster = FakeCluster([make_vm("h1")])
    assert policy.place(make_call("f"), HARVEST, cluster, 0.0).cpu_cores == 0.25
    assert policy.place(make_call("g"), HARVEST, cluster, 0.0).cpu_cores == 1.0


def test_no_capacity_is_busy_with_a_finite_score() -> None:
    cluster = FakeCluster([make_vm("h0", cores=0.0)])
    decision = Jsq().place(make_call(), HARVEST, cluster, 0.0)
    assert (decision.vm_id, decision.fits, decision.considered[0].score) == ("h0", False, 1e9)


def test_considered_is_bounded_and_holds_the_chosen_one() -> None:
    cluster = FakeCluster([make_vm(f"h{n}", booked=4.0) for n in range(100)])
    last = cluster.vm_ids(HARVEST)[-1]
    cluster.views[last] = replace(cluster.views[last], booked=Resources(cpu_cores=0.0, memory_mb=0.0))
    decision = Jsq().place(make_call(), HARVEST, cluster, 0.0)
    assert decision.vm_id == last
    assert [one.vm_id for one in decision.considered] == [*cluster.vm_ids(HARVEST)[:CONSIDERED_KEPT], last]


def test_actions_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fallow.core.policies.jsq.ACTIONS_KEPT", 3)
    policy = Jsq()
    for name in ("a", "b", "c"):
        feed(policy, *[0.5] * BATCH, action=make_call(name).action.key)
    policy.arrived(make_call("a").action.key, 0.0)
    feed(policy, 0.5, action=make_call("d").action.key)
    cluster = FakeCluster([make_vm("h1")])
    needs = {name: policy.place(make_call(name), HARVEST, cluster, 0.0).cpu_cores for name in "abcd"}
    assert needs == {"a": 0.5, "b": 1.0, "c": 0.5, "d": 1.0}, "b was called longest ago; d has one sample"
