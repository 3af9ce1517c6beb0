"""The cores of a VM are shared as theory says: processor sharing, by weights, up to each job's parallelism."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.clock import VirtualClock
from simulator.sharing import CpuShare, Job


def alone(cores: float) -> tuple[VirtualClock, CpuShare, list[tuple[str, float]]]:
    clock = VirtualClock()
    return clock, CpuShare(clock, cores), []


def test_what_fits_runs_at_its_parallelism() -> None:
    clock, share, done = alone(4.0)
    for name, work, parallel in (("a", 2.0, 1.0), ("b", 6.0, 3.0)):
        share.add(work, parallel, 1.0, lambda n: done.append((n, clock.now_s)), name)
    clock.run(100.0)
    assert done == [("a", 2.0), ("b", 2.0)]
    assert share.used() == pytest.approx(8.0)


def test_cores_go_by_weight_and_what_one_cannot_use_goes_to_the_others() -> None:
    clock, share, done = alone(4.0)
    for name, work, parallel, weight in (("a", 1.0, 1.0, 3.0), ("b", 4.0, 4.0, 1.0), ("c", 8.0, 4.0, 2.0)):
        share.add(work, parallel, weight, lambda n: done.append((n, clock.now_s)), name)
    # a: its one core. The other three go 1 : 2 to b and c.
    clock.run(0.5)
    assert share.rate() == 4.0
    clock.run(100.0)
    assert [name for name, _ in done] == ["a", "b", "c"] or [name for name, _ in done] == ["a", "c", "b"]
    assert done[0] == ("a", pytest.approx(1.0))
    assert done[-1][1] == pytest.approx(13.0 / 4.0)  # never idle: all the work over all the cores


def test_a_shrink_slows_what_runs_and_a_growth_speeds_it_up() -> None:
    clock, share, done = alone(2.0)
    for name in "ab":
        share.add(4.0, 1.0, 1.0, lambda n: done.append((n, clock.now_s)), name)
    clock.at(1.0, share.resize, 0.5)
    clock.at(5.0, share.resize, 2.0)
    clock.run(100.0)
    # 1 s at one core each, 4 s at a quarter, the remaining 2 core-seconds at one core each.
    assert done == [("a", pytest.approx(7.0)), ("b", pytest.approx(7.0))]


def test_what_is_taken_out_says_what_it_used() -> None:
    clock, share, done = alone(1.0)
    job = share.add(5.0, 1.0, 1.0, done.append, ("a", 0.0))
    share.add(5.0, 1.0, 1.0, lambda: done.append(("b", clock.now_s)))
    clock.run(2.0)
    assert share.remove(job) == pytest.approx(1.0)
    clock.run(100.0)
    assert done == [("b", pytest.approx(6.0))]


@pytest.mark.parametrize("load", [0.5, 0.8])
@pytest.mark.parametrize("variable", [False, True])
def test_mean_response_is_that_of_m_g_1_ps(load: float, variable: bool) -> None:
    """In M/G/1-PS a job of size x takes x / (1 - load) on average, whatever the sizes' distribution."""
    clock, share, _ = alone(1.0)
    dice = random.Random(f"ps:{load}:{variable}")
    sums = {"size": 0.0, "time": 0.0}
    jobs = 40_000

    def arrive(left: int) -> None:
        size = dice.choice((0.2, 0.2, 0.2, 0.2, 4.2)) if variable else dice.expovariate(1.0)
        share.add(size, 1.0, 1.0, over, size, clock.now_s)
        if left:
            clock.after(dice.expovariate(load), arrive, left - 1)

    def over(size: float, arrived_s: float) -> None:
        sums["size"] += size
        sums["time"] += clock.now_s - arrived_s

    clock.at(0.0, arrive, jobs - 1)
    clock.run(float("inf"))
    assert sums["time"] / sums["size"] == pytest.approx(1 / (1 - load), rel=0.12)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 10),
            st.floats(0.01, 20),
            st.sampled_from([0.5, 1.0, 2.0, 4.0]),
            st.sampled_from([1.0, 2.0, 4.0]),
        ),
        min_size=1,
        max_size=12,
    ),
    st.lists(st.tuples(st.floats(0, 20), st.sampled_from([0.25, 1.0, 3.0, 16.0])), max_size=4),
)
def test_work_is_conserved(jobs: list[tuple[float, float, float, float]], resizes: list[tuple[float, float]]) -> None:
    """Every job ends, and what was used is what there was to do, however the cores change meanwhile."""
    clock, share, _ = alone(2.0)
    ended: list[int] = []
    for number, (at_s, work, parallel, weight) in enumerate(jobs):
        clock.at(at_s, share.add, work, parallel, weight, ended.append, number)
    for at_s, cores in resizes:
        clock.at(at_s, share.resize, cores)
    clock.run(float("inf"))
    assert sorted(ended) == list(range(len(jobs)))
    assert share.used() == pytest.approx(sum(work for _, work, _, _ in jobs), rel=1e-6)
    assert not share.jobs


def test_never_more_cores_than_there_are() -> None:
    clock, share, _ = alone(3.0)
    dice = random.Random(7)
    for _ in range(50):
        share.add(dice.uniform(0.1, 5.0), dice.choice((0.5, 1.0, 2.0)), dice.choice((1.0, 2.0)), lambda: None)
    rates: list[float] = []

    def look(jobs: dict[Job, None]) -> None:
        rates.append(sum(job.rate for job in jobs))
        if jobs:
            clock.after(0.05, look, jobs)

    look(share.jobs)
    clock.run(float("inf"))
    assert max(rates) <= 3.0 + 1e-6
    assert rates[0] == pytest.approx(3.0)
