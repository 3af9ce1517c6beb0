"""Removing containers, whatever state the engine is in."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from fallow.infra import clock
from fallow.infra.engine import Engine, EngineError
from fallow.infra.log import get_logger

REMOVE_TIMEOUT_S = 10.0
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 5.0
GIVE_UP_S = 600.0

log = get_logger("invoker.docker")


class Removals:
    """Tries again until the container is gone, for 10 min at most; once `closing` is set, it tries once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.closing = asyncio.Event()

    async def remove(self, name: str) -> None:
        """Ends without an error also where it could not be done: that is in the log, and the next invoker of this VM
        removes what is left at its start."""
        began_s, retry_s, told = clock.mono_s(), FIRST_RETRY_S, False
        while True:
            try:
                await self._engine.remove(name, timeout_s=REMOVE_TIMEOUT_S)
                if told:
                    log.info("container_removed_late", container=name)
                return
            except EngineError as e:
                if self.closing.is_set() or clock.mono_s() - began_s > GIVE_UP_S:
                    log.error("container_left", container=name, error=str(e))
                    return
                if not told:
                    log.warning("container_not_removed", container=name, error=str(e))
                    told = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(retry_s):
                    await self.closing.wait()
            retry_s = min(retry_s * 2, LONGEST_RETRY_S)

    async def unless_closing(self, task: asyncio.Task[Any]) -> None:
        """Wait until `task` is done, or give it up when this closes."""
        closing = asyncio.ensure_future(self.closing.wait())
        try:
            await asyncio.wait([task, closing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            closing.cancel()
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
