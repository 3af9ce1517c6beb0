"""Published distributions as quantile tables, and the one rule to interpolate between their points.

All tables are from Zhang et al., "Faster and Cheaper Serverless Computing on Harvested Resources", SOSP 2021, read off
the paper's figures (about 1 % of the axis). Below the first and above the last point a table ends: it gives its
smallest and its largest value, so that no sample is more extreme than what was published.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """A distribution by points (share 0..1, value above 0), both rising."""

    source: str
    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        for (p, v), (q, w) in itertools.pairwise(self.points):
            if not (0 <= p < q <= 1 and 0 < v <= w):
                raise ValueError(f"quantiles of {self.source}: ({p}, {v}) and ({q}, {w}) do not rise")

    def at(self, share: float) -> float:
        """The value below which `share` of all samples lie; log-linear between two points."""
        return math.exp(interpolate([(p, math.log(v)) for p, v in self.points], share))


def interpolate(points: Sequence[tuple[float, float]], x: float) -> float:
    """Linear between the points (sorted by their first part); constant outside of them."""
    right = bisect.bisect_right(points, x, key=lambda point: point[0])
    if right == 0:
        return points[0][1]
    if right == len(points):
        return points[-1][1]
    (x0, y0), (x1, y1) = points[right - 1], points[right]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


INVOCATION_DURATION_S = Quantiles(
    source="durations of the trace's invocations, figure 6; shares at 1, 10 and 30 s from the text",
    points=(
        (0.33, 0.001),
        (0.40, 0.011),
        (0.50, 0.032),
        (0.60, 0.086),
        (0.70, 0.26),
        (0.80, 0.44),
        (0.871, 1.0),
        (0.90, 1.7),
        (0.942, 10.0),
        (0.95, 13.0),
        (0.958, 30.0),
        (0.96, 30.6),
        (0.98, 51.0),
        (0.99, 88.0),
        (1.0, 600.0),
    ),
)

VM_LIFETIME_S = Quantiles(
    source="lifetime of a harvest VM, figure 1; cut by the observation window",
    points=(
        (0.005, 90.8),
        (0.01, 739.0),
        (0.02, 4724.0),
        (0.03, 26334.0),
        (0.05, 58045.0),
        (0.10, 229467.0),
        (0.20, 763928.0),
        (0.30, 1005641.0),
        (0.40, 3125561.0),
        (0.50, 3586106.0),
        (0.60, 7130154.0),
        (0.70, 8180769.0),
        (0.80, 9714335.0),
        (0.90, 13697805.0),
        (0.99, 15185264.0),
    ),
)

CORE_CHANGE_INTERVAL_S = Quantiles(
    source="time between two changes of a harvest VM's cores, figure 2",
    points=(
        (0.005, 0.137),
        (0.05, 5.87),
        (0.10, 62.2),
        (0.20, 280.0),
        (0.30, 625.0),
        (0.40, 1069.0),
        (0.50, 1828.0),
        (0.60, 2808.0),
        (0.70, 4803.0),
        (0.80, 10181.0),
        (0.90, 28220.0),
        (0.95, 66594.0),
        (0.99, 120166.0),
    ),
)

# Figure 3: how many cores a change adds (or, the same weight, takes), in per cent of all changes; both sides averaged,
# as the distribution is symmetric. The figure's share at 0 is left out: no change is none.
CORE_CHANGE_WEIGHT = {
    **{1: 2.65, 2: 3.74, 3: 1.95, 4: 2.55, 5: 0.29, 6: 0.98, 7: 2.55, 8: 2.76, 9: 3.85, 10: 0.48},
    **{11: 1.67, 12: 0.68, 13: 2.35, 14: 1.65, 15: 1.47, 16: 0.89, 17: 1.56, 18: 4.72, 19: 0.38, 20: 0.1},
    **{22: 0.38, 23: 0.79, 24: 5.42, 26: 0.19, 27: 0.19, 30: 1.86},
}

NEVER_CHANGED_SHARE = 0.351  # of all harvest VMs
