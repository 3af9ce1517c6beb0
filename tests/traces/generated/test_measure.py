from __future__ import annotations

import numpy as np
import pytest

from fallow.traces.generated.invocations import Calls, draw_calls
from fallow.traces.generated.measure import (
    LONGEST_INTERVAL_S,
    LONGEST_LIFE_S,
    long_app_shares,
    own_gaps,
    vm_figures,
    whole_lives,
)
from fallow.traces.generated.published import VM_LIFETIME_S
from fallow.traces.generated.vms import draw_lives, draw_vm_traces
from fallow.traces.vms import VmTrace, lives

LATE_S = 1e8  # a window that leaves every life before it enough room


def test_of_lives_those_count_that_begin_early_enough_in_the_window() -> None:
    steps = ((0.0, 8.0), (50.0, 0.0), (60.0, 4.0), (100.0, 0.0), (LATE_S - 10, 16.0))
    figures = vm_figures([VmTrace(name="h1", steps=steps)], LATE_S)
    assert figures.lifetime_s.tolist() == [40.0]  # the first was there at 0, the last one goes on
    assert (figures.shrank.tolist(), figures.grew.tolist()) == ([False], [False])
    assert (figures.least_cores, figures.most_cores) == (4.0, 16.0)
    assert figures.change.tolist() == []


def test_changes_are_within_a_life_and_intervals_between_two_of_them() -> None:
    far_s = 2 * LONGEST_INTERVAL_S
    steps = (
        (0.0, 8.0),
        (10.0, 0.0),
        (20.0, 4.0),
        (25.0, 6.0),  # 5 s after the join: no interval, as a join is no change
        (32.0, 2.0),
        (32.0 + far_s, 32.0),  # too near to the end to begin an interval
        (40.0 + far_s, 30.0),
        (50.0 + far_s, 0.0),
    )
    figures = vm_figures([VmTrace(name="h1", steps=steps), VmTrace(name="h2", steps=((0.0, 3.0),))], LATE_S)
    assert figures.change.tolist() == [2.0, -4.0, 30.0, -2.0]
    assert figures.interval_s.tolist() == [7.0, far_s]
    assert (figures.shrank.tolist(), figures.grew.tolist()) == ([True], [True])
    assert figures.lifetime_s.tolist() == [30.0 + far_s]


def test_a_life_without_an_end_where_one_must_be_is_an_error() -> None:
    with pytest.raises(ValueError, match="longest published"):
        vm_figures([VmTrace(name="h1", steps=((0.0, 8.0), (50.0, 0.0), (60.0, 4.0)))], LATE_S)


def test_the_traces_hold_the_lives_drawn() -> None:
    window_s = 400 * 86400.0
    drawn = draw_lives(seed=4, vms=12, window_s=window_s)
    traces = draw_vm_traces(seed=4, vms=12, window_s=window_s)
    found = [(i, life) for i, trace in enumerate(traces) for life in lives(trace)]
    assert [i for i, _ in found] == drawn.vm.tolist()
    for (_, life), born_s, end_s in zip(found, drawn.born_s.tolist(), drawn.end_s.tolist(), strict=True):
        assert life.join_s == pytest.approx(max(born_s, 0.0), abs=0.001)
        if end_s < window_s:
            assert life.end_s is not None
            assert life.join_s + life.end_s == pytest.approx(end_s, abs=0.002)
        else:
            assert life.end_s is None
    whole = vm_figures(traces, window_s).lifetime_s
    assert np.sort(whole) == pytest.approx(np.sort(whole_lives(drawn, window_s)), abs=0.002)


def test_vms_there_at_the_beginning_are_in_the_middle_of_lives_that_are_longer_than_most() -> None:
    """The naive measure, over who is alive at a moment, would be 1.7 times the mean; ours is not."""
    drawn = draw_lives(seed=1, vms=20_000, window_s=LONGEST_LIFE_S + 3e7)
    first = drawn.born_s < 0
    lasts_s = drawn.end_s - drawn.born_s
    assert first.sum() == 20_000
    values = np.array([VM_LIFETIME_S.at((i + 0.5) / 20_000) for i in range(20_000)])
    assert lasts_s[first].mean() == pytest.approx((values**2).mean() / values.mean(), rel=0.01)
    assert lasts_s[first].mean() > 1.5 * VM_LIFETIME_S.mean()
    assert np.mean(-drawn.born_s[first] / lasts_s[first]) == pytest.approx(0.5, abs=0.01)
    assert whole_lives(drawn, LONGEST_LIFE_S + 3e7).mean() == pytest.approx(VM_LIFETIME_S.mean(), rel=0.02)
    complete = lasts_s[~first & (drawn.end_s < LONGEST_LIFE_S + 3e7)]
    assert complete.mean() < 0.97 * VM_LIFETIME_S.mean()  # all that end in the window: too short


def test_long_apps_are_those_seen_to_have_a_long_call() -> None:
    calls = Calls(
        at_s=np.array([0.0, 1.0, 2.0, 3.0]),
        function=np.array([0, 1, 2, 0]),
        duration_s=np.array([30.0, 90.0, 50.0, 30.0]),
        app=np.array([0, 1, 1, 2]),  # function 3, alone in app 2, is not called
        long=np.array([True, True, True, True]),
    )
    assert long_app_shares(calls) == (0.5, 0.7)


def test_own_gaps_are_between_calls_of_one_function() -> None:
    calls = Calls(
        at_s=np.array([0.0, 1.0, 2.0, 4.0, 7.0]),
        function=np.array([0, 1, 0, 1, 0]),
        duration_s=np.ones(5),
        app=np.array([0, 0]),
        long=np.array([False, False]),
    )
    function, gap_s = own_gaps(calls)
    assert list(zip(function.tolist(), gap_s.tolist(), strict=True)) == [(0, 2.0), (0, 5.0), (1, 3.0)]


def test_all_gaps_but_one_a_function_are_counted() -> None:
    calls = draw_calls(seed=1, window_s=6000, rate_per_s=1.0, functions=20)
    function, gap_s = own_gaps(calls)
    assert len(gap_s) == len(calls.at_s) - len(np.unique(calls.function))
    assert set(function.tolist()) <= set(range(20))
    assert (gap_s >= 0).all()
