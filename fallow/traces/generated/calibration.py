"""How near the generators come to what was published: one row for each figure, computed from what they produce.

A row holds if ours is within its tolerance of the published value: 10 % for the quantiles p10 to p90, means and
shares, 25 % above p90; a published bound ("more than 99.7 %") holds as a bound. `basis` says where the published
value is from: a figure (digitised), the text, or *model*: where nothing was published, the expectation by a formula
that draws nothing (`arrivals`).

**Invocations** are drawn at the published scale: two weeks, 424 functions, 1.64 calls/s. **VMs** are drawn without the
selection that `generate_vm_traces` makes, many of them over years, and measured as `measure` explains. Lifetimes come
from more lives than changes do, without their changes, as a life has hundreds of these.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fallow.traces.generated.arrivals import ArrivalKind, arrival_kind, longer_gaps, longer_own_gaps
from fallow.traces.generated.draws import Floats
from fallow.traces.generated.durations import LONG_APP_SHARE
from fallow.traces.generated.invocations import (
    PUBLISHED_APPS,
    PUBLISHED_FUNCTIONS,
    Calls,
    draw_calls,
    popularity,
)
from fallow.traces.generated.measure import (
    LONGEST_LIFE_S,
    VmFigures,
    long_app_shares,
    own_gaps,
    vm_figures,
    whole_lives,
)
from fallow.traces.generated.published import (
    CORE_CHANGE_INTERVAL_S,
    CORE_CHANGE_WEIGHT,
    GREW_SHARE,
    INVOCATION_DURATION_S,
    LONG_CALL_S,
    NEVER_CHANGED_SHARE,
    SHRANK_SHARE,
    VM_LIFETIME_S,
    Quantiles,
)
from fallow.traces.generated.vms import draw_lives, draw_vm_traces

DAY_S = 86400.0
PUBLISHED_CALLS = 1_980_951
PUBLISHED_SPAN_S = 14 * DAY_S
RATE_PER_S = PUBLISHED_CALLS / PUBLISHED_SPAN_S
LIFE_VMS, LIFE_SPAN_S = 40_000, LONGEST_LIFE_S + 365 * DAY_S  # some 240,000 whole lives
CHANGE_VMS, CHANGE_SPAN_S = 160, LONGEST_LIFE_S + 3 * 365 * DAY_S  # some 2,800 whole lives, 900,000 changes
BODY, TAIL, COUNT, SYMMETRY = 0.10, 0.25, 0.01, 0.02  # tolerances
PERCENTILES = tuple(percent / 100 for percent in range(1, 100))
DECILES = (10, 20, 30, 40, 50, 60, 70, 80, 90)
_GAPS_S: Floats = np.geomspace(1e-4, 1e7, 4000)

Rule = Literal["within", "at least", "at most"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    name: str
    quantile: str  # "p50", "mean", "share", ...
    unit: str
    basis: str  # "figure 1", "text" or "model"
    published: float
    ours: float
    tolerance: float = BODY  # of the relative difference; of no account where published is a bound
    rule: Rule = "within"

    @property
    def difference(self) -> float:
        """Relative to the published value."""
        return self.ours / self.published - 1

    @property
    def holds(self) -> bool:
        match self.rule:
            case "within":
                return abs(self.difference) <= self.tolerance
            case "at least":
                return self.ours >= self.published
            case "at most":
                return self.ours <= self.published


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One distribution, published and ours, for a plot: (share below, value) of each.

    `differences` are (share below, relative difference of ours), the shares from 1 % to 99 %.
    """

    name: str
    unit: str
    basis: str
    published: tuple[tuple[float, float], ...]
    ours: tuple[tuple[float, float], ...]
    differences: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    seed: int
    rows: tuple[Row, ...]
    curves: tuple[Curve, ...]

    @property
    def broken(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if not row.holds)


def calibrate(seed: int) -> Calibration:
    """Draws traces by seed and compares them. Some five seconds, most of them for the VMs' changes."""
    calls = draw_calls(seed=seed, window_s=PUBLISHED_SPAN_S, rate_per_s=RATE_PER_S, functions=PUBLISHED_FUNCTIONS)
    lives_s = whole_lives(draw_lives(seed=seed, vms=LIFE_VMS, window_s=LIFE_SPAN_S), LIFE_SPAN_S)
    vms = vm_figures(draw_vm_traces(seed=seed, vms=CHANGE_VMS, window_s=CHANGE_SPAN_S), CHANGE_SPAN_S)
    gaps = expected_gaps()
    rows = (*_call_rows(calls), *_gap_rows(calls, gaps), *_life_rows(lives_s, vms), *_change_rows(vms))
    return Calibration(seed=seed, rows=rows, curves=_curves(calls, gaps, lives_s, vms))


