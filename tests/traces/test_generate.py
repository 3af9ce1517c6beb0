from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.traces.generate import generate_invocations, generate_vm_traces
from fallow.traces.quantiles import CORE_CHANGE_INTERVAL_S, INVOCATION_DURATION_S
from fallow.traces.vms import lives

SEEDS = range(1, 21)


def share_below(values: list[float], limit: float) -> float:
    return sum(v <= limit for v in values) / len(values)


def test_the_mix_of_durations_follows_the_published_quantiles() -> None:
    durations = [
        c.duration_s for seed in SEEDS for c in generate_invocations(seed=seed, window_s=600, rate_per_s=10).calls
    ]
    for share, value in INVOCATION_DURATION_S.points:
        if 0.33 < share < 0.995:
            assert share_below(durations, value) == pytest.approx(share, abs=0.025)
    assert 0.02 < 1 - share_below(durations, 30) < 0.065


@given(seed=st.integers(-3, 2**70), window_s=st.floats(1, 600), rate=st.floats(0, 5))
@settings(max_examples=40, deadline=None)
def test_calls_are_sorted_within_the_window_and_repeat_by_seed(seed: int, window_s: float, rate: float) -> None:
    trace = generate_invocations(seed=seed, window_s=window_s, rate_per_s=rate)
    arrivals = [c.at_s for c in trace.calls]
    assert arrivals == sorted(arrivals)
    assert all(0 <= at_s < window_s for at_s in arrivals)
    assert all(0.001 <= c.duration_s <= 600.001 for c in trace.calls)
    assert trace == generate_invocations(seed=seed, window_s=window_s, rate_per_s=rate)


def test_another_seed_is_another_trace() -> None:
    assert generate_invocations(seed=1, window_s=60, rate_per_s=5) != generate_invocations(
        seed=2, window_s=60, rate_per_s=5
    )
    assert generate_vm_traces(seed=1, vms=4, window_s=7200) != generate_vm_traces(seed=2, vms=4, window_s=7200)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_default_has_many_functions_of_skewed_popularity(seed: int) -> None:
    trace = generate_invocations(seed=seed, window_s=600, rate_per_s=2.5)
    calls = Counter(c.function for c in trace.calls)
    assert len(calls) >= 60
    assert sum(n for _, n in calls.most_common(8)) > len(trace.calls) / 2
    assert 1200 < len(trace.calls) < 1800
    assert {128, 256} <= {f.memory_mb for f in trace.functions} <= {128, 256, 512}
    assert all(0.1 <= f.cpu_share <= 1 for f in trace.functions)
    assert len({f.name for f in trace.functions}) == len(trace.functions) == 68


def test_long_functions_are_a_minority_of_calls_but_many_apps() -> None:
    shares = []
    for seed in SEEDS:
        trace = generate_invocations(seed=seed, window_s=600, rate_per_s=2.5)
        apps = {trace.functions[c.function].app for c in trace.calls}
        long = {trace.functions[c.function].app for c in trace.calls if c.duration_s > 30}
        shares.append(len(long) / len(apps))
    assert 0.4 < sum(shares) / len(shares) < 0.7


@pytest.mark.parametrize("seed", SEEDS)
def test_vm_traces_shrink_and_grow_where_one_can_see_it(seed: int) -> None:
    traces = generate_vm_traces(seed=seed, vms=4, window_s=7200)
    assert [t.name for t in traces] == ["h1", "h2", "h3", "h4"]
    deltas = [
        after - before
        for t in traces
        for (_, before), (at_s, after) in itertools.pairwise(t.steps)
        if before and after and 360 <= at_s <= 6480
    ]
    assert sum(d <= -4 for d in deltas) >= 2
    assert sum(d >= 4 for d in deltas) >= 2


@given(seed=st.integers(0, 10**6), vms=st.integers(1, 6), window_s=st.floats(1, 1e6))
@settings(max_examples=40, deadline=None)
def test_vm_traces_are_lives_within_the_sizes_of_a_harvest_vm(seed: int, vms: int, window_s: float) -> None:
    traces = generate_vm_traces(seed=seed, vms=vms, window_s=window_s)
    assert len(traces) == vms
    for trace in traces:
        times = [t for t, _ in trace.steps]
        assert times == sorted(times)
        assert trace.steps[0][0] == 0
        assert trace.steps[0][1] > 0
        assert all(c == 0 or 2 <= c <= 32 for _, c in trace.steps)
        for life in lives(trace):
            life.check()


def test_a_third_of_the_vms_never_changes_and_most_live_on() -> None:
    traces = generate_vm_traces(seed=3, vms=40, window_s=7200)
    kept = [t for t in traces if len({c for _, c in t.steps if c}) == 1 and len(t.steps) == 1]
    assert len(kept) >= 14  # 35.1 % of 40, and those whose first change lies beyond the window
    evicted = [t for t in traces if any(c == 0 for _, c in t.steps)]
    assert len(evicted) <= 1  # 0.14 % of the VMs in two hours
    long = generate_vm_traces(seed=3, vms=40, window_s=120 * 86400)
    ended = [t for t in long if any(c == 0 for _, c in t.steps)]
    assert len(ended) > 20
    assert any(len(lives(t)) > 1 for t in ended)


def test_intervals_between_changes_follow_the_published_median() -> None:
    gaps: list[float] = []
    for seed in range(20):
        for trace in generate_vm_traces(seed=seed, vms=4, window_s=3e6):
            gaps.extend(b - a for (a, _), (b, _) in itertools.pairwise(trace.steps))
    assert share_below(gaps, CORE_CHANGE_INTERVAL_S.at(0.5)) == pytest.approx(0.5, abs=0.06)
    assert share_below(gaps, 600) == pytest.approx(0.3, abs=0.06)
