"""busy: burns `cpu_ms` of CPU time, however long that takes where the CPU is shared or limited."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def burn(cpu_s: float) -> None:
    """Compute until this process has used `cpu_s` more seconds of CPU."""
    end = time.process_time() + cpu_s
    value = 1
    while time.process_time() < end:
        for _ in range(500):  # some 20 us between looks at the clock
            value = value * 1_103_515_245 + 12_345 & 0x7FFF_FFFF


def main(args: dict[str, Any]) -> dict[str, Any]:
    started_s, cpu_before_s = time.monotonic(), time.process_time()
    burn(float(args.get("cpu_ms", 100)) / 1e3)
    return {"cpu_ms": (time.process_time() - cpu_before_s) * 1e3, "wall_ms": (time.monotonic() - started_s) * 1e3}
