from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.traces.generated.durations import MOST_SHORT_CALLS, function_parts, long_apps
from fallow.traces.generated.invocations import draw_calls, popularity
from fallow.traces.generated.published import INVOCATION_DURATION_S, LONG_CALL_S, SHORT_CALL_SHARE


@st.composite
def apps(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    functions = draw(st.integers(1, 120))
    count = draw(st.integers(1, functions))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    app_of = rng.permutation(np.concatenate((np.arange(count), rng.integers(0, count, functions - count))))
    return app_of, popularity(functions), draw(st.integers(0, 2**32))


@given(apps())
@settings(deadline=None)
def test_all_functions_together_fill_every_quantile_evenly(given: tuple[np.ndarray, np.ndarray, int]) -> None:
    """The density of all functions' parts and strays is 1 at every quantile: that is what makes the mix exact."""
    app_of, weights, seed = given
    long = long_apps(app_of, weights, np.random.default_rng(seed))[app_of]
    parts = function_parts(weights, long, INVOCATION_DURATION_S, np.random.default_rng(seed))
    sorts = {id(part.sort): part.sort for part in parts}.values()
    for low, high in ((0.0, 0.2), (0.2, 0.5), (0.5, 0.9), (0.9, SHORT_CALL_SHARE), (SHORT_CALL_SHARE, 1.0)):
        mass = sum(
            np.diff(np.interp([low, high], sort.edges, np.concatenate(([0.0], np.cumsum(sort.own + sort.stray)))))[0]
            for sort in sorts
        )
        assert mass == pytest.approx(high - low, abs=1e-6)
    for sort in sorts:
        assert (sort.own >= 0).all()
        mine = sorted((part.low, part.high) for part in parts if part.sort is sort)
        assert mine[0][0] == pytest.approx(0.0)
        assert mine[-1][1] == pytest.approx(sort.own.sum())
        assert [low for low, _ in mine[1:]] == pytest.approx([high for _, high in mine[:-1]])


@given(apps(), st.integers(1, 200))
@settings(deadline=None)
def test_short_apps_have_no_call_above_30_s(given: tuple[np.ndarray, np.ndarray, int], count: int) -> None:
    app_of, weights, seed = given
    rng = np.random.default_rng(seed)
    long = long_apps(app_of, weights, rng)[app_of]
    parts = function_parts(weights, long, INVOCATION_DURATION_S, rng)
    for is_long, part in zip(long.tolist(), parts, strict=True):
        quantiles = part.draw(count, rng)
        assert ((quantiles >= 0) & (quantiles <= (1.0 if is_long else SHORT_CALL_SHARE))).all()


@given(apps())
@settings(deadline=None)
def test_some_apps_are_long_and_have_enough_of_the_calls(given: tuple[np.ndarray, np.ndarray, int]) -> None:
    app_of, weights, seed = given
    long = long_apps(app_of, weights, np.random.default_rng(seed))
    assert long.sum() == max(1, round(0.487 * len(long)))
    share = weights[~long[app_of]].sum()
    heaviest = np.sort(np.bincount(app_of, weights=weights))[::-1][: long.sum()].sum()
    assert share <= max(MOST_SHORT_CALLS, 1 - heaviest) + 1e-9


@pytest.mark.parametrize("functions", [1, 2, 5, 68, 424])
def test_the_mix_is_the_published_one_whatever_the_number_of_functions(functions: int) -> None:
    calls = draw_calls(seed=3, window_s=1e5, rate_per_s=1.0, functions=functions)
    for percent in (40, 60, 80, 90, 95, 99):
        value = INVOCATION_DURATION_S.at(percent / 100)
        assert np.mean(calls.duration_s <= value) == pytest.approx(percent / 100, abs=0.006)
    short = ~calls.long[calls.function]
    assert calls.duration_s[short].max(initial=0.0) <= LONG_CALL_S
