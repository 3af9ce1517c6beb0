"""trace: stands for one function of an invocation trace: burns `cpu_ms` of CPU time, then sleeps `sleep_ms`."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(args: dict[str, Any]) -> dict[str, Any]:
    cpu_before_s = time.process_time()
    end_s = cpu_before_s + float(args.get("cpu_ms", 0)) / 1e3
    value = 1
    while time.process_time() < end_s:
        for _ in range(500):  # some 20 us between looks at the clock
            value = value * 1_103_515_245 + 12_345 & 0x7FFF_FFFF
    sleep_s = float(args.get("sleep_ms", 0)) / 1e3
    if sleep_s > 0:
        time.sleep(sleep_s)
    return {"cpu_ms": (time.process_time() - cpu_before_s) * 1e3}
