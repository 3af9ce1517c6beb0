"""Plays the lives of one VM, one agent after the other, in one process."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from fallow.infra import clock, log, tasks
from fallow.infra.log import get_logger
from fallow.infra.settings import AgentSettings, ServiceSettings, load
from fallow.infra.tasks import FatalError
from harvest_agent import host, processes
from harvest_agent.agent import EXIT_EVICTED, Agent, housing_of
from harvest_agent.api import UnixServer
from harvest_agent.cgroup_find import enter_user_scope
from harvest_agent.plan import Plan, read_plan
from harvest_agent.service.health import Phase, socket_of
from harvest_agent.service.ids import VmIds
from harvest_agent.sources import CuePlayer, Source, StaticSource

_REAP_PERIOD_S = 1.0
_AWAY = "away"  # what the VM is called in its lease while it is no VM

_log = get_logger("harvest_agent.service")


def run(env: Mapping[str, str]) -> int:
    """Until SIGTERM; the exit code."""
    try:
        settings, plan = configure(env)
        log.configure(settings.log_level, settings.log_format, f"agent {settings.vm_id}")
    except FatalError as e:
        sys.stderr.write(f"{e}\n")
        return 2
    if settings.backend == "process" and settings.cgroup_root == host.AUTO:
        enter_user_scope([sys.executable, "-m", "harvest_agent.service"])

    async def live(stop: asyncio.Event) -> int:
        return await Service(settings, plan, env).run(stop)

    return tasks.run(live)


def configure(env: Mapping[str, str]) -> tuple[ServiceSettings, Plan | None]:
    """The environment over what the plan says of its VM over the defaults. Raises FatalError."""
    settings = load(ServiceSettings, section="service", file=None, env=env, flags={})
    plan = None
    if settings.lives:
        vm, plan = read_plan(Path(settings.lives))
        given = {key: value for key, value in vm.items() if not env.get(f"FALLOW_{key.upper()}")}
        settings = load(ServiceSettings, section="service", file=None, env=env, flags=given)
    return dataclasses.replace(
        settings,
        vm_id=settings.vm_id or socket.gethostname(),
        cores=settings.cores or float(len(os.sched_getaffinity(0))),
        memory_mb=settings.memory_mb or float(_machine_mb() * 4 // 5),
        invoker=settings.invoker or f"{sys.executable} -m invoker",
    ), plan


def _machine_mb() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20


class Service:
    def __init__(self, settings: ServiceSettings, plan: Plan | None, env: Mapping[str, str]) -> None:
        """`plan` None = a VM that is always there. `env` is what invokers inherit."""
        self._settings = settings
        self._plan = plan
        self._env = env
        folder = Path(settings.lease_dir) if settings.lease_dir else Path(settings.socket).parent
        self._ids = VmIds(folder, settings.vm_id)
        self._phase = Phase.AWAY

    async def run(self, stop: asyncio.Event) -> int:
        """Until `stop`. Raises FatalError where the service cannot go on."""
        processes.become_subreaper()
        server = UnixServer(self._app(), str(socket_of(self._settings.socket)))
        try:
            Path(self._settings.socket).parent.mkdir(parents=True, exist_ok=True)
            await server.start()
        except OSError as e:
            raise FatalError(
                f"cannot serve beside {self._settings.socket!r}: {e}; socket must be in a folder of ours"
            ) from e
        try:
            await self._play(stop)
        finally:
            await server.stop()
        return 0

    async def _play(self, stop: asyncio.Event) -> None:
        start_mono_s = clock.mono_s()
        not_before_mono_s = start_mono_s
        while not stop.is_set():
            now_mono_s = clock.mono_s()
            earliest_s = (max(now_mono_s, not_before_mono_s) - start_mono_s) * self._settings.vm_speedup
            join_s, source = self._next(earliest_s)
            if source is None:
                _log.info("VM does not come back: its plan is at its end", vm=self._settings.vm_id)
                await self._stay_away(None, stop)
                return
            away_s = start_mono_s + join_s / self._settings.vm_speedup - now_mono_s
            if away_s > 0:
                _log.info("VM is away", vm=self._settings.vm_id, returns_in_s=round(away_s, 1))
                await self._stay_away(away_s, stop)
            if not stop.is_set():
                await self._live(source, stop)
            not_before_mono_s = clock.mono_s() + self._settings.return_s

    def _next(self, earliest_s: float) -> tuple[float, Source | None]:
        """When the VM joins, on the plan's clock, and what it does then; None = it does not."""
        if self._plan is None:
            return earliest_s, StaticSource(self._settings.cores)
        stay = self._plan.next_stay(earliest_s, speedup=self._settings.vm_speedup, notice_s=self._settings.notice_s)
        return (earliest_s, None) if stay is None else (stay.join_s, CuePlayer(stay.cores, stay.cues))

    async def _live(self, source: Source, stop: asyncio.Event) -> None:
        try:
            vm_id = self._ids.next()
        except OSError as e:
            raise FatalError(f"cannot remember the id of this VM: {e}; lease_dir must be a folder of ours") from e
        settings = self._as_vm(vm_id)
        if vm_id != self._settings.vm_id:
            _log.info("VM returns", vm=vm_id)
        self._phase = Phase.UP
        try:
            agent = Agent(settings, self._env, source=source)
            code = await agent.run(stop)
        finally:
            self._phase = Phase.AWAY
        if code == EXIT_EVICTED:
            _log.info("VM gone", vm=vm_id)
        if stop.is_set() and agent.left_nothing:
            self._ids.forget()

    async def _stay_away(self, for_s: float | None, stop: asyncio.Event) -> None:
        """Not as a VM, yet as one that looks after what dead VMs left on this engine; None = until `stop`."""
        housing = housing_of(self._as_vm(f"{self._settings.vm_id}.{_AWAY}"))
        try:
            async with asyncio.timeout(for_s), asyncio.TaskGroup() as group:
                loop = group.create_task(tasks.every(_REAP_PERIOD_S, _reap))
                try:
                    await housing.stand_by(stop)
                finally:
                    loop.cancel()
        except TimeoutError:
            return
        finally:
            housing.close()

    def _as_vm(self, vm_id: str) -> AgentSettings:
        values = {f.name: getattr(self._settings, f.name) for f in dataclasses.fields(AgentSettings)}
        return AgentSettings(**{**values, "vm_id": vm_id})

    def _app(self) -> web.Application:
        async def tell(request: web.Request) -> web.Response:
            return web.json_response({"phase": self._phase})

        app = web.Application()
        app.router.add_get("/v1/service", tell)
        return app


def _reap() -> None:
    processes.reap_orphans(())
