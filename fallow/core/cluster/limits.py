"""What a controller waits for and keeps, bounded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterLimits:
    """Seconds, counts and bytes that bound what a controller waits for and keeps."""

    lost_after_s: float = 5.0  # of silence: the VM is lost
    off_ring_after_s: float = 10.0  # of silence: homes move
    reconnect_grace_s: float = 2.0  # a closed link may come back before its VM is lost
    max_attempts: int = 3
    waiting_calls: int = 10_000  # of the waiting room; calls placed before and durable ones do not count
    waiting_bytes: int = 256 * 2**20
    max_wait_s: float = 30.0  # in the waiting room, for calls that may be refused
    no_vm_wait_s: float = 5.0  # ... where nothing that could take them is there at all
    max_queue_wait_s: float = 30.0  # the longest a VM may queue a call before it gives it back: the invokers' setting
    start_limit_s: float = 60.0  # of a container
    deadline_margin_s: float = 10.0  # on top of what an attempt may take
    why_kept: int = 2000  # stories
