"""The function containers of a cluster on one Docker Engine, as those see them who must leave none behind."""

from __future__ import annotations

import asyncio

from fallow.infra.engine import CLUSTER_LABEL, VM_LABEL, Engine, EngineError, FoundContainer
from fallow.infra.log import get_logger
from harvest_agent.cgroups import CgroupError, VmCgroup
from harvest_agent.cgroups.ending import end_frozen

_LIST_TIMEOUT_S = 3.0
_REMOVE_TIMEOUT_S = 5.0
_PAUSE_S = 0.2

_log = get_logger("harvest_agent.containers")


class ClusterContainers:
    """Known by their labels alone: whoever started them may be dead, and they are nobody's child here."""

    def __init__(self, engine: Engine, cluster: str) -> None:
        self._engine = engine
        self._cluster = cluster

    async def holding(self) -> frozenset[str]:
        """The VMs that have containers. Raises EngineError."""
        found = await self._engine.containers({CLUSTER_LABEL: self._cluster}, timeout_s=_LIST_TIMEOUT_S)
        return frozenset(c.vm_id for c in found)

    async def remove(self, vm_id: str, cgroup: VmCgroup | None, *, timeout_s: float) -> bool:
        """Removes all containers of a VM; False, and a line in the log, where that was not done in time.

        `cgroup` is theirs, where there is one: it may be frozen, and a container of its own accord, too. The invoker
        must be dead, yet what it asked of the engine last may still come to be; so it is over only when nothing was
        there twice in a row.
        """
        trouble = "new ones came to be all the time"
        seen_empty = False
        try:
            async with asyncio.timeout(timeout_s):
                if cgroup is not None:
                    trouble = await self._end_frozen(cgroup, vm_id, timeout_s / 2) or trouble
                while True:
                    try:
                        found = await self._engine.containers(self.labels(vm_id), timeout_s=_LIST_TIMEOUT_S)
                        if not found and seen_empty:
                            return True
                        seen_empty = not found
                        trouble = await self._remove_each(found) or trouble
                    except EngineError as e:
                        trouble = str(e)
                    await asyncio.sleep(_PAUSE_S)
        except TimeoutError:
            _log.error("containers are left behind", vm=vm_id, error=trouble)
            return False

    async def _end_frozen(self, cgroup: VmCgroup, vm_id: str, timeout_s: float) -> str:
        """Answers what went wrong, "" = nothing."""
        try:
            async with asyncio.timeout(timeout_s):
                await end_frozen(cgroup, self._engine, self.labels(vm_id), timeout_s=timeout_s)
        except (EngineError, CgroupError) as e:
            return str(e)
        except TimeoutError:
            return "the VM's cgroup did not become empty"
        return ""

    async def _remove_each(self, found: list[FoundContainer]) -> str:
        """All at once; answers what went wrong, "" = nothing."""
        ends = await asyncio.gather(
            *(self._engine.remove(c.id, timeout_s=_REMOVE_TIMEOUT_S) for c in found), return_exceptions=True
        )
        errors = [e for e in ends if e is not None]
        for error in errors:
            if not isinstance(error, EngineError):
                raise error
        return "; ".join(str(e) for e in errors)

    def labels(self, vm_id: str) -> dict[str, str]:
        """By which the containers of a VM are known."""
        return {CLUSTER_LABEL: self._cluster, VM_LABEL: vm_id}
