"""trace: stands for one function of an invocation trace: takes `duration_ms` and burns `cpu_ms` of CPU evenly over it.

It never runs faster than that, however many cores its VM has: one thread on an emulated core would not either. On a
VM that is short of CPU every slice takes longer, and what was lost is not made up for.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SLICE_S = 0.025


def burn(cpu_s: float) -> None:
    end_s = time.process_time() + cpu_s
    value = 1
    while time.process_time() < end_s:
        for _ in range(500):  # some 20 us between looks at the clock
            value = value * 1_103_515_245 + 12_345 & 0x7FFF_FFFF


def main(args: dict[str, Any]) -> dict[str, Any]:
    duration_s, cpu_s = float(args.get("duration_ms", 0)) / 1e3, float(args.get("cpu_ms", 0)) / 1e3
    cpu_before_s = time.process_time()
    slices = max(1, round(duration_s / SLICE_S))
    for _ in range(slices):
        slice_ends_s = time.monotonic() + duration_s / slices
        burn(cpu_s / slices)
        left_s = slice_ends_s - time.monotonic()
        if left_s > 0:
            time.sleep(left_s)
    return {"cpu_ms": (time.process_time() - cpu_before_s) * 1e3}
