"""matmult: multiplies two random n x n matrices of small whole numbers in double precision.

Arguments: `n` (default 1000), `seed`. Every product and sum is a whole number far below 2^53, so the answer is exact:
`checksum` (the sum of the product's elements) equals the column sums of A times the row sums of B, and `trace` and
`corner` (its last element) follow from n products each.
"""

from __future__ import annotations

import os
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # one call, one core; before numpy is loaded

import numpy as np

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST = 3_000  # three matrices of 72 MB, and one more while they are made
LARGEST = 9  # elements are -9..9


def whole(args: dict[str, Any], name: str, default: int, low: int, high: int) -> int:
    """The argument `name`. Raises ValueError for anything but a whole number of low..high."""
    value = args.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; give a whole number of {low} to {high}")
    return value


def matrices(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(-LARGEST, LARGEST + 1, (n, n)).astype(np.float64) for _ in range(2))
    return a, b


def main(args: dict[str, Any]) -> dict[str, Any]:
    try:
        n = whole(args, "n", 1_000, 1, MOST)
        seed = whole(args, "seed", 1, 0, 2**32 - 1)
    except ValueError as error:
        return {"error": f"matmult: {error}"}
    a, b = matrices(n, seed)
    began_s = time.perf_counter()
    product = a @ b
    multiply_s = time.perf_counter() - began_s
    return {
        "n": n,
        "checksum": int(product.sum()),
        "trace": int(np.trace(product)),
        "corner": int(product[-1, -1]),
        "mflops": 2 * n**3 / multiply_s / 1e6,
        "multiply_ms": multiply_s * 1e3,
    }
