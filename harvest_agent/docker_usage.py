"""What a VM's containers use, as the engine says it: where no cgroup of the VM counts it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from fallow.infra.engine import ContainerUse, Engine, EngineError, NotThereError
from harvest_agent.usage import Usage, rate

_TIMEOUT_S = 3.0


class EngineUsage:
    """One question a container and sample. Blind to what lived and died between two samples."""

    def __init__(self, engine: Engine, labels: Mapping[str, str]) -> None:
        self._engine = engine
        self._labels = labels
        self._seen: dict[str, int] = {}
        self._at_mono_s: float | None = None
        self._last = Usage(cpu_cores=0.0, memory_mb=0.0)

    async def sample(self, now_mono_s: float) -> Usage:
        """What it said last where the engine does not answer."""
        try:
            found = [c.id for c in await self._engine.containers(self._labels, timeout_s=_TIMEOUT_S)]
            uses = dict(zip(found, await asyncio.gather(*map(self._use, found)), strict=True))
        except EngineError:
            return self._last
        used_ns = sum(max(0, use.cpu_ns - self._seen.get(each, 0)) for each, use in uses.items())
        cores = rate(used_ns / 1e9, self._at_mono_s, now_mono_s)
        self._seen, self._at_mono_s = {each: use.cpu_ns for each, use in uses.items()}, now_mono_s
        self._last = Usage(cpu_cores=cores, memory_mb=sum(use.memory_mb for use in uses.values()))
        return self._last

    async def _use(self, container_id: str) -> ContainerUse:
        try:
            return await self._engine.use(container_id, timeout_s=_TIMEOUT_S)
        except NotThereError:
            return ContainerUse(cpu_ns=0, memory_mb=0.0)
