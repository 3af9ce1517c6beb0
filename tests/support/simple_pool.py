"""The pool with the plain walk: every queued call is asked at every event, one after the other, and so is CPU.

This is the rule; `fallow.core.pool.placing` must come to the same decisions without asking everyone. `contents` shows
whether two pools are in the same state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum

from fallow.core.pool.containers import Container
from fallow.core.pool.ledger import PoolLedger
from fallow.core.pool.limits import PoolLimits
from fallow.core.pool.memory import PoolMemory
from fallow.core.pool.placing import PoolPlacing
from fallow.core.pool.queue import CodeKey, PoolCall
from fallow.core.pool.state import PoolState


class SimplePool(PoolState):
    """PoolState whose calls are placed by the plain walk."""

    def __init__(self, *, limits: PoolLimits) -> None:
        super().__init__(limits=limits)
        memory = SimpleMemory(self._ledger)
        self._memory = memory
        self._placing = SimplePlacing(limits, self._ledger, memory)


class SimpleMemory(PoolMemory):
    def make_room_or_not(self, need_mb: float, promised_mb: float, *, first: bool, but: Container | None) -> float:
        """Destroy the oldest idle containers, `but` one, as far as it helps. Returns what to keep for the call."""
        table = self._ledger.containers
        alone = table.busy_count == 0 and table.starting_count == 0
        soon_mb = self._capacity_mb - (table.reserved_mb - table.destroying_mb) - promised_mb
        lacking_mb = need_mb - soon_mb
        if lacking_mb > table.idle_mb - (but.held_mb if but else 0) and not (first or alone):
            return 0
        while lacking_mb > 0 and (oldest := table.oldest_idle(but=but)) is not None:
            lacking_mb -= oldest.held_mb
            self._ledger.destroy(oldest, "its memory is needed")
        if lacking_mb <= 0 and table.destroying_mb == 0 and not self._pressure_relieved:
            self._pressure_relieved = True
            if (oldest := table.oldest_idle(but=but)) is not None:
                self._ledger.destroy(oldest, "more memory is used than was reserved")
        return need_mb


class SimplePlacing(PoolPlacing):
    def __init__(self, limits: PoolLimits, ledger: PoolLedger, memory: SimpleMemory) -> None:
        super().__init__(limits, ledger, memory)
        self._simple_memory = memory

    def start_queued(self, cpu_open: Callable[[], bool]) -> None:
        oldest = self._ledger.queue.oldest()
        if oldest is None:
            return
        promised_mb = 0.0
        blocked: set[CodeKey] = set()
        if self._ledger.now_s - oldest.arrived_s >= self._limits.reserve_after_s:
            if not cpu_open():
                return
            promised_mb += self._advance(oldest, promised_mb, blocked, first=True)
        for call in self._ledger.queue.turns():
            if call is oldest and call.action.container_key in blocked:
                continue
            if not cpu_open():
                return
            if call in self._ledger.queue and call.action.container_key not in blocked:
                promised_mb += self._advance(call, promised_mb, blocked, first=False)

    def _advance(self, call: PoolCall, promised_mb: float, blocked: set[CodeKey], *, first: bool) -> float:
        kept_mb = self._place(call, promised_mb=promised_mb, first=first)
        if kept_mb is None:
            return 0
        blocked.add(call.action.container_key)
        return kept_mb

    def _place(self, call: PoolCall, *, promised_mb: float, first: bool) -> float | None:
        table, memory, action = self._ledger.containers, self._simple_memory, call.action
        stock = (action.container_kind, action.memory_mb)
        idle = table.warmest(action.container_key) or table.prewarmed(stock)
        if idle is not None and memory.may_wake(idle, promised_mb=promised_mb):
            self._ledger.run(call, idle, prewarmed=idle.code_key is None)
        elif (orphan := table.orphan(stock)) is not None:
            self._ledger.wait_for(call, orphan)
        elif idle is not None:
            return memory.make_room_or_not(idle.memory_mb - idle.held_mb, promised_mb, first=first, but=idle)
        elif table.starting_count >= self._limits.max_starts:
            return 0
        elif memory.may_start(action.memory_mb, promised_mb=promised_mb):
            self._ledger.wait_for(call, self._ledger.start(stock, call))
        else:
            return memory.make_room_or_not(action.memory_mb, promised_mb, first=first, but=None)
        return None


def contents(thing: object) -> object:
    """Everything in it, private parts and the order of dicts included, but for which class places calls.

    Objects are shown where they are met first, and by a number wherever else they stand.
    """
    return _contents(thing, {})


def _contents(thing: object, seen: dict[int, int]) -> object:
    match thing:
        case None | bool() | int() | float() | str() | Enum():
            return thing
        case dict():
            return [(_contents(key, seen), _contents(value, seen)) for key, value in thing.items()]
        case list() | tuple() | deque():
            return [_contents(part, seen) for part in thing]
        case PoolPlacing():
            return "placing"
    if id(thing) in seen:
        return f"object {seen[id(thing)]}"
    seen[id(thing)] = len(seen)
    slots = [name for cls in type(thing).__mro__ for name in getattr(cls, "__slots__", ())]
    fields = {name: getattr(thing, name) for name in slots if hasattr(thing, name)} | getattr(thing, "__dict__", {})
    assert fields or slots or hasattr(thing, "__dict__"), f"nothing is known of {thing!r}"
    return {name: _contents(value, seen) for name, value in fields.items()}
