"""Published distributions as quantile tables, and the one rule to interpolate between their points.

All tables are from Zhang et al., "Faster and Cheaper Serverless Computing on Harvested Resources", SOSP 2021, read off
the paper's figures (about 1 % of the axis; on their logarithmic axes that is some 10 to 15 % of a value). Below the
first and above the last point a table ends: it gives its smallest and its largest value, so that no sample is more
extreme than what was published.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """A distribution by points (share 0..1, value above 0), both rising; log-linear between two points."""

    source: str
    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        for (p, v), (q, w) in itertools.pairwise(self.points):
            if not (0 <= p < q <= 1 and 0 < v <= w):
                raise ValueError(f"quantiles of {self.source}: ({p}, {v}) and ({q}, {w}) do not rise")

    def at(self, share: float) -> float:
        """The value below which `share` of all samples lie."""
        return math.exp(interpolate([(p, math.log(v)) for p, v in self.points], share))

    def share_below(self, value: float) -> float:
        """The share of all samples that are at most `value`."""
        if value < self.points[0][1]:
            return 0.0
        right = bisect.bisect_right(self.points, value, key=lambda point: point[1])
        if right == len(self.points):
            return 1.0
        (p, v), (q, w) = self.points[right - 1], self.points[right]
        return p + (q - p) * math.log(value / v) / math.log(w / v)

    def integral(self, share: float = 1.0) -> float:
        """The sum of the smallest `share` of all samples, per sample: the mean where `share` is 1."""
        return sum(mass for mass, _ in self._masses(share))

    def mean(self) -> float:
        return self.integral()

    def length_biased(self) -> tuple[tuple[float, float], ...]:
        """Points (share, value), *linear* between them, of what one meets at a random moment.

        Who looks at a random moment meets an interval (a life, a gap) with a chance in proportion to its length.
        Between two points the value is exp(a + b p), so that its weight, value dp, is dvalue / b: uniform in the
        value.
        """
        masses = list(self._masses(1.0))
        total = sum(mass for mass, _ in masses)
        points = [(0.0, self.points[0][1])]
        met = 0.0
        for mass, value in masses:
            met += mass
            points.append((min(met / total, 1.0), value))
        return tuple(points)

    def _masses(self, until: float) -> list[tuple[float, float]]:
        """(integral over the piece, value at its end) of every piece between two points, up to the share `until`."""
        ends = [(0.0, self.points[0][1]), *self.points, (1.0, self.points[-1][1])]
        masses: list[tuple[float, float]] = []
        for (p, v), (q, w) in itertools.pairwise(ends):
            if p < until and q > p:
                end = w if q <= until else v * (w / v) ** ((until - p) / (q - p))
                mean = v if end == v else (end - v) / math.log(end / v)
                masses.append(((min(q, until) - p) * mean, end))
        return masses


def interpolate(points: Sequence[tuple[float, float]], x: float) -> float:
    """Linear between the points (sorted by their first part); constant outside of them."""
    right = bisect.bisect_right(points, x, key=lambda point: point[0])
    if right == 0:
        return points[0][1]
    if right == len(points):
        return points[-1][1]
    (x0, y0), (x1, y1) = points[right - 1], points[right]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def _curve(values: str, extra: Sequence[tuple[float, float]] = ()) -> tuple[tuple[float, float], ...]:
    """A digitised curve, values at 0.5 %, 1 %, 2 %, ..., 99 %, 99.5 %; and `extra` points known from elsewhere."""
    shares = (0.005, *(percent / 100 for percent in range(1, 100)), 0.995)
    return tuple(sorted([*zip(shares, map(float, values.split()), strict=True), *extra]))


LONG_CALL_S = 30.0  # a call above it is long: the usual notice before an eviction
SHORT_CALL_SHARE = 0.958  # of all invocations take at most LONG_CALL_S

# Figure 6, and the shares at 1, 10 and 30 s and the maximum from the text. The point at 99.9 % is assumed: with it the
# long calls use 83.4 % of the time (the text: 82.0 %, which is what the figure makes if no call exceeds 128 s).
INVOCATION_DURATION_S = Quantiles(
    source="durations of the trace's invocations, figure 6",
    points=_curve(
        """
    0.001 0.001 0.001 0.001 0.001 0.001 0.001 0.001 0.001 0.001 0.001 0.001 0.001 0.001 0.001 0.001 0.001 0.001
    0.001 0.001 0.001 0.001 0.001 0.001 0.001 0.001 0.001 0.001 0.001 0.001 0.001 0.001 0.001 0.001 0.002 0.0021
    0.003 0.0049 0.0071 0.009 0.0111 0.0136 0.0151 0.0151 0.0156 0.0156 0.0161 0.0179 0.0227 0.0309 0.0319 0.0366
    0.042 0.0465 0.0481 0.0498 0.0632 0.0632 0.0776 0.0803 0.086 0.0952 0.0986 0.113 0.1169 0.134 0.1485 0.1823
    0.2089 0.2315 0.2565 0.2841 0.3148 0.3488 0.3734 0.3864 0.3864 0.3864 0.3998 0.4137 0.443 0.4908 0.5627 0.6674
    0.7395 0.8193 0.9077 0.9718 1.1141 1.2773 1.6786 2.3621 3.943 5.1821 8.0791 13.0332 30.6143 31.6781 51.1032
    88.2688 128.526
        """,
        extra=((0.871, 1.0), (0.942, 10.0), (SHORT_CALL_SHARE, LONG_CALL_S), (0.999, 160.0), (1.0, 600.0)),
    ),
)

VM_LIFETIME_S = Quantiles(
    source="lifetime of a harvest VM, figure 1; cut by the observation window",
    points=_curve(
        """
    90.802 738.663 4724.23 26334.2 39774.7 58045.4 64348.7 68926.6 97190.8 174313 229467 254385 282009 312632 472193
    600601 621598 643330 643330 738123 763928 790635 846884 938848 938848 938848 938848 971671 971671 971671 1005640
    1040800 1114840 1323830 1626960 1803630 1999490 2216610 2543230 2819400 3125560 3234830 3234830 3234830 3234830
    3347920 3347920 3347920 3347920 3347920 3586110 3586110 3841230 3975520 4720780 4885820 5056630 5605730 6431730
    6656580 7130150 7130150 7130150 7130150 7379430 7379430 7379430 7637420 7904430 7904430 8180770 8180770 8180770
    8180770 8466770 8762780 8762780 8762780 9069130 9069130 9714330 10054000 10054000 10769200 11145700 11145700
    11145700 11535400 11535400 12356000 13697800 14176700 14672300 14672300 14672300 14672300 15185300 15185300
    15185300 15185300 15185300
        """
    ),
)

CORE_CHANGE_INTERVAL_S = Quantiles(
    source="time between two changes of a harvest VM's cores, figure 2",
    points=_curve(
        """
    0.1371 0.3067 0.7637 0.9465 1.9015 5.8678 13.1233 19.1061 36.3768 50.1938 62.2111 69.259 77.1055 81.356 100.834
    124.975 131.865 163.435 225.513 251.062 279.505 311.17 328.324 365.52 406.93 406.93 453.031 478.005 561.495
    592.448 625.107 625.107 659.567 734.29 817.478 862.542 910.091 960.261 960.261 1013.2 1069.05 1127.98 1190.16
    1255.77 1255.77 1325 1398.04 1475.11 1556.43 1642.22 1828.27 1929.06 2035.4 2147.6 2265.99 2390.91 2522.71
    2522.71 2661.78 2808.51 2808.51 2963.33 3126.69 3299.05 3299.05 3672.8 3875.27 4088.9 4314.3 4552.13 4803.08
    5067.85 5347.22 5641.99 6281.18 6992.78 7378.26 8214.15 9144.74 9648.86 10180.8 11334.1 11959 13313.8 15639.2
    18370.8 20452 21579.5 22769.1 25348.6 28220.4 29776 33149.4 48262.1 56691.6 66593.5 78224.9 87087.1 102298
    120166 157145
        """
    ),
)

# Figure 3: how many cores a change adds (or, the same weight, takes), in per cent of all changes; both sides averaged,
# as the distribution is symmetric. The figure's share at 0 is left out: no change is none.
CORE_CHANGE_WEIGHT = {
    **{1: 2.65, 2: 3.74, 3: 1.95, 4: 2.55, 5: 0.29, 6: 0.98, 7: 2.55, 8: 2.76, 9: 3.85, 10: 0.48},
    **{11: 1.67, 12: 0.68, 13: 2.35, 14: 1.65, 15: 1.47, 16: 0.89, 17: 1.56, 18: 4.72, 19: 0.38, 20: 0.1},
    **{22: 0.38, 23: 0.79, 24: 5.42, 26: 0.19, 27: 0.19, 30: 1.86},
}

# of all harvest VMs, over their whole lives
NEVER_CHANGED_SHARE = 0.351
SHRANK_SHARE = 0.622
GREW_SHARE = 0.541
