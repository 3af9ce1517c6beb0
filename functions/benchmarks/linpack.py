"""linpack: solves A x = b for a random dense A of n x n and says how fast and how well.

Arguments: `n` (default 1000), `seed`. Operations are counted as the Linpack benchmark does, 2/3 n^3 + 2 n^2. `residual`
is its scaled residual |A x - b| / (eps n (|A| |x| + |b|)) in the maximum norm: a solution is right where it is below
16. b is made of x = 1, so `max_error` is how far the solution is from what is known.
"""

from __future__ import annotations

import os
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # one call, one core; before numpy is loaded

import numpy as np

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST = 4_000  # 128 MB of matrix, three times: itself, its factors, its absolute values


def whole(args: dict[str, Any], name: str, default: int, low: int, high: int) -> int:
    """The argument `name`. Raises ValueError for anything but a whole number of low..high."""
    value = args.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; give a whole number of {low} to {high}")
    return value


def scaled_residual(a: np.ndarray, x: np.ndarray, b: np.ndarray) -> float:
    """Of order 1 for a backward stable solution, whatever the matrix."""
    norm_a = np.abs(a).sum(axis=1).max()
    scale = np.finfo(a.dtype).eps * len(b) * (norm_a * np.abs(x).max() + np.abs(b).max())
    return float(np.abs(a @ x - b).max() / scale)


def main(args: dict[str, Any]) -> dict[str, Any]:
    try:
        n = whole(args, "n", 1_000, 1, MOST)
        seed = whole(args, "seed", 1, 0, 2**32 - 1)
    except ValueError as error:
        return {"error": f"linpack: {error}"}
    a = np.random.default_rng(seed).uniform(-0.5, 0.5, (n, n))
    b = a.sum(axis=1)
    began_s = time.perf_counter()
    x = np.linalg.solve(a, b)
    solve_s = time.perf_counter() - began_s
    operations = 2 * n**3 / 3 + 2 * n**2
    return {
        "n": n,
        "residual": scaled_residual(a, x, b),
        "max_error": float(np.abs(x - 1).max()),
        "mflops": operations / solve_s / 1e6,
        "solve_ms": solve_s * 1e3,
    }
