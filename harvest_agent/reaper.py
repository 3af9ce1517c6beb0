"""Keeps a VM's lease, and removes what dead VMs of the same cluster left on the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

from fallow.infra import clock, tasks
from fallow.infra.engine import EngineError
from fallow.infra.log import get_logger
from fallow.infra.tasks import FatalError
from harvest_agent.cgroups import VmCgroup
from harvest_agent.containers import ClusterContainers
from harvest_agent.leases import LOOK_S, RENEW_S, Leases, Look, lapsed, still, watches

REMOVE_TIMEOUT_S = 8.0
_LEAVE_TIMEOUT_S = 7.0  # a lease lapses 5 s after its last touch; two looks of a second
_LEAVE_LOOK_S = 1.5  # apart enough for every living VM to have touched its lease in between

_log = get_logger("harvest_agent.reaper")


class Reaper:
    def __init__(
        self,
        leases: Leases,
        containers: ClusterContainers,
        *,
        cgroup_of: Callable[[str], VmCgroup | None],
        remove_cgroup: Callable[[str], None],
    ) -> None:
        """`cgroup_of` knows the cgroups that dead VMs of the cluster left on this machine."""
        self._leases = leases
        self._containers = containers
        self._cgroup_of = cgroup_of
        self._remove_cgroup = remove_cgroup
        self._away = False

    def take_lease(self) -> None:
        """Before the first container. Raises FatalError where the folder cannot be written."""
        self._see(frozenset())

    def drop_lease(self) -> None:
        """Only once no container of the VM is left: the file is what the others know it by."""
        try:
            self._leases.drop()
        except OSError as e:
            _log.warning("the lease of this VM is left behind", error=str(e))

    async def keep_lease(self) -> NoReturn:
        """For ever, and apart from all that speaks to the engine, which may hang. Raises FatalError."""
        await tasks.every(RENEW_S, self.take_lease)

    async def watch(self) -> NoReturn:
        """For ever: removes the containers of VMs whose lease lapsed, while it is this VM's turn to look."""
        before: Look | None = None
        while True:
            await asyncio.sleep(LOOK_S)
            look = self._see(frozenset())
            if not watches(self._leases.vm_id, look.touched_s, look.now_s):
                before = None
                continue
            before = await self._look_again(before)

    async def leave(self) -> None:
        """Stays while containers are here whose VM may be dead but not for long enough to say so; then removes them.

        So the last VM of a cluster that ends leaves nothing of one that was killed just before. Bounded in time.
        """
        deadline_mono_s = clock.mono_s() + _LEAVE_TIMEOUT_S
        before: Look | None = None
        told = False
        while (now := await self._look()) is not None and now.suspect:
            if before is not None:
                dead = lapsed(before, now)
                await self._remove(dead)
                waiting = [vm_id for vm_id in still(before, now) if vm_id not in dead]
                if not waiting or clock.mono_s() >= deadline_mono_s:
                    return
                if not told:
                    _log.info("waiting whether other VMs are dead, to remove their containers", vms=waiting)
                told = True
            before = now
            await asyncio.sleep(_LEAVE_LOOK_S if not told else LOOK_S)

    async def _look_again(self, before: Look | None) -> Look | None:
        now = await self._look()
        if now is not None and before is not None:
            await self._remove(lapsed(before, now))
        return now

    async def _look(self) -> Look | None:
        """None where the engine does not say what is there."""
        try:
            holding = await self._containers.holding()
        except EngineError as e:
            if not self._away:
                _log.warning("cannot look for containers of dead VMs", error=str(e))
            self._away = True
            return None
        self._away = False
        return self._see(frozenset(vm_id for vm_id in holding if _is_name(vm_id)) - {self._leases.vm_id})

    def _see(self, holding: frozenset[str]) -> Look:
        try:
            return self._leases.look(holding)
        except OSError as e:
            raise FatalError(f"the leases of the VMs cannot be kept: {e}; lease_dir must be a folder of ours") from e

    async def _remove(self, dead: list[str]) -> None:
        for vm_id in dead:
            _log.warning("a VM died: removing what it left", vm=vm_id)
            if await self._containers.remove(vm_id, self._cgroup_of(vm_id), timeout_s=REMOVE_TIMEOUT_S):
                self._remove_cgroup(vm_id)
                self._leases.forget(vm_id)
                _log.info("removed what a dead VM left", vm=vm_id)


def _is_name(vm_id: str) -> bool:
    """Labels are what somebody wrote; only a plain name is a VM's, and safe as a file's."""
    return bool(vm_id) and "/" not in vm_id and not vm_id.startswith(".")
