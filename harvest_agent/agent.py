"""The entry process of a VM: its cgroup, its socket, its invoker, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path

from fallow.core.model import VmKind
from fallow.infra import clock, tasks
from fallow.infra.log import get_logger
from fallow.infra.settings import AgentSettings
from fallow.infra.tasks import FatalError
from fallow.traces.vms import Life
from harvest_agent import processes
from harvest_agent.api import AgentApi, UnixServer
from harvest_agent.child import InvokerChild
from harvest_agent.emulator import EmulatedVm
from harvest_agent.ending import uncut
from harvest_agent.events import EventLog, Happened
from harvest_agent.housing import KILL_TIMEOUT_S, Housing, ProcessHousing
from harvest_agent.sources import Source, StaticSource, TracePlayer

EXIT_EVICTED = 75
_SAMPLE_PERIOD_S = 1.0
_INVOKER_END_S = 3.0  # what a stopping invoker needs beside the time that it gives its calls

_log = get_logger("harvest_agent.agent")


class Agent:
    """One life of one VM. `run` ends with the VM: on `stop` (0) or evicted (EXIT_EVICTED)."""

    def __init__(self, settings: AgentSettings, env: Mapping[str, str], *, source: Source | None = None) -> None:
        """`env` is what the invoker inherits; `source` None = what the settings say.

        Raises FatalError for settings that contradict themselves.
        """
        _check(settings)
        self._settings = settings
        self._env = env
        self._go = asyncio.Event()
        if not settings.hold:
            self._go.set()
        self._source = self._make_source() if source is None else source
        self._events = EventLog(settings.events, vm_id=settings.vm_id, kind=settings.kind)
        self._housing: Housing = housing_of(settings)

    @property
    def left_nothing(self) -> bool:
        """After `run`: no container of the VM is left behind."""
        return self._housing.clean

    async def run(self, stop: asyncio.Event) -> int:
        processes.become_subreaper()
        try:
            if not await self._housing.ready(stop):
                return 0
            async with self._housing.kept():
                code = await self._run(stop)
                if stop.is_set():
                    await self._housing.leave()
                return code
        finally:
            self._housing.close()
            self._events.write(Happened.GONE)
            self._events.close()

    async def _run(self, stop: asyncio.Event) -> int:
        cores = self._source.first_cores()
        note = self._housing.make_cgroup(cores * self._settings.core_scale)
        vm = EmulatedVm(self._settings, self._housing.cgroup, self._events, cores=cores, cpu_note=note)
        child = InvokerChild(self._settings.invoker, self._invoker_env(), self._events)
        return await self._live(vm, child, stop)

    async def _live(self, vm: EmulatedVm, child: InvokerChild, stop: asyncio.Event) -> int:
        server = UnixServer(AgentApi(self._settings, vm, self._go).app(), self._settings.socket)
        try:
            await server.start()
        except OSError as e:
            raise FatalError(f"cannot serve on {self._settings.socket!r}: {e}") from e
        self._events.write(Happened.JOINED, cores=vm.cores)
        note = vm.state().cpu_note
        cpu = f"not enforced ({note})" if note else "enforced"
        _log.info("VM joined", vm=self._settings.vm_id, cores=vm.cores, cpu=cpu)
        try:
            evicted_by = await self._until_end(vm, child, stop)
            if evicted_by is not None:
                self._events.write(Happened.EVICTED, cores=vm.cores, by=evicted_by)
                _log.info("VM evicted", vm=self._settings.vm_id, by=evicted_by)
                await self._silence(child, stop)
            else:
                await child.stop(self._settings.stop_grace_s + _INVOKER_END_S)
        finally:
            await uncut(self._end(vm, child, server))
        return 0 if evicted_by is None else EXIT_EVICTED

    async def _end(self, vm: EmulatedVm, child: InvokerChild, server: UnixServer) -> None:
        try:
            await self._kill_everything(child)
        finally:
            vm.close()
            await server.stop()

    async def _until_end(self, vm: EmulatedVm, child: InvokerChild, stop: asyncio.Event) -> str | None:
        """Lets the VM live; answers who evicted it, or None where it is asked to stop."""

        async def sample() -> None:
            processes.reap_orphans(child.owned())
            vm.measured(await self._housing.usage(clock.mono_s(), without=child.owned))

        async with asyncio.TaskGroup() as group:
            loops = [
                group.create_task(child.supervise(self._housing.invoker_died)),
                group.create_task(tasks.every(_SAMPLE_PERIOD_S, sample)),
                group.create_task(self._source.drive(vm)),
                group.create_task(self._housing.watch()),
            ]
            stopped, evicted = asyncio.ensure_future(stop.wait()), asyncio.ensure_future(vm.deadline())
            try:
                await asyncio.wait({stopped, evicted}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (*loops, stopped, evicted):
                    task.cancel()
        return None if stopped.done() and not stopped.cancelled() else evicted.result()

    async def _silence(self, child: InvokerChild, stop: asyncio.Event) -> None:
        """Stops every process of the VM for the link-loss time: peers see no closed socket, as with a lost machine.

        The invoker first, so that it starts nothing more.
        """
        processes.send(child.owned(), signal.SIGSTOP)
        await self._housing.silence()
        processes.stop_all(os.getpid())
        try:
            async with asyncio.timeout(self._settings.link_loss_s):
                await stop.wait()
        except TimeoutError:
            return

    async def _kill_everything(self, child: InvokerChild) -> None:
        """The invoker first: one that saw its containers end would report that they ended by themselves.

        Raises FatalError where a process outlives SIGKILL.
        """
        processes.send(child.owned(), signal.SIGKILL)
        with contextlib.suppress(TimeoutError):  # the rest must end all the same
            await child.collected(KILL_TIMEOUT_S)
        processes.send((p.pid for p in processes.descendants(os.getpid())), signal.SIGKILL)
        await self._housing.clear()
        if not await processes.kill_all(os.getpid(), owned=child.owned, timeout_s=KILL_TIMEOUT_S):
            raise FatalError(f"processes of {self._settings.vm_id} cannot be killed")
        await child.collected(KILL_TIMEOUT_S)

    def _make_source(self) -> Source:
        s = self._settings
        if not s.life:
            return StaticSource(s.cores)
        try:
            life = Life.from_json(json.loads(Path(s.life).read_text(encoding="utf-8")))
        except (OSError, ValueError) as e:
            raise FatalError(f"life={s.life!r} is not the life of a VM: {e}") from e
        return TracePlayer(life, speedup=s.vm_speedup, notice_s=s.notice_s, go=self._go)

    def _invoker_env(self) -> dict[str, str]:
        s = self._settings
        own = {
            tasks.PARENT_DEATH_ENV: "1",
            "FALLOW_AGENT_SOCKET": s.socket,
            "FALLOW_VM_ID": s.vm_id,
            "FALLOW_KIND": s.kind,
            "FALLOW_SPEED": str(s.speed),
            "FALLOW_PRICE": str(s.price),
            **self._housing.invoker_env(),
        }
        replaced = {f"{name}_FILE" for name in own}  # what the agent read from a file it hands on as it is
        return {name: value for name, value in self._env.items() if name not in replaced} | own


def housing_of(settings: AgentSettings) -> Housing:
    if settings.backend == "docker":
        from harvest_agent.docker_housing import DockerHousing  # the SDK is no part of a process without Docker

        return DockerHousing(settings)
    return ProcessHousing(settings)


def _check(settings: AgentSettings) -> None:
    """Raises FatalError naming the first setting that cannot be."""
    if settings.kind not in set(VmKind):
        raise FatalError(f"kind is {settings.kind!r}; it must be one of {', '.join(VmKind)}")
    if not settings.socket:
        raise FatalError("socket is not set: the agent serves its VM's state on that unix socket")
    if "/" in settings.vm_id or settings.vm_id.startswith(".") or not settings.vm_id:
        raise FatalError(f"vm_id is {settings.vm_id!r}; it must be a plain name")
    if settings.backend == "docker" and not settings.lease_dir:
        raise FatalError("backend=docker needs lease_dir: a folder that the VMs of this engine share")
    for name in ("cores", "memory_mb", "core_scale", "vm_speedup"):
        if not getattr(settings, name) > 0:
            raise FatalError(f"{name} is {getattr(settings, name)!r}; it must be above 0")
    for name in ("notice_s", "link_loss_s"):
        if not getattr(settings, name) >= 0:
            raise FatalError(f"{name} is {getattr(settings, name)!r}; it must be at least 0")
