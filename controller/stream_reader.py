"""Accepted calls out of the stream: new ones as there is room, and those of controllers that are no more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

from controller.dispatcher import Dispatcher
from controller.leases import Leases
from controller.ledger import InFlight, Ledger
from fallow.core.model import Activation, ActivationId
from fallow.infra import codec
from fallow.infra.clock import mono_s, unix_ms
from fallow.infra.log import get_logger
from fallow.infra.records import StreamEntry
from fallow.infra.store import Store, StoreError

_BATCH = 64
_BLOCK_MS = 1000
_NO_ROOM_S = 0.05
_RETRY_S = 0.5
_SHORT_LOOKS = 3  # in a row; a read under way makes a single one look short

_log = get_logger("controller.stream")


class StreamReader:
    """Feeds the dispatcher from the stream. An entry read is pending with this controller until its record stands."""

    def __init__(
        self,
        *,
        controller_id: str,
        store: Store,
        dispatcher: Dispatcher,
        ledger: Ledger,
        leases: Leases,
        room: Callable[[], int],
    ) -> None:
        self._controller_id = controller_id
        self._store = store
        self._dispatcher = dispatcher
        self._ledger = ledger
        self._leases = leases
        self._room = room
        self._swept = False  # what is pending with this controller is known here
        self._short = 0  # looks in a row that found more pending than is known here
        self.stopped = False

    def room(self) -> int:
        """How many entries may be taken up now."""
        return 0 if self.stopped else min(self._room(), self._ledger.room())

    async def read(self) -> NoReturn:
        """Reads new entries for ever. First, and after any answer that may be lost, what is pending already."""
        while True:
            room = self.room()
            if room <= 0:
                await asyncio.sleep(_NO_ROOM_S)
                continue
            try:
                if not self._swept:
                    self._swept = True  # before, so that a claim that fails meanwhile is not forgotten
                    self._swept = await self._sweep() and self._swept
                    continue
                count = min(room, _BATCH)
                entries = await self._store.read_entries(self._controller_id, count=count, block_ms=_BLOCK_MS)
                for entry in entries:
                    await self._take(entry)
            except StoreError as e:
                _log.warning("stream not read", error=str(e))
                self._swept = False
                await asyncio.sleep(_RETRY_S)

    async def _sweep(self) -> bool:
        """Takes up what is pending with this controller and not known here; False = there was no room for all."""
        after = "0"
        while entries := await self._store.own_pending(self._controller_id, count=_BATCH, after=after):
            for entry in entries:
                if self.room() <= 0:
                    return False
                await self._take(entry)
            after = entries[-1].entry_id
        return True

    async def claim(self) -> None:
        """Takes over the entries of controllers whose lease lapsed. To be called every second."""
        try:
            owners = await self._store.stream_owners()
            self._compare(owners.pop(self._controller_id, 0))
            if any(map(self._leases.is_lapsed, owners)):
                await self._leases.look_up()  # a controller that has just come may read before the others know it
            for owner, pending in owners.items():
                if self._leases.is_lapsed(owner):
                    await self._claim_from(owner, pending)
        except StoreError as e:
            self._swept = False  # what a lost answer gave is pending here and known to nobody
            _log.warning("entries of lapsed controllers not claimed", error=str(e))

    def _compare(self, pending: int) -> None:
        """An entry may be handed over here after its call has ended here without a record: found by counting."""
        self._short = self._short + 1 if pending > self._ledger.durable else 0
        if self._short >= _SHORT_LOOKS:
            self._short = 0
            self._swept = False

    async def _claim_from(self, owner: str, pending: int) -> None:
        while (room := self.room()) > 0:
            entries = await self._store.claim_entries(owner, self._controller_id, count=min(room, _BATCH))
            if not entries:
                await self._store.remove_consumer(owner)
                return
            _log.info("entries claimed", owner=owner, count=len(entries), pending=pending)
            for entry in entries:
                await self._take(entry)

    async def _take(self, entry: StreamEntry) -> None:
        activation_id = ActivationId(entry.activation_id)
        if activation_id in self._ledger:
            # A call that a client waited for: it is under way here.
            self._dispatcher.made_durable(activation_id, entry.running_attempt)
            return
        owner = entry.controller_id
        if owner and owner != self._controller_id and not self._leases.is_lapsed(owner):
            await self._store.hand_over(entry.entry_id, owner)
            return
        self._dispatcher.arrive(_in_flight(entry))


def _in_flight(entry: StreamEntry) -> InFlight:
    return InFlight(
        durable=True,
        activation=Activation(
            id=ActivationId(entry.activation_id),
            action=entry.action,
            blocking=False,
            durable=True,
            attempts=max(entry.attempts, entry.running_attempt),
            payload_bytes=len(entry.args),
            accepted_unix_ms=entry.accepted_unix_ms,
            arrived_unix_ms=unix_ms(),
        ),
        action=codec.encode_action(entry.action),
        args=entry.args,
        subject=entry.subject,
        transaction_id=entry.transaction_id,
        accepted_unix_ms=entry.accepted_unix_ms,
        accepted_mono_s=mono_s(),
        traceparent=entry.traceparent,
        cause=entry.cause,
        caused_by=entry.caused_by,
        api_key=entry.api_key,
        components=tuple(entry.components),
        composition=entry.composition,
    )
