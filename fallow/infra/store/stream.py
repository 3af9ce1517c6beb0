"""The durable stream of accepted calls: a Redis stream whose consumers are the controllers.

An entry is pending with one controller from the moment it was delivered until its final record is written. It moves
only by a claim (its controller's lease lapsed) or a hand-over, never by idle time: a five-minute call looks idle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fallow.infra.log import get_logger
from fallow.infra.records import StreamEntry
from fallow.infra.store import keys, scripts
from fallow.infra.store.activations import ActivationStore
from fallow.infra.store.connection import Argument, Connection
from fallow.infra.store.errors import StoreError
from fallow.infra.store.rows import ENTRIES
from fallow.infra.store.values import Accepted, AlreadyRecorded, StreamFull

UNREADABLE = "unreadable"  # the consumer that holds entries nobody could decode, for a person to look at

_log = get_logger(__name__)


class StreamStore(ActivationStore):
    _connection: Connection
    _stream_entries: int = 100_000
    _stream_bytes: int = 256 << 20

    def configure_limits(self, *, stream_entries: int, stream_bytes: int) -> None:
        """Sets the bounds that `accept` keeps: entries not yet recorded, and their encoded bytes."""
        self._stream_entries = stream_entries
        self._stream_bytes = stream_bytes

    async def accept(self, entry: StreamEntry) -> Accepted | AlreadyRecorded | StreamFull:
        """Enters a call; after Accepted it survives its controller. Repeating it for one activation adds no entry.

        A running attempt (of a blocking call that outlived its wait) becomes the fence if there is none yet, also by a
        repetition: a call may be started between the two.
        """
        activation_id = entry.activation_id
        # A record may be trimmed between the script and the read: then the question is asked anew.
        for _ in range(2):
            kind, *rest = await self._connection.run(
                scripts.ACCEPT,
                [keys.record(activation_id), keys.run(activation_id), keys.stream(), keys.usage()],
                [
                    activation_id,
                    ENTRIES.to_bytes(entry),
                    self._stream_entries,
                    self._stream_bytes,
                    entry.running_attempt,
                    entry.controller_id,
                ],
            )
            if kind == b"accepted":
                return Accepted(entry_id=rest[0].decode())
            if kind == b"full":
                return StreamFull(entries=rest[0], entry_bytes=rest[1])
            record = await self.get_record(entry.action.caller_namespace, activation_id)
            if record is not None:
                return AlreadyRecorded(record=record)
        raise StoreError(
            f"activation {activation_id} has a record that cannot be read in {entry.action.caller_namespace}"
        )

    async def read_entries(self, controller_id: str, *, count: int, block_ms: int) -> list[StreamEntry]:
        """New entries, now pending with this controller; waits up to `block_ms` for the first (0 = not at all).

        Cancelled or failing at the wrong moment it loses the answer, not the entries: `own_pending` finds them.
        """
        args: list[Argument] = ["GROUP", keys.GROUP, controller_id, "COUNT", count]
        if block_ms > 0:
            args += ["BLOCK", block_ms]
        reply = await self._connection.wait(block_ms / 1000, "XREADGROUP", *args, "STREAMS", keys.stream(), ">")
        return await self._entries(reply[0][1] if reply else [])

    async def own_pending(self, controller_id: str, *, count: int, after: str = "0") -> list[StreamEntry]:
        """Entries pending with this controller, in order, with ids above `after`: delivered, claimed or handed over.

        None left is the end: what was deleted or cannot be read is passed over.
        """
        while True:
            args: list[Argument] = ["GROUP", keys.GROUP, controller_id, "COUNT", count, "STREAMS", keys.stream(), after]
            reply = await self._connection.call("XREADGROUP", *args)
            raw = reply[0][1] if reply else []
            entries = await self._entries(raw)
            if entries or not raw:
                return entries
            after = raw[-1][0].decode()

    async def claim_entries(self, from_controller: str, to_controller: str, *, count: int) -> list[StreamEntry]:
        """Takes up to `count` pending entries of a controller whose lease lapsed; of two claimers one gets each entry.

        `attempts` holds the fence: starts that the earlier controller may have made. Call until it gives none, then
        `remove_consumer`. Failing at the wrong moment it loses the answer: `own_pending` finds what was claimed.
        """
        args: list[Argument] = [keys.GROUP, from_controller, to_controller, count]
        return await self._entries(await self._connection.run_once(scripts.CLAIM, [keys.stream()], args))

    async def hand_over(self, entry_id: str, to_controller: str) -> bool:
        """Makes a pending entry another controller's, to be found in its `own_pending`; False = it is not pending."""
        moved = await self._connection.call("XCLAIM", keys.stream(), keys.GROUP, to_controller, 0, entry_id, "JUSTID")
        return bool(moved)

    async def stream_owners(self) -> dict[str, int]:
        """Pending entries of every controller that ever read, those with none included."""
        owners = {}
        for consumer in await self._connection.call("XINFO", "CONSUMERS", keys.stream(), keys.GROUP):
            fields = dict(zip(consumer[::2], consumer[1::2], strict=True))
            owners[fields[b"name"].decode()] = int(fields[b"pending"])
        owners.pop(UNREADABLE, None)
        return owners

    async def remove_consumer(self, controller_id: str) -> bool:
        """Forgets a controller that will not come back; False = it still owns entries, nothing was done."""
        args = [keys.GROUP, controller_id]
        return bool(await self._connection.run(scripts.REMOVE_CONSUMER, [keys.stream()], args))

    async def _entries(self, raw: Sequence[Any]) -> list[StreamEntry]:
        # An entry that was deleted while pending has no fields: its call has ended.
        found = [(entry_id.decode(), dict(zip(f[::2], f[1::2], strict=True))) for entry_id, f in raw if f]
        if not found:
            return []
        runs = [keys.run(fields.get(b"id", b"").decode()) for _, fields in found]
        fences = await self._connection.pipeline([("HGET", run, "fence") for run in runs])
        entries = []
        for (entry_id, fields), fence in zip(found, fences, strict=True):
            try:
                data = fields.get(b"e", b"")
                key = f"{keys.stream()} {entry_id}"
                entries.append(ENTRIES.from_bytes(data, key, entry_id=entry_id, attempts=int(fence or 0)))
            except StoreError as e:
                # One bad entry must not stop the others behind it.
                _log.error("stream entry unreadable", entry_id=entry_id, error=str(e))
                await self.hand_over(entry_id, UNREADABLE)
        return entries
