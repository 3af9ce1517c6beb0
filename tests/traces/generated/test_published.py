from __future__ import annotations

import csv
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.traces.generated.published import (
    CORE_CHANGE_INTERVAL_S,
    CORE_CHANGE_WEIGHT,
    INVOCATION_DURATION_S,
    VM_LIFETIME_S,
    Quantiles,
    interpolate,
)
from support.samples import sample

DAY_S = 86400.0
ABOVE = 1 + 1e-9  # a value, and what rounding makes of it
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


@pytest.mark.parametrize(
    ("table", "read_off"),
    [
        (VM_LIFETIME_S, {5: 0.67 * DAY_S, 20: 8.8 * DAY_S, 40: 36 * DAY_S, 60: 82 * DAY_S, 90: 159 * DAY_S}),
        (CORE_CHANGE_INTERVAL_S, {5: 6, 10: 62, 30: 625, 50: 1828, 70: 4803, 90: 28220, 99: 120166}),
        (INVOCATION_DURATION_S, {40: 0.011, 60: 0.086, 80: 0.44, 90: 1.7, 96: 30.6, 98: 51, 99: 88}),
    ],
    ids=["lifetime", "interval", "duration"],
)
def test_the_tables_are_what_was_read_off_the_figures(table: Quantiles, read_off: dict[int, float]) -> None:
    for percent, value in read_off.items():
        assert table.at(percent / 100) == pytest.approx(value, rel=0.03)


@pytest.mark.parametrize(
    ("table", "name"),
    [
        (VM_LIFETIME_S, "fig1_harvest_vm_lifetime_s.csv"),
        (CORE_CHANGE_INTERVAL_S, "fig2_harvest_cpu_change_interval_s.csv"),
        (INVOCATION_DURATION_S, "fig6_fsmall_invocation_duration_s.csv"),
    ],
    ids=["lifetime", "interval", "duration"],
)
def test_the_tables_hold_every_digitised_point(table: Quantiles, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    points = dict(table.points)
    assert {0.005, *(percent / 100 for percent in range(1, 100)), 0.995} <= set(points)
    path = sample(f"paper_figures/{name}")
    if path is None:
        with capsys.disabled():
            print(f"\n{name} is not in ../shared/data: only the points told in the text were compared")
        return
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            assert points[float(row["percentile"]) / 100] == pytest.approx(float(row["value_seconds"]), rel=1e-5)


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.source.split(",")[0])
def test_mean_integral_and_length_bias_are_those_of_fine_samples(table: Quantiles) -> None:
    samples = [table.at((i + 0.5) / 20_000) for i in range(20_000)]
    total = sum(samples)
    assert table.mean() == pytest.approx(total / 20_000, rel=2e-3)
    assert table.integral(0.6) == pytest.approx(sum(samples[:12_000]) / 20_000, rel=2e-3)
    biased = table.length_biased()
    assert biased[0][0] == 0.0
    assert biased[-1] == (pytest.approx(1.0), table.points[-1][1])
    for value in (table.at(0.6) * ABOVE, table.at(0.9) * ABOVE):
        below = sum(v for v in samples if v <= value) / total
        at_or_below = [share for share, v in biased if v <= value]
        assert max(at_or_below) == pytest.approx(below, abs=0.03)


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.source.split(",")[0])
@settings(deadline=None)
@given(share=st.floats(0.001, 0.999))
def test_the_share_below_undoes_the_quantile(table: Quantiles, share: float) -> None:
    value = table.at(share)
    assert table.at(table.share_below(value)) == pytest.approx(value)
    assert table.share_below(value * ABOVE) >= share - 1e-9


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
