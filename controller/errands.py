"""Work with the store that decisions wait for but never block on: a queue, a few workers, repetition."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

from fallow.infra.log import get_logger
from fallow.infra.store import StoreError

WORKERS = 16
_RETRY_S = 0.1
_MAX_RETRY_S = 1.0

_log = get_logger("controller.errands")
Errand = Callable[[], Awaitable[None]]


class Errands:
    """Runs errands in the order they came, `WORKERS` at a time.

    An errand must be repeatable: it is run again until it ends without a StoreError. There are never more of them than
    calls in flight, which the ledger bounds.
    """

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Errand] = asyncio.Queue()

    def __len__(self) -> int:
        return self._queue.qsize()

    def add(self, errand: Errand) -> None:
        self._queue.put_nowait(errand)

    async def run(self) -> NoReturn:
        """The workers; cancel to stop."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())
        raise AssertionError("a worker never returns")

    async def _work(self) -> NoReturn:
        while True:
            errand = await self._queue.get()
            await _repeat(errand)


async def _repeat(errand: Errand) -> None:
    delay_s = _RETRY_S
    while True:
        try:
            await errand()
        except StoreError as e:
            _log.warning("waiting for the store", error=str(e), delay_s=delay_s)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _MAX_RETRY_S)
        else:
            return
