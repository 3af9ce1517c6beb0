"""Which container a call gets, and which calls of the queue get one now. The rules stand in the text of `state`.

**Order.** The queue is asked by turns. What one call of an action cannot get, the next cannot either, and memory that
is kept for one call is not there for those behind it.

**Cost.** Most events let nobody start, however many wait. So before the queue is walked, and again whenever the walk
has changed something, it is asked for whom a turn would change anything: by need, that is by kind and memory, and by
action where one has a warm container. The answer holds for every call of that need until something changes: a walk
passes the others by, and ends where there is nobody.

Example: 256 calls of 40 actions wait, all of kind python:3, with 256 or 512 MB; four containers start, which is all
that may, and a run of action A ends. Three questions are asked: for 256 MB and for 512 MB nothing can start, A has a
warm container. The walk passes by to the first call of A and gives it that one; then nothing is left for the two needs
or for A, and the walk ends.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import assert_never

from fallow.core.pool.containers import Container
from fallow.core.pool.ledger import PoolLedger
from fallow.core.pool.limits import PoolLimits
from fallow.core.pool.memory import PoolMemory
from fallow.core.pool.queue import CodeKey, PoolCall, Stock


class Way(Enum):
    """What a call's turn comes to."""

    WAKE = auto()  # it runs in an idle container
    ADOPT = auto()  # it waits for one that starts and that no call waits for
    START = auto()  # one is started for it
    MAKE_ROOM = auto()  # idle ones are destroyed, and memory is kept for it
    WAIT = auto()  # nothing changes


class PoolPlacing:
    """Gives the calls of `ledger` containers, as far as `limits` and `memory` let it."""

    def __init__(self, limits: PoolLimits, ledger: PoolLedger, memory: PoolMemory) -> None:
        self._limits = limits
        self._ledger = ledger
        self._memory = memory

    def at_once(self, call: PoolCall) -> bool:
        """Without a turn in the queue: where nobody waits, or in a container that no one who waits could use.

        After every event all that could start has started, so an idle container that is still there is nobody else's.
        """
        oldest = self._ledger.queue.oldest()
        if oldest is None:
            return self._place(call, promised_mb=0, first=False) is None
        if self._comes_first(oldest):
            return False  # memory is kept for it
        idle = self._idle_for(call)
        if idle is None or not self._memory.may_wake(idle, promised_mb=0):
            return False
        self._ledger.run(call, idle, prewarmed=idle.code_key is None)
        return True

    def start_queued(self, cpu_open: Callable[[], bool]) -> None:
        """Start every queued call that may start; `cpu_open` says whether CPU admits another as things are."""
        queue = self._ledger.queue
        oldest = queue.oldest()
        if oldest is None:
            return
        promised_mb = 0.0
        blocked: set[CodeKey] = set()  # what one call of an action cannot get, the next cannot either
        if self._comes_first(oldest):
            if not cpu_open():
                return
            kept_mb = self._place(oldest, promised_mb=promised_mb, first=True)
            if kept_mb is not None:
                promised_mb += kept_mb
                blocked.add(oldest.code_key)
        changed = True  # something, since CPU and memory were asked
        for call in queue.turns():
            if call is oldest and call.code_key in blocked:
                continue
            if changed:
                if not cpu_open():
                    return
                stocks, actions = self._open_to(promised_mb, blocked)
                changed = False
            if not stocks and not actions:
                return
            if call.code_key in blocked:
                continue
            if call.stock not in stocks and call.code_key not in actions:
                blocked.add(call.code_key)
                continue
            kept_mb = self._place(call, promised_mb=promised_mb, first=False)
            if kept_mb is not None:
                promised_mb += kept_mb
                blocked.add(call.code_key)
            changed = True

    def _comes_first(self, oldest: PoolCall) -> bool:
        """Has it waited so long that it is asked first and memory is kept for it?"""
        return self._ledger.now_s - oldest.arrived_s >= self._limits.reserve_after_s

    def _open_to(self, promised_mb: float, blocked: set[CodeKey]) -> tuple[set[Stock], set[CodeKey]]:
        """By need and by action, of whom a turn would change anything; those in `blocked` have had theirs.

        An action stands there for its warm container, where its need does not. O(needs + actions with one).
        """
        table = self._ledger.containers
        stocks: set[Stock] = set()
        actions: set[CodeKey] = set()
        for stock, waiting in self._ledger.queue.needs.items():
            if waiting.keys() <= blocked:
                continue
            if self._way(stock, table.prewarmed(stock), promised_mb, first=False) is not Way.WAIT:
                stocks.add(stock)
                continue
            for key in table.warm_among(waiting.keys()):
                if self._way(stock, table.warmest(key), promised_mb, first=False) is not Way.WAIT:
                    actions.add(key)
        actions -= blocked
        return stocks, actions

    def _place(self, call: PoolCall, *, promised_mb: float, first: bool) -> float | None:
        """Run the call or start a container for it: None. Else the memory to keep for it, destroying idle containers.

        `promised_mb` is kept for calls that come before; `first` = all memory that becomes free is this call's.
        """
        ledger, idle = self._ledger, self._idle_for(call)
        match self._way(call.stock, idle, promised_mb, first=first):
            case Way.WAKE:
                assert idle is not None
                ledger.run(call, idle, prewarmed=idle.code_key is None)
            case Way.ADOPT:
                orphan = ledger.containers.orphan(call.stock)
                assert orphan is not None
                ledger.wait_for(call, orphan)
            case Way.START:
                ledger.wait_for(call, ledger.start(call.stock, call))
            case Way.MAKE_ROOM:
                need_mb = _need_mb(call.stock, idle)
                self._memory.make_room(need_mb, promised_mb=promised_mb, but=idle)
                return need_mb
            case Way.WAIT:
                return 0
            case way:
                assert_never(way)
        return None

    def _way(self, stock: Stock, idle: Container | None, promised_mb: float, *, first: bool) -> Way:
        """For a call that needs such a container and would run in `idle`. Changes nothing; O(containers that start)."""
        table, memory = self._ledger.containers, self._memory
        if idle is not None and memory.may_wake(idle, promised_mb=promised_mb):
            return Way.WAKE
        if table.orphan(stock) is not None:
            return Way.ADOPT
        if idle is None:
            if table.starting_count >= self._limits.max_starts:
                return Way.WAIT
            if memory.may_start(stock[1], promised_mb=promised_mb):
                return Way.START
        if not first and memory.is_hopeless(_need_mb(stock, idle), promised_mb=promised_mb, but=idle):
            return Way.WAIT  # others may overtake
        return Way.MAKE_ROOM

    def _idle_for(self, call: PoolCall) -> Container | None:
        """The idle container that the call would run in: warm, else prewarmed."""
        table = self._ledger.containers
        return table.warmest(call.code_key) or table.prewarmed(call.stock)


def _need_mb(stock: Stock, idle: Container | None) -> float:
    """Memory to run in `idle` on top of what it holds, or for a new container."""
    return stock[1] if idle is None else idle.memory_mb - idle.held_mb
