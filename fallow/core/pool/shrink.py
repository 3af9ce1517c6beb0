"""Whom a shrink keeps waiting in the VM's queue: admission as it would be with the cores of before (waits)."""

from __future__ import annotations

from fallow.core.pool.containers import ContainerTable
from fallow.core.pool.queue import CallQueue, CodeKey
from fallow.core.pool.waits import Waited


class ShrinkWatch:
    """The most cores, and the most CPU in use, since the queue was last empty."""

    __slots__ = ("_cores_most", "_demand_cores")

    def __init__(self) -> None:
        self._cores_most = 0.0
        # The most that was measured before a shrink: after it, what is measured is what the cores left allow.
        self._demand_cores = 0.0

    def queue_empty(self, cores: float) -> None:
        self._cores_most, self._demand_cores = cores, 0.0

    def cores_measured(self, before: float, cores: float, *, used_cores: float, queue: CallQueue) -> None:
        """The VM's cores now; `used_cores` was measured with those before. O(queue) where it grew, else O(1)."""
        if cores < before:
            self._demand_cores = max(self._demand_cores, used_cores)
        elif cores > before:
            self._cores_most = max(self._cores_most, cores)
            for call in queue.turns():
                call.cores_most = max(call.cores_most, cores)

    def held(
        self,
        queue: CallQueue,
        table: ContainerTable,
        *,
        cores: float,
        cpu_fraction: float,
        used_cores: float,
        room_mb: float,
        starts: int,
    ) -> list[Waited]:
        """Those that would start with the most cores they have seen here. O(queue) after a shrink, else O(1).

        The pool's own rule, in the order of turns: the CPU measured, or the weights of what runs or starts and of those
        who would start before, within `cpu_fraction` of those cores; and then a warm container, or one of `starts`
        and `room_mb` for a new one. Whom memory or starts would stop does not wait because of the shrink.
        """
        if cores >= self._cores_most:
            return []
        demand_cores, cap_cores = max(used_cores, self._demand_cores), table.cap_cores
        warm_taken: set[CodeKey] = set()
        held: list[Waited] = []
        for call in queue.turns():
            limit_cores = cpu_fraction * call.cores_most
            if demand_cores > limit_cores and cap_cores > limit_cores:
                continue
            key = call.code_key
            warm = None if key in warm_taken else table.warmest(key)
            if warm is not None and warm.memory_mb - warm.held_mb <= room_mb:
                warm_taken.add(key)
                room_mb -= warm.memory_mb - warm.held_mb
            elif starts > 0 and call.action.memory_mb <= room_mb:
                starts -= 1
                room_mb -= call.action.memory_mb
            else:
                continue
            cap_cores += call.cap_cores
            if call.waited is not None:
                held.append(call.waited)
        return held
