"""Removing containers, whatever state the engine is in."""

from __future__ import annotations

import asyncio
import contextlib

from fallow.infra import clock
from fallow.infra.engine import Engine, EngineError
from fallow.infra.log import get_logger
from invoker.backends.docker.patience import Patience

REMOVE_TIMEOUT_S = 10.0
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 5.0
GIVE_UP_S = 600.0

log = get_logger("invoker.docker")


class Removals:
    """Tries again until the container is gone, for 10 min at most; once the backend ends, no more."""

    def __init__(self, engine: Engine, patience: Patience) -> None:
        self._engine = engine
        self._patience = patience

    async def remove(self, name: str) -> None:
        """Ends without an error also where it could not be done: that is in the log, and the next invoker of this VM
        removes what is left at its start."""
        began_s, retry_s, told = clock.mono_s(), FIRST_RETRY_S, False
        while (error := await self._try(name)) is not None:
            if self._patience.closing.is_set() or clock.mono_s() - began_s > GIVE_UP_S:
                log.error("container_left", container=name, error=error)
                return
            if not told:
                log.warning("container_not_removed", container=name, error=error)
                told = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(retry_s):
                    await self._patience.closing.wait()
            retry_s = min(retry_s * 2, LONGEST_RETRY_S)
        if told:
            log.info("container_removed_late", container=name)

    async def _try(self, name: str) -> str | None:
        """Why it could not be removed, None = it is gone."""
        task = asyncio.ensure_future(self._engine.remove(name, timeout_s=REMOVE_TIMEOUT_S))
        if not await self._patience.unless_closing(task):
            return "the invoker ends before the Docker Engine answers"
        try:
            task.result()
        except EngineError as e:
            return str(e)
        return None
