"""The emulated host: starts and ends the agents of many VMs as their traces and the provider ask.

`python -m harvest_agent.fleet --config FILE` (see fleet_config) serves a unix socket:
`GET /v1/vms` what there is; `PUT /v1/target {"vms": n}` at least n harvest VMs alive or starting, answered with what
is up and what is on its way; `POST /v1/play` starts the traces; `POST /v1/stop` ends it all.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fallow.core.model import VmKind
from fallow.infra import log, settings, tasks
from fallow.infra.log import get_logger
from fallow.infra.settings import CommonSettings
from fallow.infra.tasks import FatalError
from harvest_agent import host, processes
from harvest_agent.agent import EXIT_EVICTED
from harvest_agent.api import UnixServer
from harvest_agent.cgroup_find import enter_user_scope
from harvest_agent.cgroups import CgroupError, HostTree, LinuxKernel, VmCgroup
from harvest_agent.ending import uncut
from harvest_agent.events import EventLog, Happened
from harvest_agent.fleet_api import FleetApi, NoProviderError
from harvest_agent.fleet_config import FleetConfig, FleetVm, read_config
from harvest_agent.ledger import FleetLedger
from harvest_agent.member import Member, Phase
from harvest_agent.sweep import sweep

if TYPE_CHECKING:
    from harvest_agent.fleet_docker import FleetDocker

_STOP_TIMEOUT_S = 11.0  # an agent gives its invoker 8 s
_DOCKER_STOP_TIMEOUT_S = 20.0  # and as long again to an engine that has to remove its containers
_KILL_TIMEOUT_S = 5.0

_log = get_logger("harvest_agent.fleet")


class Fleet:
    def __init__(self, config: FleetConfig) -> None:
        self._config = config
        self._members = {vm.id: Member(vm, config) for vm in config.vms}
        self._playing = not config.hold
        self._stop = asyncio.Event()
        self._group = asyncio.TaskGroup()
        self._timers: set[asyncio.Task[None]] = set()
        self._cgroup_root = ""
        self._tree: HostTree | None = None
        self._ledger = FleetLedger(Path(config.state_dir) / "fleet-owner.json")
        self._kernel = LinuxKernel()
        self._docker = self._docker_of(config.cluster) if config.backend == "docker" else None

    async def run(self, stop: asyncio.Event) -> int:
        """Until `stop` or /v1/stop; leaves no process, socket or cgroup."""
        self._stop = stop
        processes.become_subreaper()
        await self._recover()
        sweep(self._kernel)
        if self._docker is not None:
            self._cgroup_root, self._tree = await self._docker.encode_root(self._config.cgroup_root)
        else:
            self._cgroup_root, self._tree = host.encode_root(self._config.cgroup_root, self._kernel)
        server = UnixServer(FleetApi(self).app(), self._config.socket_path)
        try:
            self._ledger.write(self._tree, cluster=self._config.cluster if self._docker is not None else "")
            self._new_diary()
            await server.start()
            async with self._group:
                self._begin()
                await stop.wait()
                await self._end_all()
        except OSError as e:
            raise FatalError(f"the fleet cannot start (its socket is {self._config.socket_path}): {e}") from e
        finally:
            await uncut(self._leave_nothing(server))
        return 0

    async def _recover(self) -> None:
        cluster, tree = await self._ledger.recover(self._kernel)
        if cluster:
            docker = self._docker_of(cluster)
            await docker.clear_all(tree)
            docker.close()

    def _docker_of(self, cluster: str) -> FleetDocker:
        from harvest_agent.fleet_docker import FleetDocker  # the SDK is no part of a process without Docker

        return FleetDocker(cluster, self._kernel)

    def describe(self) -> dict[str, object]:
        return {"vms": [m.describe() for m in self._members.values()], "playing": self._playing}

    def set_target(self, vms: int) -> tuple[int, int]:
        """Sees that `vms` harvest VMs live or start, as far as the provider has them; answers (up, on their way).

        Raises NoProviderError.
        """
        provider = self._config.provider
        if provider is None:
            raise NoProviderError("this fleet has no provider: no further VMs can be had")
        living = self._living()
        for _ in range(min(vms, provider.max_vms) - len(living)):
            vm = FleetVm(
                id=self._next_id(),
                cores=provider.cores,
                memory_mb=provider.memory_mb,
                speed=provider.speed,
                price=provider.price,
            )
            member = self._members[vm.id] = Member(vm, self._config)
            member.phase = Phase.STARTING
            _log.info("VM ordered", vm=vm.id, target=vms)
            self._after(provider.delay_s, member)
        up = [m for m in self._living() if m.phase is Phase.UP]
        return len(up), len(self._living()) - len(up)

    async def play(self) -> None:
        """Starts the traces; a second time it does nothing."""
        if self._playing:
            return
        self._playing = True
        self._schedule_later_lives()
        await asyncio.gather(*(m.play() for m in self._members.values()))

    def stop(self) -> None:
        self._stop.set()

    def _living(self) -> list[Member]:
        return [m for m in self._members.values() if m.vm.kind == VmKind.HARVEST and m.living]

    def _next_id(self) -> str:
        numbers = (re.fullmatch(r"h(\d+)(\.\d+)?", vm_id) for vm_id in self._members)
        return f"h{max((int(n[1]) for n in numbers if n), default=0) + 1}"

    def _begin(self) -> None:
        for member in list(self._members.values()):
            if member.vm.life is None or member.vm.life.join_s <= 0:
                self._after(0.0, member)
        if self._playing:
            self._schedule_later_lives()

    def _schedule_later_lives(self) -> None:
        for member in list(self._members.values()):
            if member.vm.life is not None and member.vm.life.join_s > 0:
                self._after(member.vm.life.join_s / self._config.vm_speedup, member)

    def _after(self, delay_s: float, member: Member) -> None:
        task = self._group.create_task(self._wait_and_start(delay_s, member))
        self._timers.add(task)
        task.add_done_callback(self._timers.discard)

    async def _wait_and_start(self, delay_s: float, member: Member) -> None:
        await asyncio.sleep(delay_s)
        self._group.create_task(self._live(member))

    async def _live(self, member: Member) -> None:
        if self._stop.is_set():
            return
        code = await member.live(self._cgroup_root, playing=self._playing)
        if code == EXIT_EVICTED:
            _log.info("VM gone", vm=member.vm.id)
        elif code != 0:
            _log.error("agent died", vm=member.vm.id, code=code)
            events = EventLog(member.events_path, vm_id=member.vm.id, kind=member.vm.kind)
            events.write(Happened.GONE, by="crash", code=code)
            events.close()
        await self._clean_after(member)

    async def _clean_after(self, member: Member) -> None:
        """What an agent that died leaves: orphans, which are this process's children now, and a cgroup."""
        if not await processes.kill_all(os.getpid(), owned=self._owned, spare_owned=True, timeout_s=_KILL_TIMEOUT_S):
            _log.error("processes of a dead VM cannot be killed", vm=member.vm.id)
        if self._docker is not None:
            return await self._docker.clear(member.vm.id, self._tree)
        if self._tree is None:
            return None
        cgroup = VmCgroup(self._tree, member.vm.id, self._kernel)
        try:
            if any(self._kernel.exists(d) for d in cgroup.dirs):
                cgroup.freeze(False)
                await host.empty(cgroup, timeout_s=_KILL_TIMEOUT_S)
                cgroup.remove()
        except CgroupError as e:
            _log.error("the cgroup of a dead VM is left behind", vm=member.vm.id, error=str(e))

    def _owned(self) -> set[int]:
        children = (m.child for m in self._members.values())
        return {c.pid for c in children if c is not None and c.returncode is None}

    async def _end_all(self) -> None:
        for timer in list(self._timers):
            timer.cancel()
        children = [m.child for m in self._members.values() if m.child is not None]
        timeout_s = _STOP_TIMEOUT_S if self._docker is None else _DOCKER_STOP_TIMEOUT_S
        ended = await asyncio.gather(*(c.terminate(timeout_s) for c in children))
        for child, ok in zip(children, ended, strict=True):
            if not ok:
                _log.error("agent did not stop in time", pid=child.pid)
                processes.send([child.pid], signal.SIGKILL)

    async def _leave_nothing(self, server: UnixServer) -> None:
        """Agents that ended by themselves left nothing to do here. The rest: an invoker before its containers, and
        those by their cgroups, as the ones of a VM that fell silent are frozen."""
        await server.stop()
        processes.send((p.pid for p in processes.descendants(os.getpid())), signal.SIGKILL)
        try:
            if self._docker is not None:
                await self._docker.clear_all(self._tree)
                self._docker.close()
            elif self._tree is not None:
                await host.clear_tree(self._tree, self._kernel, timeout_s=_KILL_TIMEOUT_S)
            self._ledger.clear()
        except CgroupError as e:
            _log.error("cgroups are left behind", error=str(e))
        if not await processes.kill_all(os.getpid(), owned=lambda: (), timeout_s=_KILL_TIMEOUT_S):
            _log.error("processes are left behind")

    def _new_diary(self) -> None:
        """The diary of an earlier run in this folder is kept under another name, never mixed with this one's."""
        path = Path(self._config.state_dir) / "vms" / "events.jsonl"
        if path.exists():
            path.replace(path.with_suffix(".jsonl.1"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m harvest_agent.fleet", description="Emulates the VMs of a host")
    parser.add_argument("--config", type=Path, required=True, help="JSON file")
    path = parser.parse_args().config
    enter_user_scope([sys.executable, "-m", "harvest_agent.fleet", "--config", str(path)])
    try:
        common = settings.load(CommonSettings, section="common", file=None, env=os.environ, flags={})
        log.configure(common.log_level, common.log_format, "fleet")
        config = read_config(path)
    except FatalError as e:
        sys.stderr.write(f"{e}\n")
        return tasks.EXIT_ERROR

    async def live(stop: asyncio.Event) -> int:
        return await Fleet(config).run(stop)

    return tasks.run(live)


if __name__ == "__main__":
    sys.exit(main())
