"""How the cores of a harvest VM change: a chain over 2..32 cores whose changes have the published sizes.

Figure 3 says how often a change has which size, not from where to where. A draw of the size among those that stay
within 2..32 would favour small changes, because large ones rarely fit. So the chain is built from its *flow*, the
share of all changes that go from i to j cores: a size d has its published share w(d), half of it up and half of it
down, spread evenly over the 31 - d places where it fits:

    flow(i, j) = w(|i - j|) / 2 / (31 - |i - j|)        (i, j in 2..32)

The flow is symmetric, so what enters a size leaves it: with the start s(i) = sum over j of flow(i, j), which is what
the chain tends to anyway, and the step P(i, j) = flow(i, j) / s(i), every change from the first on has the published
sizes, up as often as down. No equation has to be solved. Example: a change of 30 cores has the share 4 %: 2 % go from
2 to 32 and 2 % from 32 to 2. s(2) is 5.1 %, so at 2 cores 39 % of the changes go to 32. s lies between 2.8 and 5.1 %
everywhere: VMs are of any size, a little more often of the least and the largest. Mean 17 cores. (How often a VM has
which cores is not published.)
"""

from __future__ import annotations

import bisect

import numpy as np

from fallow.traces.generated.draws import Floats
from fallow.traces.generated.published import CORE_CHANGE_WEIGHT

MIN_CORES, MAX_CORES = 2, 32
_SIZES = MAX_CORES - MIN_CORES + 1


def change_flow() -> Floats:
    """The share of all changes from MIN_CORES + row to MIN_CORES + column; symmetric, with sum 1."""
    weight = np.zeros(_SIZES)
    weight[list(CORE_CHANGE_WEIGHT)] = list(CORE_CHANGE_WEIGHT.values())
    size = np.abs(np.subtract.outer(np.arange(_SIZES), np.arange(_SIZES)))
    flow: Floats = (weight / weight.sum() / 2 / (_SIZES - np.arange(_SIZES)))[size]
    return flow


def _rising(shares: Floats) -> list[float]:
    """Cumulative shares, the last one exactly 1, for bisection."""
    rising: list[float] = (np.cumsum(shares) / shares.sum()).tolist()
    return [*rising[:-1], 1.0]


_FLOW = change_flow()
_START = _rising(_FLOW.sum(axis=1))
_STEP = [_rising(row) for row in _FLOW]
_SHRINK = _rising(np.tril(_FLOW).ravel())


def draw_cores(rng: np.random.Generator) -> int:
    """The cores of a VM met at any moment."""
    return MIN_CORES + bisect.bisect_right(_START, rng.random())


def draw_walk(cores: int, changes: int, rng: np.random.Generator) -> list[int]:
    """The cores after each of so many changes, from `cores` on."""
    walk: list[int] = []
    at = cores - MIN_CORES
    for chance in rng.random(changes).tolist():
        at = bisect.bisect_right(_STEP[at], chance)
        walk.append(MIN_CORES + at)
    return walk


def draw_shrink(rng: np.random.Generator) -> tuple[int, int]:
    """Cores before and after one change that takes cores; read backwards, one that adds them."""
    before, after = divmod(bisect.bisect_right(_SHRINK, rng.random()), _SIZES)
    return MIN_CORES + before, MIN_CORES + after
