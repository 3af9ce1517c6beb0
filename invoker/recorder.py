"""Final records on their way to the store: pipelined, kept while the store is away, bounded.

A record is handed over once and leaves when the store has said what became of it. At the bound the VM calls itself
unhealthy, so no new calls come; what runs may still add its records.

A record that the store refuses must not hold up the others: those of its batch are then written one by one, and it goes
to the end. Refused again although the store took another record meanwhile, it can never be written: it is logged,
counted and dropped, and its controller is not told that it stands. A store that refuses all of them loses none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from fallow.core.value import value
from fallow.infra.log import get_logger
from fallow.infra.records import Record
from fallow.infra.store import StoreError, StoreFull, StoreUnavailable, WriteVerdict

LINGER_S = 0.020  # records that end within it share one flush: a flush costs as much as ten records in it
BATCH_RECORDS = 256
BATCH_BYTES = 8 << 20
MAX_RECORDS = 10_000
MAX_BYTES = 128 << 20
RETRY_S = 0.25

log = get_logger("invoker.recorder")


class RecordStore(Protocol):
    """The part of the store that takes records."""

    async def write_records(self, records: Sequence[Record]) -> list[WriteVerdict]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What one flush did for one controller: `attempts` need nothing more, `standing` activations have their record.

    The record of a `fenced` attempt's activation is another attempt's to write.
    """

    attempts: list[tuple[str, int]]
    standing: list[str]
    fenced: list[tuple[str, int]]


@value(frozen=True, slots=True, kw_only=True)
class _Pending:
    controller_id: str
    record: Record
    size_bytes: int
    refused_at: int | None = None  # how many records the store had taken when it first refused this one


def _size(record: Record) -> int:
    return 512 + len(record.result) + sum(map(len, record.logs))


class Recorder:
    """`on_settled(controller_id, settled)` is called after each flush, once per controller."""

    def __init__(
        self,
        *,
        store: RecordStore,
        on_settled: Callable[[str, Settled], None],
        max_records: int = MAX_RECORDS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._store = store
        self._on_settled = on_settled
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._pending: list[_Pending] = []
        self._bytes = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._taken = 0
        self._one_by_one = 0  # so many at the head were refused together
        self.dropped = 0
        self.fenced = 0  # late results that a newer attempt had fenced off

    @property
    def full(self) -> bool:
        """The bound is reached: this VM must get no new calls."""
        return len(self._pending) >= self._max_records or self._bytes >= self._max_bytes

    def add(self, controller_id: str, record: Record) -> None:
        """Take a record. Never refuses, never blocks."""
        size = _size(record)
        self._pending.append(_Pending(controller_id=controller_id, record=record, size_bytes=size))
        self._bytes += size
        self._idle.clear()
        self._wake.set()

    async def run(self) -> None:
        """Flush for ever."""
        while True:
            await self._wake.wait()
            while self._pending:
                if len(self._pending) < BATCH_RECORDS:
                    await asyncio.sleep(LINGER_S)
                await self._flush()
            self._wake.clear()
            self._idle.set()

    async def flushed(self) -> None:
        """Wait until nothing is pending (`run` must be running)."""
        await self._idle.wait()

    async def _flush(self) -> None:
        batch = self._batch()
        try:
            verdicts = await self._store.write_records([p.record for p in batch])
        except (StoreUnavailable, StoreFull) as e:
            log.warning("records_kept", pending=len(self._pending), bytes=self._bytes, error=str(e))
            await asyncio.sleep(RETRY_S)
            return
        except StoreError as e:
            await self._refused(batch, str(e))
            return
        self._taken += len(batch)
        self._leave(len(batch))
        settled: dict[str, Settled] = {}
        for pending, verdict in zip(batch, verdicts, strict=True):
            record = pending.record
            mine = settled.setdefault(pending.controller_id, Settled(attempts=[], standing=[], fenced=[]))
            mine.attempts.append((record.activation_id, record.attempt))
            if verdict is WriteVerdict.FENCED:
                self.fenced += 1
                mine.fenced.append((record.activation_id, record.attempt))
                log.info("result_fenced", activation=record.activation_id, attempt=record.attempt)
            else:
                mine.standing.append(record.activation_id)
        for controller_id, mine in settled.items():
            self._on_settled(controller_id, mine)

    async def _refused(self, batch: list[_Pending], error: str) -> None:
        if len(batch) > 1:
            self._one_by_one = len(batch)
            return
        (pending,) = batch
        record, before = pending.record, pending.refused_at
        self._leave(1)
        if before is None or before == self._taken:
            log.warning("record_refused", activation=record.activation_id, pending=len(self._pending), error=error)
            self._pending.append(replace(pending, refused_at=self._taken if before is None else before))
            self._bytes += pending.size_bytes
            await asyncio.sleep(RETRY_S)
            return
        self.dropped += 1
        log.error("record_dropped", activation=record.activation_id, attempt=record.attempt, error=error)
        key = (record.activation_id, record.attempt)
        self._on_settled(pending.controller_id, Settled(attempts=[key], standing=[], fenced=[]))

    def _leave(self, count: int) -> None:
        self._bytes -= sum(p.size_bytes for p in self._pending[:count])
        del self._pending[:count]
        self._one_by_one = max(0, self._one_by_one - count)

    def _batch(self) -> list[_Pending]:
        if self._one_by_one:
            return self._pending[:1]
        size = 0
        for n, pending in enumerate(self._pending[:BATCH_RECORDS]):
            size += pending.size_bytes
            if size > BATCH_BYTES and n > 0:
                return self._pending[:n]
        return self._pending[:BATCH_RECORDS]
