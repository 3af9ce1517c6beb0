"""float_op: sine, cosine and square root of 0 .. n-1, added up. Standard library only.

Arguments: `n` (default 1,000,000). Answers with the three sums, which have closed forms or bounds to check them by.
After FunctionBench's float_operation, which keeps no result.
"""

from __future__ import annotations

import math
import time

TYPE_CHECKING = False  # typing takes longer to import than a small run
if TYPE_CHECKING:
    from typing import Any

MOST = 100_000_000


def whole(args: dict[str, Any], name: str, default: int, low: int, high: int) -> int:
    """The argument `name`. Raises ValueError for anything but a whole number of low..high."""
    value = args.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; give a whole number of {low} to {high}")
    return value


def main(args: dict[str, Any]) -> dict[str, Any]:
    try:
        n = whole(args, "n", 1_000_000, 1, MOST)
    except ValueError as error:
        return {"error": f"float_op: {error}"}
    began_s = time.perf_counter()
    sines = cosines = roots = 0.0
    for i in range(n):
        sines += math.sin(i)
        cosines += math.cos(i)
        roots += math.sqrt(i)
    return {
        "n": n,
        "sum_sin": sines,
        "sum_cos": cosines,
        "sum_sqrt": roots,
        "compute_ms": (time.perf_counter() - began_s) * 1e3,
    }
