"""How long the engine is waited for: while it answers pings, and until the backend ends; and when it is slow."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, TypeVar

from fallow.infra import clock
from fallow.infra.engine import EngineAwayError
from fallow.infra.log import get_logger

CLOSE_GRACE_S = 5.0  # for what is under way when the backend ends
AWAY_AFTER = 2  # pings in a row without an answer: what waits for the engine is given up

# A healthy engine takes tenths of a second for one call of a start. But a start runs in the VM's quota, too: several
# at once take seconds in a VM that was shrunk to a tenth of a core, and that is no fault of the engine's.
SLOW_AFTER_S = 15.0

T = TypeVar("T")

log = get_logger("invoker.docker")


class Patience:
    """`away` is what the last ping said, "" = it was answered."""

    def __init__(self) -> None:
        self.away = ""
        self.closing = asyncio.Event()
        self._close_by_s = 0.0  # of the loop's clock
        self._given_up = asyncio.Event()
        self._missed = 0
        self._began_mono_s: dict[str, float] = {}  # of the call that is pending, by container

    @property
    def trouble(self) -> str:
        """That the engine is away or slow, in words; "" = all is well."""
        if self.away or not self._began_mono_s:
            return self.away
        pending_s = clock.mono_s() - min(self._began_mono_s.values())
        if pending_s <= SLOW_AFTER_S:
            return ""
        return f"the Docker Engine is slow: a container has been starting for {pending_s:.0f} s"

    @contextlib.contextmanager
    def starting(self, name: str) -> Iterator[None]:
        """Around one call to the engine in the start of the container of this name: pending for long, it is trouble
        until it returns or is given up. An engine may answer pings and do nothing else."""
        self._began_mono_s[name] = clock.mono_s()
        telling = asyncio.get_running_loop().call_later(
            SLOW_AFTER_S, lambda: log.warning("engine_slow", container=name, pending_s=SLOW_AFTER_S)
        )
        try:
            yield
        finally:
            telling.cancel()
            del self._began_mono_s[name]

    def missed(self, why: str) -> None:
        """The engine did not answer."""
        self.away = why
        self._missed += 1
        if self._missed >= AWAY_AFTER:
            self._given_up.set()

    def answered(self) -> None:
        """It does."""
        self.away = ""
        self._missed = 0
        self._given_up.clear()

    def close(self) -> None:
        """The backend ends."""
        if not self.closing.is_set():
            self._close_by_s = asyncio.get_running_loop().time() + CLOSE_GRACE_S
            self.closing.set()

    async def unless_away(self, task: asyncio.Task[T]) -> T:
        """The result of `task`, which goes on if this is cancelled. Raises what it raises, and EngineAwayError once the
        engine is away."""
        if not await self._first(task, self._given_up):
            raise EngineAwayError(self.away)
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
