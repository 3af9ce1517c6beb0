"""The two clocks of a process. core is given `mono_s`; records are stamped with `unix_ms`."""

from __future__ import annotations

import time


def mono_s() -> float:
    """Seconds on the monotonic clock; meaningless in another process, so never sent."""
    return time.monotonic()


def unix_ms() -> int:
    """Wall-clock milliseconds since 1970, UTC. It may jump; use it for stamps, never for intervals."""
    return time.time_ns() // 1_000_000
