"""Writes the records that no invoker wrote: many in one flush, until the store has said what became of each."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NoReturn

from fallow.infra.log import get_logger
from fallow.infra.records import Record
from fallow.infra.store import Store, StoreError, WriteVerdict

_BATCH = 128
_RETRY_S = 0.25
_MAX_RETRY_S = 2.0

_log = get_logger("controller.recorder")
Done = Callable[[Record, WriteVerdict], None]


class Recorder:
    """A queue of records; it is as bounded as the ledger, whose unrecorded calls are what it holds."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: deque[tuple[Record, Done]] = deque()
        self._filled = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._queue)

    def submit(self, record: Record, done: Done) -> None:
        """Has the record written; `done` is told the verdict, once."""
        self._queue.append((record, done))
        self._idle.clear()
        self._filled.set()

    async def drained(self) -> None:
        """Returns when nothing waits to be written."""
        await self._idle.wait()

    async def run(self) -> NoReturn:
        while True:
            await self._filled.wait()
            while self._queue:
                await self._flush()
            self._filled.clear()
            self._idle.set()

    async def _flush(self) -> None:
        batch = [self._queue[i] for i in range(min(_BATCH, len(self._queue)))]
        verdicts = await self._written([record for record, _ in batch])
        for (record, done), verdict in zip(batch, verdicts, strict=True):
            self._queue.popleft()
            done(record, verdict)

    async def _written(self, records: list[Record]) -> list[WriteVerdict]:
        """Repeats until the store answers: the script that writes is idempotent, so a repetition is safe."""
        delay_s = _RETRY_S
        while True:
            try:
                return await self._store.write_records(records)
            except StoreError as e:
                _log.warning("records not written yet", waiting=len(self._queue), error=str(e))
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, _MAX_RETRY_S)