def _quantiles(sample: Floats, shares: Sequence[float]) -> list[float]:
    found: list[float] = np.quantile(sample, shares, method="inverted_cdf").tolist()
    return found


def _quantile_rows(
    name: str,
    unit: str,
    basis: str,
    published: Callable[[float], float],
    sample: Floats,
    percents: Sequence[int] = (*DECILES, 99),
) -> Iterator[Row]:
    ours = _quantiles(sample, [percent / 100 for percent in percents])
    for percent, value in zip(percents, ours, strict=True):
        yield Row(
            name=name,
            quantile=f"p{percent}",
            unit=unit,
            basis=basis,
            published=published(percent / 100),
            ours=value,
            tolerance=BODY if percent <= 90 else TAIL,
        )


def _share(name: str, published: float, ours: float, *, rule: Rule = "within") -> Row:
    return Row(name=name, quantile="share", unit="", basis="text", published=published, ours=ours, rule=rule)


def _count(name: str, published: float, ours: float, tolerance: float) -> Row:
    return Row(name=name, quantile="total", unit="", basis="text", published=published, ours=ours, tolerance=tolerance)


def _call_rows(calls: Calls) -> Iterator[Row]:
    took_s = calls.duration_s
    yield _count("invocations in two weeks", PUBLISHED_CALLS, len(took_s), COUNT)
    yield _count("functions called", PUBLISHED_FUNCTIONS, len(np.unique(calls.function)), 0.0)
    yield _count("apps called", PUBLISHED_APPS, len(np.unique(calls.app[calls.function])), 0.0)
    name = "invocation duration"
    yield from _quantile_rows(name, "s", "figure 6", INVOCATION_DURATION_S.at, took_s, (*DECILES, 95, 99))
    yield Row(
        name=name, quantile="max", unit="s", basis="text", published=600.0, ours=float(took_s.max()), tolerance=TAIL
    )
    for limit_s, share in ((1, 0.871), (10, 0.942), (30, 0.958)):
        yield _share(f"invocations of at most {limit_s} s", share, float(np.mean(took_s <= limit_s)))
    long = took_s > LONG_CALL_S
    yield _share("invocations above 30 s", 0.041, float(np.mean(long)))
    yield _share("execution time above 30 s", 0.82, float(took_s[long].sum() / took_s.sum()))
    apps, time = long_app_shares(calls)
    yield _share("long apps (with a call above 30 s)", LONG_APP_SHARE, apps)
    yield _share("execution time of the long apps", 0.997, time, rule="at least")


def expected_gaps() -> dict[str, Quantiles]:
    """Times between calls at the published scale, as the model of arrivals has them by formula."""
    rates = popularity(PUBLISHED_FUNCTIONS) * RATE_PER_S
    gaps = {"all": _by_formula(longer_gaps(_GAPS_S, rates))}
    for kind in (ArrivalKind.POISSON, ArrivalKind.BURSTS):
        gaps[kind.value] = _by_formula(longer_own_gaps(kind, _GAPS_S, rates))
    return gaps


def _by_formula(longer: Floats) -> Quantiles:
    rising = np.maximum.accumulate(1 - longer)
    shares, first = np.unique(rising, return_index=True)
    points = zip(shares.tolist(), _GAPS_S[first].tolist(), strict=True)
    return Quantiles(source="model of arrivals", points=tuple(points))


def _gap_rows(calls: Calls, expected: dict[str, Quantiles]) -> Iterator[Row]:
    yield from _quantile_rows("time between two invocations", "s", "model", expected["all"].at, np.diff(calls.at_s))
    function, gap_s = own_gaps(calls)
    kinds = np.array([arrival_kind(f) for f in range(PUBLISHED_FUNCTIONS)])[function]
    few = (10, 50, 90, 99)
    for kind, words in ((ArrivalKind.POISSON, "Poisson"), (ArrivalKind.BURSTS, "bursts")):
        name = f"... of one function, {words}"
        yield from _quantile_rows(name, "s", "model", expected[kind].at, gap_s[kinds == kind], few)
    timer = kinds == ArrivalKind.TIMER
    periods = gap_s[timer] * (popularity(PUBLISHED_FUNCTIONS) * RATE_PER_S)[function[timer]]
    yield from _quantile_rows("... of one function, timer", "periods", "model", lambda share: 1.0, periods, few)


