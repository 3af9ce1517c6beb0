from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.traces.generated.invocations import draw_calls, generate_invocations
from fallow.traces.generated.published import CORE_CHANGE_INTERVAL_S, INVOCATION_DURATION_S, VM_LIFETIME_S
from fallow.traces.generated.vms import BUSY_SEEN, Habit, draw_vm_traces, generate_vm_traces, habit_shares
from fallow.traces.vms import VmTrace, lives

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


def test_long_apps_are_a_minority_and_few_of_their_calls_are_long() -> None:
    """In ten minutes not every long app has had a long call: 9 of 19 are long."""
    shares = []
    for seed in SEEDS:
        trace = generate_invocations(seed=seed, window_s=600, rate_per_s=2.5)
        assert len({f.app for f in trace.functions}) == 19
        long = {trace.functions[c.function].app for c in trace.calls if c.duration_s > 30}
        shares.append(len(long) / 19)
    assert max(shares) <= 9 / 19
    assert 0.3 < sum(shares) / len(shares) < 0.48


def test_no_vms_are_no_traces_and_no_functions_an_error() -> None:
    assert generate_vm_traces(seed=1, vms=0, window_s=7200) == []
    with pytest.raises(ValueError, match="at least one function, not 0"):
        generate_invocations(seed=1, window_s=60, rate_per_s=1, functions=0)


@pytest.mark.parametrize("functions", [1, 3, 4, 68, 424, 1000])
def test_apps_are_in_proportion_to_the_functions_and_none_is_empty(functions: int) -> None:
    calls = draw_calls(seed=1, window_s=60, rate_per_s=1, functions=functions)
    assert set(calls.app.tolist()) == set(range(max(1, round(functions * 119 / 424))))
    assert len(calls.app) == len(calls.long) == functions
    assert len({bool(long) for app, long in zip(calls.app.tolist(), calls.long.tolist(), strict=True) if app == 0}) == 1


@given(seed=st.integers(-3, 2**70), functions=st.integers(1, 100), rate=st.floats(0, 5))
@settings(max_examples=20, deadline=None)
def test_the_columns_hold_what_the_trace_does(seed: int, functions: int, rate: float) -> None:
    trace = generate_invocations(seed=seed, window_s=100, rate_per_s=rate, functions=functions)
    calls = draw_calls(seed=seed, window_s=100, rate_per_s=rate, functions=functions)
    assert [c.at_s for c in trace.calls] == calls.at_s.tolist()
    assert [c.function for c in trace.calls] == calls.function.tolist()
    assert [c.duration_s for c in trace.calls] == calls.duration_s.tolist()
    assert [f.app for f in trace.functions] == [f"app{app + 1:02d}" for app in calls.app.tolist()]


def test_the_published_scale_is_drawn_whole() -> None:
    trace = generate_invocations(seed=1, window_s=1209600, rate_per_s=0.1638, functions=424)  # a tenth of the calls
    assert len(trace.functions) == 424
    assert len(trace.calls) == pytest.approx(198_100, rel=0.01)


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


def test_the_selection_shows_more_than_there_is_and_leaves_large_sets_alone() -> None:
    def changes(traces: list[VmTrace]) -> float:
        return sum(len(t.steps) - 1 for t in traces) / len(traces)

    chosen = [changes(generate_vm_traces(seed=seed, vms=4, window_s=7200)) for seed in range(30)]
    as_they_come = [changes(draw_vm_traces(seed=seed, vms=4, window_s=7200)) for seed in range(300)]
    assert sum(chosen) / 30 > 3 * sum(as_they_come) / 300
    many = generate_vm_traces(seed=1, vms=400, window_s=7200)
    assert many == draw_vm_traces(seed=1, vms=400, window_s=7200)


def test_zero_is_a_moment_like_any_other() -> None:
    """As many changes in the first hour as in the last: with a fresh interval for all at 0 there would be more."""
    traces = draw_vm_traces(seed=2, vms=6000, window_s=12 * 3600)
    times = np.array([at_s for t in traces for at_s, _ in t.steps[1:]])
    expected = 6000 * habit_shares()[Habit.BUSY] * 3600 / CORE_CHANGE_INTERVAL_S.mean()
    assert np.sum(times < 3600) == pytest.approx(expected, rel=0.12)
    assert np.sum(times >= 11 * 3600) == pytest.approx(expected, rel=0.12)


def test_habits_are_shares_of_all_vms_and_first_lives_have_them_in_proportion() -> None:
    shares = habit_shares()
    assert shares.sum() == pytest.approx(1.0)
    assert (shares > 0).all()
    assert BUSY_SEEN[0] == pytest.approx(never_within_a_life(), abs=0.0005)
    found = []
    for seed in range(20):
        traces = draw_vm_traces(seed=seed, vms=40, window_s=10 * 86400)
        found.append(sum(len(lives(t)[0].steps) > 2 for t in traces))
    assert max(found) <= 22  # 21.2 by rounding: by chance alone it would be up to 27
    assert sum(found) / 20 > 18  # some of their lives end early


def never_within_a_life() -> float:
    """The chance that an interval is longer than the life it begins in."""
    lives_s = [VM_LIFETIME_S.at((i + 0.5) / 4000) for i in range(4000)]
    return sum(1 - CORE_CHANGE_INTERVAL_S.share_below(life_s) for life_s in lives_s) / 4000


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
