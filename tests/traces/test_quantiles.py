from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.traces.quantiles import (
    CORE_CHANGE_INTERVAL_S,
    CORE_CHANGE_WEIGHT,
    INVOCATION_DURATION_S,
    VM_LIFETIME_S,
    Quantiles,
    interpolate,
)

TABLES = (INVOCATION_DURATION_S, VM_LIFETIME_S, CORE_CHANGE_INTERVAL_S)


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.source.split(",")[0])
def test_a_table_gives_its_own_points(table: Quantiles) -> None:
    for share, value in table.points:
        assert table.at(share) == pytest.approx(value)


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.source.split(",")[0])
@settings(deadline=None)
@given(a=st.floats(0, 1), b=st.floats(0, 1))
def test_a_table_rises_and_never_leaves_its_range(table: Quantiles, a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert table.points[0][1] * (1 - 1e-9) <= table.at(low) <= table.at(high) * (1 + 1e-9)
    assert table.at(high) <= table.points[-1][1] * (1 + 1e-9)


def test_between_two_points_the_logarithm_is_linear() -> None:
    table = Quantiles(source="test", points=((0.0, 1.0), (1.0, 100.0)))
    assert table.at(0.5) == pytest.approx(10.0)


def test_the_published_shares_hold() -> None:
    assert INVOCATION_DURATION_S.at(0.871) == pytest.approx(1.0)
    assert INVOCATION_DURATION_S.at(0.958) == pytest.approx(30.0)
    assert CORE_CHANGE_INTERVAL_S.at(0.3) >= 600  # about 70 % of the intervals exceed ten minutes
    assert VM_LIFETIME_S.at(0.1) > 86400  # more than 90 % live for over a day
    sizes = sum(size * weight for size, weight in CORE_CHANGE_WEIGHT.items())
    assert sizes / sum(CORE_CHANGE_WEIGHT.values()) == pytest.approx(12, abs=0.5)


@pytest.mark.parametrize("points", [((0.5, 1.0), (0.4, 2.0)), ((0.1, 2.0), (0.2, 1.0)), ((0.1, 0.0), (0.2, 1.0))])
def test_points_that_do_not_rise_are_refused(points: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ValueError, match="do not rise"):
        Quantiles(source="test", points=points)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1e6)), min_size=1, max_size=8), st.floats(-1, 2))
def test_interpolation_stays_between_its_neighbours(points: list[tuple[float, float]], x: float) -> None:
    points = sorted({round(p, 3): v for p, v in points}.items())
    value = interpolate(points, x)
    assert min(v for _, v in points) * (1 - 1e-9) <= value <= max(v for _, v in points) * (1 + 1e-9)
    assert math.isfinite(value)
