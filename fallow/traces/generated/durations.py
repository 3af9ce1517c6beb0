"""Which function's calls take how long, so that the durations of all calls together follow the published curve.

A call's duration is a quantile of `INVOCATION_DURATION_S`, and each function has its part of the quantiles 0..1.

**Apps.** `LONG_APP_SHARE` of the apps are *long*: only they have calls above 30 s (the quantiles above c = 0.958). The
other apps' calls are all quick: they make up a constant share k of the calls at every quantile below q, and none above
it, where q is such that they use `SHORT_TIME_SHARE` of the execution time. With W the short apps' share of the calls,
k = W / q. Which apps are long is drawn, from those draws where the short apps have at most `MOST_SHORT_CALLS` of the
calls: more of them could not all be so quick.

**Parts.** Within both sorts of apps the functions, sorted from quick to slow (rare functions are mostly slow), share
out their sort's quantiles in proportion to their calls. `STRAY_SHARE` of a function's calls leave its part: those of
a short app fall anywhere in its sort's quantiles; half of those of a long app fall above 30 s, half anywhere below.

**Why the mix is exact.** Short and long calls together fill each quantile: k + (1 - k) below q, 1 above it. Within a
sort the own parts fill just what the strays leave. And as each function's number of calls has a Poisson distribution,
the durations of all calls are independent draws from the curve, given their number.

Example: W = 0.4 makes q = 0.66 and k = 0.61: three of five calls below the quantile 0.66 (0.15 s) are short apps', the
rest long apps'. Of 1000 calls 42 exceed 30 s: 15 are strays of the long apps (0.6 x 1000 x 0.05 / 2), so that each long
app has some; 27 belong to functions nearly all of whose calls do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fallow.traces.generated.draws import Flags, Floats, Ints
from fallow.traces.generated.published import SHORT_CALL_SHARE, Quantiles

LONG_APP_SHARE = 0.487  # of the published trace's apps had at least one call above 30 s
SHORT_TIME_SHARE = 0.0025  # of the execution time, in the other apps: published is less than 0.3 %
MOST_SHORT_CALLS = 0.5
STRAY_SHARE = 0.05
LONG_STRAYS = 0.5  # of a long app's strays exceed 30 s
SLOWNESS_SPREAD = 1.5  # standard deviation of log slowness beside log rarity
_ASSIGNMENTS = 64  # draws of which apps are long


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sort:
    """The quantiles of one sort of apps: between `edges` so much `own` and `stray` mass, evenly."""

    edges: Floats
    own: Floats
    stray: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One function's part of its sort: the own mass from `low` to `high`."""

    sort: _Sort
    low: float
    high: float

    def draw(self, count: int, rng: np.random.Generator) -> Floats:
        """Quantiles of `count` calls."""
        strays = rng.random(count) < STRAY_SHARE
        place = rng.random(count)
        own = _spread(self.low + place * (self.high - self.low), self.sort.own, self.sort.edges)
        stray = _spread(place * self.sort.stray.sum(), self.sort.stray, self.sort.edges)
        quantiles: Floats = np.where(strays, stray, own)
        return quantiles


def _spread(place: Floats, mass: Floats, edges: Floats) -> Floats:
    """The quantile below which so much of the mass lies."""
    found: Floats = np.interp(place, np.concatenate(([0.0], np.cumsum(mass))), edges)
    return found


def long_apps(app_of: Ints, weights: Floats, rng: np.random.Generator) -> Flags:
    """By app, whether it is long; at least one is."""
    by_app = np.bincount(app_of, weights=weights)
    long = np.arange(len(by_app)) < max(1, round(LONG_APP_SHARE * len(by_app)))
    for _ in range(_ASSIGNMENTS):
        drawn: Flags = rng.permutation(long)
        if by_app[~drawn].sum() <= MOST_SHORT_CALLS:
            return drawn
    heaviest = np.empty_like(long)  # a handful of apps, with one that has nearly all calls
    heaviest[np.argsort(-by_app, kind="stable")] = long
    return heaviest


def function_parts(weights: Floats, long: Flags, table: Quantiles, rng: np.random.Generator) -> list[Part]:
    """By function, its part of the quantiles; `weights` are their shares of the calls, `long` is of their apps."""
    slowness = -np.log(weights) + rng.normal(0.0, SLOWNESS_SPREAD, len(weights))
    parts: dict[int, Part] = {}
    for members, sort in zip((~long, long), _sorts(float(weights[~long].sum()), table), strict=True):
        order = np.flatnonzero(members)[np.argsort(slowness[members])]
        own = weights[order] * (sort.own.sum() / max(weights[order].sum(), np.finfo(float).tiny))
        ends = np.cumsum(own)
        for function, low, high in zip(order.tolist(), (ends - own).tolist(), ends.tolist(), strict=True):
            parts[function] = Part(sort=sort, low=low, high=high)
    return [parts[function] for function in range(len(weights))]


def _sorts(short: float, table: Quantiles) -> tuple[_Sort, _Sort]:
    """The quantiles of the short apps, which make `short` of the calls, and of the long ones."""
    quick = _quick_until(short, table)
    at = np.array([quick, SHORT_CALL_SHARE - quick, 1 - SHORT_CALL_SHARE])
    whole = at - np.array([short, 0.0, 0.0])
    strays = STRAY_SHARE * (1 - short)
    below = whole[:2] * (strays * (1 - LONG_STRAYS) / whole[:2].sum())
    stray = np.append(below, strays * LONG_STRAYS)
    return (
        _Sort(
            edges=np.array([0.0, quick]),
            own=np.array([short * (1 - STRAY_SHARE)]),
            stray=np.array([short * STRAY_SHARE]),
        ),
        _Sort(edges=np.array([0.0, quick, SHORT_CALL_SHARE, 1.0]), own=whole - stray, stray=stray),
    )


def _quick_until(short: float, table: Quantiles) -> float:
    """q: the short apps' calls, an equal share of those at each quantile below it, use their share of the time.

    It is at least `short`; so where that is high, which only a trace of few functions has, they use more.
    """
    budget_s = SHORT_TIME_SHARE * table.mean()
    low, high = max(short, 1e-9), SHORT_CALL_SHARE
    for _ in range(50):
        middle = (low + high) / 2
        if short * table.integral(middle) / middle <= budget_s:
            low = middle
        else:
            high = middle
    return low
