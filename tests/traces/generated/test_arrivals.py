"""The model of arrivals: its formula against identities, its draws against the formula, both against real traces."""

from __future__ import annotations

import csv
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.traces.generated.arrivals import ArrivalKind, arrival_kind, arrival_times, longer_gaps, longer_own_gaps
from fallow.traces.generated.invocations import draw_calls, popularity
from fallow.traces.invocations import read_invocations
from support.samples import sample

PERCENTS = (10, 25, 50, 75, 90)


def area(longer: np.ndarray, x_s: np.ndarray) -> float:
    """The mean of gaps of which the share `longer` exceeds `x_s`."""
    return float(((longer[1:] + longer[:-1]) / 2 * np.diff(x_s)).sum())


@given(st.lists(st.floats(0.01, 3.0), min_size=4, max_size=12))
@settings(deadline=None, max_examples=40)
def test_the_gaps_by_formula_have_the_mean_that_the_rates_say(rates: list[float]) -> None:
    """Whatever the model: the mean gap is 1 / the sum of the rates."""
    x_s = np.concatenate(([0.0], np.geomspace(1e-6, 3e3, 40_000)))
    rates_per_s = np.array(rates)
    longer = longer_gaps(x_s, rates_per_s)
    assert longer[0] == pytest.approx(1.0)
    assert (np.diff(longer) <= 1e-9).all()
    assert area(longer, x_s) == pytest.approx(1 / rates_per_s.sum(), rel=0.01)


@pytest.mark.parametrize("kind", ArrivalKind)
def test_the_gaps_of_one_function_have_the_mean_of_its_rate(kind: ArrivalKind) -> None:
    x_s = np.concatenate(([0.0], np.geomspace(1e-6, 1e4, 40_000)))
    rates = np.full(4, 0.05)
    functions = sum(arrival_kind(f) is kind for f in range(4))
    assert area(longer_own_gaps(kind, x_s, rates), x_s) == pytest.approx(20.0, rel=0.01)
    assert functions == (2 if kind is ArrivalKind.POISSON else 1)


def test_poisson_alone_is_exponential() -> None:
    x_s = np.array([0.0, 0.5, 2.0])
    assert longer_gaps(x_s, np.array([1.0])) == pytest.approx(np.exp(-x_s))


@pytest.mark.parametrize("kind", ArrivalKind)
@pytest.mark.parametrize("count", [0, 1, 7, 5000])
def test_arrivals_are_as_many_as_asked_and_within_the_window(kind: ArrivalKind, count: int) -> None:
    times = arrival_times(kind, count, 100.0, np.random.default_rng(1))
    assert len(times) == count
    assert ((times >= 0) & (times < 100.0)).all()


def test_a_timer_is_even_and_a_burst_has_five_calls() -> None:
    timer = np.sort(arrival_times(ArrivalKind.TIMER, 10, 100.0, np.random.default_rng(1)))
    assert np.diff(timer) == pytest.approx([10.0] * 9)
    times = np.sort(arrival_times(ArrivalKind.BURSTS, 50_000, 1e7, np.random.default_rng(1)))
    near = np.diff(times) < 10  # bursts are 1000 s apart
    assert np.mean(near) == pytest.approx(0.8, abs=0.01)
    assert np.diff(times)[near].mean() == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize(("functions", "rate_per_s"), [(4, 0.5), (31, 0.166), (68, 2.5)])
def test_generated_gaps_follow_the_formula_at_any_scale(functions: int, rate_per_s: float) -> None:
    calls = draw_calls(seed=2, window_s=2e5 / rate_per_s, rate_per_s=rate_per_s, functions=functions)
    x_s = np.geomspace(1e-3, 30, 30) / rate_per_s
    expected = longer_gaps(x_s, popularity(functions) * rate_per_s)
    gaps = np.diff(calls.at_s)
    # 0.01: the periods of timers are drawn with the number of calls, and four functions hold few
    assert np.array([np.mean(gaps > x) for x in x_s]) == pytest.approx(expected, abs=0.01)


def test_a_real_excerpt_of_2021_beside_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    """199 calls of 20 minutes: there timers fire on whole minutes together, so that many gaps are next to nothing."""
    path = sample("azure2021_sample/Azure2021_200.csv")
    if path is not None:
        trace = read_invocations(path, window_s=None, seed=1)
        functions, calls, window_s = len(trace.functions), len(trace.calls), trace.window_s
    else:
        functions, calls, window_s = 31, 199, 1200.0
    made = draw_calls(seed=1, window_s=500 * window_s, rate_per_s=calls / window_s, functions=functions)
    ours = np.percentile(np.diff(made.at_s), PERCENTS) * calls / window_s
    lines = [f"gaps between calls / their mean, {calls} calls of {functions} functions: p10, p25, p50, p75, p90"]
    lines.append("  generated      " + " ".join(f"{x:7.3f}" for x in ours))
    if path is not None:
        gaps = np.diff([call.at_s for call in trace.calls])
        real = np.percentile(gaps, PERCENTS) / gaps.mean()
        lines.append("  real excerpt   " + " ".join(f"{x:7.3f}" for x in real))
        assert len(gaps) * gaps.mean() == pytest.approx(window_s, rel=0.01)
        assert real[2] < ours[2] < 1  # more of the real calls come together: told in docs/calibration.md
    else:
        lines.append("  real excerpt   absent (azure2021_sample is not in ../shared/data): only the model was tried")
    with capsys.disabled():
        print("\n" + "\n".join(lines))
    assert len(made.at_s) == pytest.approx(500 * calls, rel=0.02)
    assert 0.4 < ours[2] < 0.8  # 0.69 if all were Poisson; bursts and timers


def dispersion(counts: np.ndarray) -> float:
    """Variance / mean of the calls a minute: 1 if Poisson, below if even, above in bursts."""
    return float(counts.var() / counts.mean())


def test_real_kinds_of_trigger_beside_the_kinds_of_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    """100 functions of 2019, calls a minute for 8 hours: timers are more even than chance, queues come in bursts."""
    rng = np.random.default_rng(1)
    minutes, ours = 480, {}
    for kind in ArrivalKind:
        many = [arrival_times(kind, count, minutes * 60.0, rng) for count in (50, 200, 480, 1000)]
        ours[kind] = np.median([dispersion(np.bincount((t // 60).astype(int), minlength=minutes)) for t in many])
    lines = ["calls a minute, variance / mean, median over functions:"]
    lines.append("  generated      " + ", ".join(f"{kind} {value:.2f}" for kind, value in ours.items()))
    assert ours[ArrivalKind.TIMER] < 0.9 < ours[ArrivalKind.POISSON] < 1.2 < 4 < ours[ArrivalKind.BURSTS] < 10
    path = sample("azure2019_sample/invocations.csv")
    if path is not None:
        real: dict[str, list[float]] = defaultdict(list)
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                counts = np.array([int(value) for column, value in row.items() if column.isdecimal()])
                if counts.sum() >= 20:
                    real[row["Trigger"]].append(dispersion(counts))
        medians = {trigger: float(np.median(found)) for trigger, found in real.items()}
        lines.append("  real excerpt   " + ", ".join(f"{t} {m:.2f} ({len(real[t])})" for t, m in medians.items()))
        assert medians["timer"] < 1 < medians["http"] < medians["queue"]
    else:
        lines.append("  real excerpt   absent (azure2019_sample is not in ../shared/data): only the model was tried")
    with capsys.disabled():
        print("\n" + "\n".join(lines))
