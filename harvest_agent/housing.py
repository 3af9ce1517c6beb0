"""What holds the containers of a VM and lets none of them survive it: a cgroup, and with Docker an engine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Protocol

from fallow.infra.log import get_logger
from fallow.infra.settings import AgentSettings
from harvest_agent import host, processes
from harvest_agent.cgroups import CgroupError, HostTree, LinuxKernel, VmCgroup, remove_host_tree, remove_if_empty
from harvest_agent.usage import CgroupUsage, DescendantUsage, Usage, meter

KILL_TIMEOUT_S = 10.0

_log = get_logger("harvest_agent.housing")


class Housing(Protocol):
    """One life of one VM; the methods are called in the order in which they stand here."""

    cgroup: VmCgroup | None  # None where CPU cannot be enforced
    clean: bool  # no container is left, or there was none yet

    async def ready(self, stop: asyncio.Event) -> bool:
        """Waits for what the containers need; False where `stop` came first."""
        ...

    def kept(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Around everything from before the first container to after the last."""
        ...

    def make_cgroup(self, real_cores: float) -> str:
        """Made and capped; answers why CPU is not enforced, "" where it is."""
        ...

    def invoker_env(self) -> dict[str, str]: ...

    async def watch(self) -> None:
        """While the VM lives."""
        ...

    async def usage(self, now_mono_s: float, *, without: Callable[[], Collection[int]]) -> Usage:
        """Of the containers, since the call before; `without` answers the pids of what is none."""
        ...

    async def invoker_died(self) -> None:
        """Its containers are useless to the next one."""
        ...

    async def silence(self) -> None:
        """The containers stop, unseen; they are removed by `clear`."""
        ...

    async def clear(self) -> None:
        """The invoker is dead: no container outlives this, or the log says so. Bounded in time."""
        ...

    async def leave(self) -> None:
        """The VM was told to stop, not evicted: a last look at what others left. Bounded in time."""
        ...

    def close(self) -> None:
        """Removes the cgroup."""
        ...

    async def stand_by(self, stop: asyncio.Event) -> None:
        """Instead of all that: there is no VM now, and others may leave something behind. Until `stop`."""
        ...


class ProcessHousing:
    """Containers are descendants of the agent, which kills them as such; the cgroup finds the others."""

    def __init__(self, settings: AgentSettings) -> None:
        self.cgroup: VmCgroup | None = None
        self.clean = True
        self._settings = settings
        self._parent = os.getppid()
        self._tree: HostTree | None = None  # set where this agent made it, and so removes it
        self._shared_tree: HostTree | None = None  # the fleet's
        self._meter: CgroupUsage | DescendantUsage | None = None

    async def ready(self, stop: asyncio.Event) -> bool:
        return True

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        yield

    def make_cgroup(self, real_cores: float) -> str:
        kernel = LinuxKernel()
        try:
            tree, mine = host.tree_of(self._settings.cgroup_root, kernel)
            self._tree, self._shared_tree = (tree, None) if mine else (None, tree)
            self.cgroup = VmCgroup(tree, self._settings.vm_id, kernel)
            self.cgroup.create(real_cores)
        except CgroupError as e:
            self.cgroup = None
            return str(e)
        return ""

    def invoker_env(self) -> dict[str, str]:
        return {"FALLOW_CONTAINER_CGROUPS": dirs_of(self.cgroup)}

    async def watch(self) -> None:
        return

    async def usage(self, now_mono_s: float, *, without: Callable[[], Collection[int]]) -> Usage:
        if self._meter is None:
            self._meter = meter(self.cgroup, without=without)
        return self._meter.sample(now_mono_s)

    async def invoker_died(self) -> None:
        return

    async def silence(self) -> None:
        freeze(self.cgroup)

    async def clear(self) -> None:
        """What is inside the cgroup may be no descendant; and version 1 lets nothing frozen die."""
        if self.cgroup is None:
            return
        try:
            processes.send((pid for pid in self.cgroup.pids() if pid != os.getpid()), signal.SIGKILL)
            self.cgroup.freeze(False)
            if not await host.empty(self.cgroup, timeout_s=KILL_TIMEOUT_S):
                _log.error("processes in the VM's cgroup cannot be killed", pids=self.cgroup.pids())
        except CgroupError as e:
            _log.error("cannot empty the VM's cgroup", error=str(e))

    async def leave(self) -> None:
        return

    def close(self) -> None:
        try:
            if self.cgroup is not None:
                self.cgroup.remove()
            if self._tree is not None:
                remove_host_tree(self._tree, LinuxKernel())
            elif self._shared_tree is not None and os.getppid() != self._parent:
                remove_if_empty(self._shared_tree, LinuxKernel())  # the fleet is dead: the last agent out removes it
        except CgroupError as e:
            _log.error("a cgroup is left behind", error=str(e))

    async def stand_by(self, stop: asyncio.Event) -> None:
        await stop.wait()


def dirs_of(cgroup: VmCgroup | None) -> str:
    return "" if cgroup is None else ":".join(str(d) for d in cgroup.dirs)


def freeze(cgroup: VmCgroup | None) -> bool:
    """Stops all that is inside; False where that cannot be."""
    try:
        return cgroup is not None and cgroup.freeze(True)
    except CgroupError as e:
        _log.warning("the containers of the VM cannot be frozen", error=str(e))
        return False
