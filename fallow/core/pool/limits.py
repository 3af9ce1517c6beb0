"""The bounds of one VM's pool, and the numbers its rules rest on."""

from __future__ import annotations

from dataclasses import dataclass

SAMPLES = 5  # one-second samples of the VM's memory that count
STARTS_PER_CALL = 2  # a failed container start is tried once more
PREWARM_RETRY_S = 5.0  # after a failed start ahead of time


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """The bounds of one VM's pool."""

    queue_calls: int
    queue_bytes: int  # of arguments
    keep_alive_s: float  # an idle container older than this is destroyed
    reserve_after_s: float = 1.0  # from then on freed memory is kept for the call that waits longest
    max_queue_wait_s: float = 30.0  # a call that waited so long is given back
    max_starts: int = 4  # containers starting at once
    cpu_fraction: float = 0.9  # of the cores, above which nothing is admitted
    prewarm: tuple[tuple[str, int, int], ...] = ()  # (kind, memory_mb, containers to keep ready)
