"""A VM whose containers are Docker's: siblings of the agent, in a cgroup where the engine looks for it.

Nothing of theirs is a descendant, and the agent may not even see their processes. So the VM has a lease (see leases),
its end removes containers through the engine, and an engine that does not answer delays that end by a bounded time
only: what is then left behind is found by the VM's lease, which stays.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from fallow.infra.engine import Engine, EngineError, EngineInfo
from fallow.infra.log import get_logger
from fallow.infra.settings import AgentSettings
from harvest_agent import host
from harvest_agent.cgroups import CgroupError, HostTree, Kernel, LinuxKernel, VmCgroup, remove_if_empty, vm_cgroup
from harvest_agent.containers import ClusterContainers
from harvest_agent.docker_usage import EngineUsage
from harvest_agent.housing import dirs_of, freeze
from harvest_agent.leases import Leases
from harvest_agent.reaper import REMOVE_TIMEOUT_S, Reaper
from harvest_agent.usage import CgroupUsage, Usage

_RETRY_S = 1.0
_RACES = 3  # with a VM that leaves and removes the empty tree of the cluster

_log = get_logger("harvest_agent.docker_housing")


class DockerHousing:
    def __init__(self, settings: AgentSettings) -> None:
        self.cgroup: VmCgroup | None = None
        self._settings = settings
        self._kernel: Kernel = LinuxKernel()
        self._engine = Engine(threads=4)
        self._containers = ClusterContainers(self._engine, settings.cluster)
        leases = Leases(Path(settings.lease_dir), settings.vm_id)
        self._reaper = Reaper(leases, self._containers, cgroup_of=self._cgroup_of, remove_cgroup=self._remove_cgroup)
        self._engine_usage = EngineUsage(self._engine, self._containers.labels(settings.vm_id))
        self._meter: CgroupUsage | None = None
        self._info: EngineInfo | None = None
        self._tree: HostTree | None = None
        self.clean = True  # no container of the VM is left

    async def ready(self, stop: asyncio.Event) -> bool:
        """A VM boots when its engine answers."""
        async with asyncio.TaskGroup() as group:
            asking, stopping = group.create_task(self._ask()), group.create_task(stop.wait())
            await asyncio.wait({asking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            asking.cancel()
            stopping.cancel()
        return self._info is not None and not stop.is_set()

    async def _ask(self) -> None:
        told = False
        while self._info is None:
            try:
                self._info = await self._engine.info()
            except EngineError as e:
                if not told:
                    _log.warning("the VM waits for the Docker Engine", vm=self._settings.vm_id, error=str(e))
                told = True
                await asyncio.sleep(_RETRY_S)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """The VM has its lease."""
        self._reaper.take_lease()
        async with asyncio.TaskGroup() as group:
            lease = group.create_task(self._reaper.keep_lease())
            try:
                yield
            finally:
                lease.cancel()
                if self.clean:
                    self._reaper.drop_lease()

    def make_cgroup(self, real_cores: float) -> str:
        self.clean = False
        for left in reversed(range(_RACES)):
            try:
                self._tree = self._make_tree()
                self.cgroup = vm_cgroup(self._tree, self._settings.vm_id, self._kernel)
                self.cgroup.create(real_cores)
                break
            except CgroupError as e:
                self.cgroup = None
                if not left:
                    return str(e)
        return ""

    def _make_tree(self) -> HostTree:
        """The fleet's, or the one that all VMs of the cluster share on this engine. Raises CgroupError."""
        assert self._info is not None  # ready() came first
        root = self._settings.cgroup_root
        if root.partition(":")[0] == host.NONE or "|" in root:
            return host.tree_of(root, self._kernel)[0]
        return host.docker_tree(self._settings.cluster, self._info, self._kernel)

    def invoker_env(self) -> dict[str, str]:
        return {
            "FALLOW_BACKEND": "docker",
            "FALLOW_CLUSTER": self._settings.cluster,
            "FALLOW_CGROUP_PARENT": "" if self.cgroup is None else self.cgroup.docker_parent,
            "FALLOW_CONTAINER_CGROUPS": dirs_of(self.cgroup),
        }

    async def watch(self) -> None:
        await self._reaper.watch()

    async def usage(self, now_mono_s: float, *, without: Callable[[], Collection[int]]) -> Usage:
        if self._meter is None and self.cgroup is not None and self.cgroup.cpu_ns() is not None:
            self._meter = CgroupUsage(self.cgroup)
        if self._meter is not None:
            return self._meter.sample(now_mono_s)
        return await self._engine_usage.sample(now_mono_s)

    async def invoker_died(self) -> None:
        """The VM lives on, so its quota is left alone; a container may be frozen of its own accord."""
        try:
            if self.cgroup is not None:
                self.cgroup.thaw_inside()
        except CgroupError as e:
            _log.warning("the containers of the dead invoker cannot be thawed", error=str(e))
        await self._containers.remove(self._settings.vm_id, None, timeout_s=REMOVE_TIMEOUT_S)

    async def silence(self) -> None:
        """Where nothing can be frozen, the containers are removed now: the stopped invoker does not see it."""
        if not freeze(self.cgroup):
            await self._remove_containers()

    async def clear(self) -> None:
        self.clean = await self._remove_containers()

    async def leave(self) -> None:
        if self.clean:
            await self._reaper.leave()

    def close(self) -> None:
        if self.clean:
            self._remove_cgroup(self._settings.vm_id)
        self._engine.close()

    async def stand_by(self, stop: asyncio.Event) -> None:
        if not await self.ready(stop):
            return
        with contextlib.suppress(CgroupError):  # then dead VMs left none either
            self._tree = self._make_tree()
        async with self.kept(), asyncio.TaskGroup() as group:
            watch = group.create_task(self.watch())
            try:
                await stop.wait()
            finally:
                watch.cancel()
            await self.leave()

    async def _remove_containers(self) -> bool:
        vm_id = self._settings.vm_id
        return await self._containers.remove(vm_id, self._cgroup_of(vm_id), timeout_s=REMOVE_TIMEOUT_S)

    def _cgroup_of(self, vm_id: str) -> VmCgroup | None:
        """The one that a VM of this cluster has here, dead or alive."""
        if self._tree is None:
            return None
        cgroup = vm_cgroup(self._tree, vm_id, self._kernel)
        return cgroup if cgroup.exists() else None

    def _remove_cgroup(self, vm_id: str) -> None:
        if self._tree is None:
            return
        try:
            vm_cgroup(self._tree, vm_id, self._kernel).remove()
        except CgroupError as e:
            _log.error("the cgroup of a VM is left behind", vm=vm_id, error=str(e))
        remove_if_empty(self._tree, self._kernel)
