"""What all generators draw with: a stream of chance for every purpose, and values of a quantile table."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fallow.traces.generated.published import Quantiles

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


def stream(seed: int, purpose: str) -> np.random.Generator:
    """A stream of its own for every purpose: to change how one thing is drawn leaves the others as they were."""
    return np.random.default_rng([seed % (1 << 64), *purpose.encode()])


def values(table: Quantiles, shares: Floats) -> Floats:
    """`table.at` of every share."""
    points = np.array(table.points)
    found: Floats = np.exp(np.interp(shares, points[:, 0], np.log(points[:, 1])))
    return found


def met(table: Quantiles, shares: Floats) -> Floats:
    """The length of what one meets at a random moment, at every share of `Quantiles.length_biased`."""
    points = np.array(table.length_biased())
    found: Floats = np.interp(shares, points[:, 0], points[:, 1])
    return found
