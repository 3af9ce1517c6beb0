"""Whole runs: every call ends, the same scenario gives the same course, evictions and wrong policies are dealt with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.core.model import VmId, VmKind
from fallow.traces.vms import Life
from simulator import clusters, workloads
from simulator.model import Scenario, SimCall, SimVm, Times, Workload
from simulator.results import summarise
from simulator.sweep import Point, scenario_of, sweep
from simulator.world import Result, World

# Of one course: it changes only where what is decided, or simulated, or measured of the benchmarks, is meant to.
GOLDEN = "9693a65aba9120022ae06c8e532c1fec"


def run(scenario: Scenario) -> Result:
    return World(scenario).run()


def some(calls: Sequence[SimCall], window_s: float = 100.0) -> Workload:
    """A few calls of the mix's actions."""
    made = workloads.mix(rate_per_s=1.0, window_s=window_s, seed=1)
    return replace(made, calls=lambda: iter(calls), window_s=window_s)


def test_the_same_scenario_takes_the_same_course() -> None:
    point = Point(cluster="active", rate_per_s=20, duration_s=60, work=60)
    first, again, other = sweep([point, point, replace(point, seed=2)], workers=2)
    assert first == again
    assert first["digest"] == GOLDEN
    assert other["digest"] != GOLDEN


def test_the_active_cluster_swings_within_the_published_totals() -> None:
    means = []
    for seed in range(1, 9):
        vms = clusters.active(seed=seed, window_s=1200.0)
        moments = sorted({at_s for vm in vms for at_s, _ in vm.life.steps})
        totals = [sum(next(n for at, n in reversed(vm.life.steps) if at <= at_s) for vm in vms) for at_s in moments]
        assert all(104 <= total <= 204 for total in totals)
        assert all(6 <= cores <= 32 for vm in vms for _, cores in vm.life.steps)
        means.append(sum(totals) / len(totals))
    assert 144 <= sum(means) / len(means) <= 174, "about the middle of the range"


def test_policies_get_the_same_calls() -> None:
    mws, jsq = (
        list(scenario_of(Point(policy=p, rate_per_s=5, duration_s=60)).workload.calls()) for p in ("mws", "jsq")
    )
    assert mws == jsq
    assert mws != list(scenario_of(Point(rate_per_s=5, duration_s=60, seed=2)).workload.calls())


def test_a_lone_call_takes_its_start_and_its_work() -> None:
    times = Times(link_s=0.0, container_s=0.5, container_cpu_s=0.25)
    workload = some([SimCall(at_s=1.0, action=0, cpu_s=2.0, idle_s=1.0), SimCall(at_s=50.0, action=0, cpu_s=2.0)])
    init_s = workload.actions[0].init_cpu_s
    result = run(Scenario(workload=workload, vms=clusters.constant([4]), times=times))
    assert list(result.latency_s) == pytest.approx([0.75 + init_s + 3.0, 2.0], abs=1e-5)
    assert list(result.cold) == [1, 0]
    assert result.init_s[0] == pytest.approx(init_s, abs=1e-6)
    assert result.used_core_s == pytest.approx(4.25 + init_s)


@pytest.mark.parametrize("retries", [True, False])
def test_an_eviction_meets_a_running_call(retries: bool) -> None:
    """The notice of 30 s is too short for a call of 60: it is cut off, and runs again elsewhere where it may."""
    doomed = SimVm(
        kind=VmKind.HARVEST,
        memory_mb=4096.0,
        life=Life(vm_id=VmId("h1"), join_s=0.0, steps=((0.0, 4.0),), end_s=50.0),
    )
    other = SimVm(
        kind=VmKind.HARVEST, memory_mb=4096.0, life=Life(vm_id=VmId("h2"), join_s=10.0, steps=((0.0, 4.0),), end_s=None)
    )
    workload = some([SimCall(at_s=5.0, action=0, cpu_s=60.0)])
    scenario = Scenario(workload=workload, vms=[doomed, other], strategy="live-and-let-die", retries=retries)
    result = run(scenario)
    figures = summarise(scenario, result)
    assert figures["evictions"] == figures["evicted_with_loss"] == figures["cut_off"]["calls"] == 1
    if retries:
        assert (figures["succeeded"], figures["replaced"]) == (1, 1)
        assert result.latency_s[0] > 45 + 60
    else:
        assert (figures["failed"], result.evicted) == (1, 1)
        assert "cut off by an eviction" in figures["errors"][0]["error"]


def test_a_shrink_makes_calls_slower() -> None:
    calls = [SimCall(at_s=1.0 + n / 100, action=n, cpu_s=10.0) for n in range(4)]
    steady = SimVm(
        kind=VmKind.HARVEST, memory_mb=8192.0, life=Life(vm_id=VmId("h1"), join_s=0.0, steps=((0.0, 8.0),), end_s=None)
    )
    shrinking = replace(steady, life=replace(steady.life, steps=((0.0, 8.0), (3.0, 2.0))))
    before, after = (run(Scenario(workload=some(calls), vms=[vm])) for vm in (steady, shrinking))
    assert max(before.latency_s) < 12
    # 4 jobs had some 1.5 s each at one core; the rest of 34 core-seconds shares two cores.
    assert max(after.latency_s) > 17


def test_little_law_holds() -> None:
    """Calls in the system, by counting, against arrival rate x mean time in it."""
    scenario = scenario_of(Point(rate_per_s=40, duration_s=200, work=50))
    world = World(scenario)
    seen: list[int] = []
    result = world.run(lambda now_s, ended: seen.append(world.in_flight) if 50 <= now_s <= 200 else None)
    mean_s = float(np.mean(np.frombuffer(result.latency_s, dtype=np.float32)))
    assert np.mean(seen) == pytest.approx(40 * mean_s, rel=0.1)


@settings(max_examples=12, deadline=None)
@given(
    policy=st.sampled_from(["mws", "jsq", "hash"]),
    strategy=st.sampled_from(["prefer-regular", "no-failures", "live-and-let-die", "bounded:99"]),
    seed=st.integers(0, 1000),
    retries=st.booleans(),
    controllers=st.integers(1, 3),
    ends=st.lists(st.one_of(st.none(), st.floats(5, 90)), min_size=1, max_size=4),
    rate=st.sampled_from([2.0, 10.0]),
)
def test_every_arrival_ends_once(
    policy: str,
    strategy: str,
    seed: int,
    retries: bool,
    controllers: int,
    ends: list[float | None],
    rate: float,
) -> None:
    """Whatever is evicted, refused or overloaded: arrivals = results + failures + refusals."""
    vms = [
        SimVm(
            kind=VmKind.HARVEST,
            memory_mb=4096.0,
            life=Life(vm_id=VmId(f"h{n}"), join_s=0.0, steps=((0.0, 4.0), (20.0, 1.0), (40.0, 6.0)), end_s=end_s),
        )
        for n, end_s in enumerate(ends)
    ]
    scenario = Scenario(
        workload=workloads.mix(rate_per_s=rate, window_s=60.0, seed=seed, work=10),
        vms=[*vms, *clusters.constant([2], VmKind.REGULAR)],
        policy=policy,
        strategy=strategy,
        seed=seed,
        retries=retries,
        controllers=controllers,
        tail_s=400.0,
    )
    result = run(scenario)
    assert result.unfinished == 0
    assert result.arrived == len(result.latency_s) + result.failed + result.refused.total()
    assert result.arrived == sum(1 for _ in scenario.workload.calls())
    assert len(result.latency_s) == len(result.cold) == len(result.wait_s) == len(result.run_s)
    assert sum(result.cold) == len(result.init_s)
