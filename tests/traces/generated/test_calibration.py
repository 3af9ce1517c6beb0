"""What the generators produce, against what was published."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from fallow.traces.generated.calibration import BODY, TAIL, Calibration, Row, calibrate
from fallow.traces.generated.measure import vm_figures
from fallow.traces.generated.published import CORE_CHANGE_WEIGHT
from fallow.traces.generated.vms import draw_vm_traces

SEEDS = (1, 2, 3)
DAY_S = 86400.0

made = cache(calibrate)


def table(calibration: Calibration) -> str:
    lines = [f"calibration, seed {calibration.seed}: name, quantile, unit, basis; published, ours, difference"]
    lines += [
        f"{r.name:36} {r.quantile:6}{r.unit:8}{r.basis:9}{r.published:13.6g}{r.ours:13.6g}{r.difference:+8.2%}"
        f"  {'' if r.holds else 'BEYOND ' + (f'{r.tolerance:.0%}' if r.rule == 'within' else r.rule)}".rstrip()
        for r in calibration.rows
    ]
    return "\n".join(lines)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_figure_is_within_its_tolerance(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    calibration = made(seed)
    if seed == SEEDS[0]:
        with capsys.disabled():
            print(f"\n{table(calibration)}")
    assert calibration.broken == ()


@pytest.mark.parametrize("seed", SEEDS)
def test_not_only_the_deciles_but_every_percentile_is(seed: int) -> None:
    for curve in made(seed).curves:
        if curve.unit != "cores":  # whole numbers: see the next test
            beyond = {
                share: difference
                for share, difference in curve.differences
                if share >= 0.1 and abs(difference) > (BODY if share <= 0.9 else TAIL)
            }
            assert beyond == {}, curve.name


def test_each_size_of_a_change_has_its_share_up_and_down() -> None:
    traces = draw_vm_traces(seed=5, vms=100, window_s=720 * DAY_S)
    change = vm_figures(traces, 720 * DAY_S).change
    assert len(change) > 200_000
    total = sum(CORE_CHANGE_WEIGHT.values())
    for size in range(1, 31):
        expected = CORE_CHANGE_WEIGHT.get(size, 0.0) / total / 2
        for sign in (-1, 1):
            assert np.mean(change == sign * size) == pytest.approx(expected, abs=0.002)


def test_the_figures_asked_for_are_all_there() -> None:
    calibration = made(SEEDS[0])
    by_name: dict[str, set[str]] = {}
    for row in calibration.rows:
        by_name.setdefault(row.name, set()).add(row.quantile)
    deciles = {f"p{percent}" for percent in range(10, 100, 10)} | {"p99"}
    for name in (
        "invocation duration",
        "time between two invocations",
        "VM lifetime",
        "interval between core changes",
        "size of a core change",
    ):
        assert deciles <= by_name[name]
    for row in calibration.rows:
        if row.quantile in deciles:
            assert (row.rule, row.tolerance) == ("within", TAIL if row.quantile == "p99" else BODY)
    assert {curve.name for curve in calibration.curves} <= set(by_name)


def test_a_seed_gives_the_same_figures_and_another_seed_others() -> None:
    one = made(SEEDS[0])
    assert calibrate(SEEDS[0]).rows == one.rows
    assert [row.published for row in made(SEEDS[1]).rows] == [row.published for row in one.rows]
    assert [row.ours for row in made(SEEDS[1]).rows] != [row.ours for row in one.rows]


@pytest.mark.parametrize(
    ("rule", "ours", "holds"),
    [
        ("within", 109.9, True),
        ("within", 110.1, False),
        ("within", 90.1, True),
        ("within", 89.9, False),
        ("at least", 100.0, True),
        ("at least", 1000.0, True),
        ("at least", 99.9, False),
        ("at most", 100.0, True),
        ("at most", 1.0, True),
        ("at most", 100.1, False),
    ],
)
def test_a_row_holds_within_its_tolerance_or_bound(rule: str, ours: float, holds: bool) -> None:
    row = Row(name="x", quantile="p50", unit="s", basis="text", published=100.0, ours=ours, rule=rule)  # type: ignore[arg-type]
    assert row.holds is holds
    assert row.difference == pytest.approx(ours / 100 - 1)
