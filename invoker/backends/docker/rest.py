"""Freezing a container that rests, and thawing it before it is used.

Written straight to the freezer of the container's own cgroup where that can be reached (0.1 ms), asked of the engine
where it cannot (10 ms and more). The engine knows nothing of the first kind: for it the container runs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from fallow.infra.engine import Engine, EngineError
from fallow.infra.log import get_logger
from invoker.backends.docker.cgroup import ContainerCgroup

log = get_logger("invoker.docker")


class Rest:
    """`before_freeze` is called just before: a frozen peer would hold what is still open between the two."""

    def __init__(self, engine: Engine, *, grace_s: float, before_freeze: Callable[[], None]) -> None:
        self._engine = engine
        self._grace_s = grace_s
        self._before_freeze = before_freeze
        self._cgroup: ContainerCgroup | None = None
        self._container_id = ""
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[bool] | None = None  # the engine, to pause it; its answer = it is paused
        self.frozen = False

    def of(self, container_id: str, cgroup: ContainerCgroup) -> None:
        """The container is there."""
        self._container_id, self._cgroup = container_id, cgroup

    def begin(self) -> None:
        """The container has nothing to do from now on."""
        self.stop()
        self._timer = asyncio.get_running_loop().call_later(self._grace_s, self._freeze)

    def stop(self) -> None:
        """It will not be frozen by itself any more; one that is stays so."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _freeze(self) -> None:
        self._timer = None
        if self._cgroup is None:
            return
        self._before_freeze()
        self.frozen = True
        if not self._cgroup.freeze():
            self._asking = asyncio.ensure_future(self._pause())

    async def _pause(self) -> bool:
        try:
            await self._engine.pause(self._container_id)
        except EngineError as e:
            log.warning("pause_failed", container=self._container_id[:12], error=str(e))
            return False
        return True

    async def thaw(self) -> bool:
        """Let it run. False = that failed, so it cannot be used."""
        self.stop()
        if not self.frozen:
            return True
        self.frozen = False
        asked, self._asking = self._asking, None
        if asked is None:
            return self._cgroup is not None and self._cgroup.thaw()
        if not await asyncio.shield(asked):
            # Not paused, as far as is known; an engine that was slow to say so may yet do it.
            with contextlib.suppress(EngineError):
                await self._engine.unpause(self._container_id)
            return True
        try:
            await self._engine.unpause(self._container_id)
        except EngineError as e:
            log.warning("unpause_failed", container=self._container_id[:12], error=str(e))
            return False
        return True