def _life_rows(lives_s: Floats, vms: VmFigures) -> Iterator[Row]:
    name = "VM lifetime"
    yield from _quantile_rows(name, "days", "figure 1", lambda share: VM_LIFETIME_S.at(share) / DAY_S, lives_s / DAY_S)
    mean_days = float(lives_s.mean()) / DAY_S
    yield Row(name=name, quantile="mean", unit="days", basis="text", published=61.5, ours=mean_days)
    yield _share("VMs that live over 1 day", 0.9, float(np.mean(lives_s > DAY_S)), rule="at least")
    yield _share("VMs that live over 30 days", 0.6, float(np.mean(lives_s > 30 * DAY_S)), rule="at least")
    yield _share("VMs that never changed", NEVER_CHANGED_SHARE, float(np.mean(~vms.shrank & ~vms.grew)))
    yield _share("VMs that shrank", SHRANK_SHARE, float(np.mean(vms.shrank)))
    yield _share("VMs that grew", GREW_SHARE, float(np.mean(vms.grew)))


def _change_rows(vms: VmFigures) -> Iterator[Row]:
    name = "interval between core changes"
    yield from _quantile_rows(name, "s", "figure 2", CORE_CHANGE_INTERVAL_S.at, vms.interval_s)
    yield _share("intervals above 10 min", 0.70, float(np.mean(vms.interval_s > 600)))
    yield _share("intervals above 1 h", 0.35, float(np.mean(vms.interval_s > 3600)))
    name, size = "size of a core change", np.abs(vms.change)
    yield from _quantile_rows(name, "cores", "figure 3", _published_size, size)
    yield Row(name=name, quantile="mean", unit="cores", basis="text", published=12.0, ours=float(size.mean()))
    yield _cores("largest core change", 30.0, float(size.max()), "at most")
    yield Row(
        name="changes that shrink",
        quantile="share",
        unit="",
        basis="text",
        published=0.5,
        ours=float(np.mean(vms.change < 0)),
        tolerance=SYMMETRY,
    )
    yield _cores("least cores", 2.0, vms.least_cores, "at least")
    yield _cores("most cores", 32.0, vms.most_cores, "at most")


def _cores(name: str, published: float, ours: float, rule: Rule) -> Row:
    return Row(name=name, quantile="", unit="cores", basis="text", published=published, ours=ours, rule=rule)


def _size_shares() -> tuple[tuple[float, float], ...]:
    """(share of the changes of at most so many cores, cores), published."""
    total = sum(CORE_CHANGE_WEIGHT.values())
    return tuple(
        (up_to / total, float(cores))
        for up_to, cores in zip(itertools.accumulate(CORE_CHANGE_WEIGHT.values()), CORE_CHANGE_WEIGHT, strict=True)
    )


def _published_size(share: float) -> float:
    return next(cores for up_to, cores in _size_shares() if up_to >= share)


def _curves(calls: Calls, gaps: dict[str, Quantiles], lives_s: Floats, vms: VmFigures) -> tuple[Curve, ...]:
    in_days = Quantiles(source="figure 1", points=tuple((p, v / DAY_S) for p, v in VM_LIFETIME_S.points))
    sizes = _size_shares()
    return (
        _curve("invocation duration", "s", "figure 6", INVOCATION_DURATION_S.points, calls.duration_s),
        _curve("time between two invocations", "s", "model", gaps["all"].points, np.diff(calls.at_s)),
        _curve("VM lifetime", "days", "figure 1", in_days.points, lives_s / DAY_S),
        _curve("interval between core changes", "s", "figure 2", CORE_CHANGE_INTERVAL_S.points, vms.interval_s),
        _curve("size of a core change", "cores", "figure 3", sizes, np.abs(vms.change), at=_published_size),
    )


def _curve(
    name: str,
    unit: str,
    basis: str,
    published: tuple[tuple[float, float], ...],
    sample: Floats,
    *,
    at: Callable[[float], float] | None = None,
) -> Curve:
    """`at` gives the published quantile; None = log-linear between the points."""
    at = Quantiles(source=basis, points=published).at if at is None else at
    fine = [*(i / 200 for i in range(1, 200)), 0.999]
    return Curve(
        name=name,
        unit=unit,
        basis=basis,
        published=published,
        ours=tuple(zip(fine, _quantiles(sample, fine), strict=True)),
        differences=tuple(
            (share, ours / at(share) - 1)
            for share, ours in zip(PERCENTILES, _quantiles(sample, PERCENTILES), strict=True)
        ),
    )
