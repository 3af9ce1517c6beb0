"""How long the engine is waited for: while it answers pings, and until the backend ends."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from fallow.infra.engine import EngineAwayError

CLOSE_GRACE_S = 5.0  # for what is under way when the backend ends
AWAY_AFTER = 2  # pings in a row without an answer: what waits for the engine is given up

T = TypeVar("T")


class Patience:
    """`trouble` is what the last ping said, "" = all is well."""

    def __init__(self) -> None:
        self.trouble = ""
        self.closing = asyncio.Event()
        self._close_by_s = 0.0  # of the loop's clock
        self._away = asyncio.Event()
        self._missed = 0

    def missed(self, why: str) -> None:
        """The engine did not answer."""
        self.trouble = why
        self._missed += 1
        if self._missed >= AWAY_AFTER:
            self._away.set()

    def answered(self) -> None:
        """It does."""
        self.trouble = ""
        self._missed = 0
        self._away.clear()

    def close(self) -> None:
        """The backend ends."""
        if not self.closing.is_set():
            self._close_by_s = asyncio.get_running_loop().time() + CLOSE_GRACE_S
            self.closing.set()

    async def unless_away(self, task: asyncio.Task[T]) -> T:
        """The result of `task`, which goes on if this is cancelled. Raises what it raises, and EngineAwayError once the
        engine is away."""
        if not await self._first(task, self._away):
            raise EngineAwayError(self.trouble)
        return task.result()

    async def unless_closing(self, task: asyncio.Task[Any]) -> bool:
        """Wait until `task` is done, at most until shortly after the backend's end: then it is cancelled. True = done,
        whether well or not."""
        if not await self._first(task, self.closing):
            left_s = self._close_by_s - asyncio.get_running_loop().time()
            await asyncio.wait([task], timeout=max(0.0, left_s))
        done = task.done()
        task.cancel()
        await asyncio.wait([task])
        return done

    async def _first(self, task: asyncio.Task[Any], event: asyncio.Event) -> bool:
        waiting = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        return task.done()
