"""Memory of one VM: what is free for a container to start or wake in, and which idle ones make room.

The rule stands in the text of `state`: what runs or starts holds its limit, what is idle what it has resident, and what
was measured of the whole VM bounds the sum.
"""

from __future__ import annotations

from collections.abc import Iterable

from fallow.core.model import ContainerId
from fallow.core.pool.containers import IDLE, Container
from fallow.core.pool.ledger import PoolLedger


class PoolMemory:
    """Judges by the containers of `ledger`, and destroys idle ones there."""

    def __init__(self, ledger: PoolLedger) -> None:
        self._ledger = ledger
        self._capacity_mb = 0.0
        self._peak_mb = 0.0
        self._pressure_relieved = False  # an idle container was destroyed because of what the last sample measured

    def measured(self, capacity_mb: float, peak_mb: float, idle_mb: Iterable[tuple[ContainerId, float]]) -> None:
        """The VM's memory now, the largest of the last samples of its use, and what idle containers have resident."""
        self._capacity_mb = capacity_mb
        self._peak_mb = peak_mb
        self._pressure_relieved = False
        table = self._ledger.containers
        for container_id, resident_mb in idle_mb:
            container = table.get(container_id)
            if container is not None and container.state in IDLE:
                table.measured(container, resident_mb)
        while table.reserved_mb - table.destroying_mb > capacity_mb and (oldest := table.oldest_idle()):
            self._ledger.destroy(oldest, "the VM has less memory now")

    def room_mb(self) -> float:
        """Free for containers, without destroying any."""
        table = self._ledger.containers
        measured_mb = self._peak_mb if table.busy_count or table.starting_count else 0.0  # of what is gone
        return self._capacity_mb - max(measured_mb, table.reserved_mb)

    def may_start(self, memory_mb: float, *, promised_mb: float) -> bool:
        """Is there room for a new container of that limit, or no other at all?"""
        return memory_mb <= self.room_mb() - promised_mb or len(self._ledger.containers) == 0

    def may_wake(self, idle: Container, *, promised_mb: float) -> bool:
        """Is what its call may use on top of what it holds free, or no other container there?"""
        more_mb = idle.memory_mb - idle.held_mb
        return more_mb <= 0 or more_mb <= self.room_mb() - promised_mb or len(self._ledger.containers) == 1

    def is_hopeless(self, need_mb: float, *, promised_mb: float, but: Container | None = None) -> bool:
        """Could not even all idle containers, `but` one, make room beside what is kept for calls that come before?

        Never where nothing runs or starts: no memory would become free by itself.
        """
        table = self._ledger.containers
        spare_mb = table.idle_mb - (but.held_mb if but else 0)
        alone = table.busy_count == 0 and table.starting_count == 0
        return self._lacking_mb(need_mb, promised_mb) > spare_mb and not alone

    def make_room(self, need_mb: float, *, promised_mb: float, but: Container | None = None) -> None:
        """Destroy the oldest idle containers, `but` one, until it fits. `promised_mb` is kept for calls before."""
        table = self._ledger.containers
        lacking_mb = self._lacking_mb(need_mb, promised_mb)
        while lacking_mb > 0 and (oldest := table.oldest_idle(but=but)) is not None:
            lacking_mb -= oldest.held_mb
            self._ledger.destroy(oldest, "its memory is needed")
        if lacking_mb <= 0 and table.destroying_mb == 0 and not self._pressure_relieved:
            # By what they hold it fits; what was measured forbids it. One at a time, then look again.
            self._pressure_relieved = True
            if (oldest := table.oldest_idle(but=but)) is not None:
                self._ledger.destroy(oldest, "more memory is used than was reserved")

    def _lacking_mb(self, need_mb: float, promised_mb: float) -> float:
        """What is missing once those that are being destroyed are gone."""
        table = self._ledger.containers
        soon_mb = self._capacity_mb - (table.reserved_mb - table.destroying_mb) - promised_mb
        return need_mb - soon_mb
