"""What one controller changes, the others have forgotten before the change is answered.

Every change of an entity, a key or a limit has a number and is told on a channel of the store. A controller that hears
of one drops what it cached of it, then notes in the store which number it has come to. Whoever makes a change answers
once every other live controller has noted that number or a later one.

Two things may go wrong with hearing. Where the subscription breaks, nothing that is cached counts as current until the
controller listens again: it subscribes, reads the number of the last change, empties its caches, and notes that number.
Where a controller stands still, it is waited for until its lease lapses; when it goes on, nothing cached counts as
current until it has renewed the lease and emptied its caches. So no copy is used that a change replaced before it was
answered, with one exception that is meant: while the store is away, what is known goes on serving warm calls, and a
controller that is cut off from a store that others reach may use an old revision for as long.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import NoReturn, Protocol

from fallow.infra.clock import mono_s
from fallow.infra.log import get_logger
from fallow.infra.store import Change, Store, StoreError, StoreUnavailable

MARGIN_S = 10.0  # beyond a lease: a subscription that died without a sign is noticed within this
_RETRY_S = 0.5
_FIRST_LOOK_S = 0.001
_LONGEST_LOOK_S = 0.05

_log = get_logger("controller.invalidation")


class Cache(Protocol):
    """Copies of what stands in the store. They are current only while `Invalidation.current` says so."""

    def heard(self, change: Change | None) -> None:
        """Drops what the change replaced; None = every copy may be old. Never waits."""


class Invalidation:
    """Hears of changes on behalf of this controller's caches, and waits on behalf of its changes."""

    def __init__(self, *, controller_id: str, store: Store, lease_s: float) -> None:
        self._controller_id = controller_id
        self._store = store
        self._lease_s = lease_s
        self._caches: list[Cache] = []
        self._listening = False
        self._channel_away = False  # the store, as the follower of changes found it
        self._lease_away = False  # the store, as the last renewal of the lease found it
        self._lease_until_mono_s = float("-inf")
        self._seen = -1  # the last change whose copies are dropped here
        self._to_note = asyncio.Event()

    def add(self, cache: Cache) -> None:
        self._caches.append(cache)

    @property
    def current(self) -> bool:
        """Whether every change that was answered has been heard of here."""
        return self._listening and mono_s() < self._lease_until_mono_s

    @property
    def away(self) -> bool:
        """Whether the store does not answer: then old copies are better than waits for deadlines."""
        return self._channel_away or (self._lease_away and mono_s() >= self._lease_until_mono_s)

    # ---- the lease ---------------------------------------------------------------------------------------------------

    def lease_renewed(self, asked_mono_s: float) -> None:
        """The store has renewed it at some time after it was asked to."""
        lapsed = mono_s() >= self._lease_until_mono_s
        self._lease_away = False
        self._lease_until_mono_s = asked_mono_s + self._lease_s
        if lapsed:
            self._tell(None)
            self._to_note.set()  # notes are not taken without a lease

    def lease_not_renewed(self) -> None:
        """The store did not answer."""
        self._lease_away = True

    # ---- changes of others -------------------------------------------------------------------------------------------

    async def follow(self) -> NoReturn:
        """Hears of changes, for ever."""
        while True:
            heard = False
            try:
                async with aclosing(self._store.changes()) as changes:
                    async for change in changes:
                        await self._heard(change)
                        heard = True
            except StoreError as e:
                _log.warning("changes are not heard of", error=str(e))
                self._channel_away = isinstance(e, StoreUnavailable) and not heard
            self._listening = False
            self._tell(None)
            if not heard:
                await asyncio.sleep(_RETRY_S)

    async def _heard(self, change: Change | None) -> None:
        if change is None:
            self._seen = await self._store.change_number()
            self._tell(None)
            self._listening, self._channel_away = True, False
        else:
            self._tell(change)
            self._seen = max(self._seen, change.number)
        self._to_note.set()

    def _tell(self, change: Change | None) -> None:
        for cache in self._caches:
            cache.heard(change)

    async def note(self) -> NoReturn:
        """Notes how far this controller has come, for ever; of many changes at once only the last."""
        while True:
            await self._to_note.wait()
            self._to_note.clear()
            try:
                await self._store.note_seen(self._controller_id, self._seen)
            except StoreError as e:
                _log.warning("seen changes not noted", error=str(e))
                await asyncio.sleep(_RETRY_S)
                self._to_note.set()

    # ---- changes of our own ------------------------------------------------------------------------------------------

    async def settled(self) -> None:
        """Returns once no other live controller uses anything that was replaced before this was called.

        That takes them a few milliseconds. One that stands still holds it up until its lease lapses; beyond that and
        MARGIN_S nobody is waited for. Raises StoreError.
        """
        number, behind = await self._store.behind(self._controller_id)
        give_up_mono_s = mono_s() + self._lease_s + MARGIN_S
        look_s = _FIRST_LOOK_S
        while behind:
            if mono_s() >= give_up_mono_s:
                _log.warning("a change was answered before all had seen it", change=number, behind=behind)
                return
            await asyncio.sleep(look_s)
            look_s = min(2 * look_s, _LONGEST_LOOK_S)
            _, behind = await self._store.behind(self._controller_id, number)
