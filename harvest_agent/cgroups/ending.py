"""The end of a VM's Docker containers, without letting them run on.

Under version 1 nothing dies in a frozen cgroup: a kill by the engine's API reaches the processes within some 40 ms, but
they keep it pending, the call hangs, and after 12 s the engine answers "did not receive an exit event". So the signals
are sent first and the VM is thawed under them: a thawed process handles a pending SIGKILL before it runs on. Should
one be without its signal yet, the quota is at its floor by then, 1 ms in a second.

Version 2 kills what is frozen, by one write to `cgroup.kill`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping

from fallow.infra import clock
from fallow.infra.engine import Engine, EngineError
from harvest_agent import processes
from harvest_agent.cgroups.kernel import CgroupError
from harvest_agent.cgroups.vm import VmCgroup

_SIGNAL_S = 2.0  # for the engine to send its signals, some 50 times what it takes
_LOOK_PERIOD_S = 0.05


async def kill_frozen(cgroup: VmCgroup, engine: Engine, labels: Mapping[str, str]) -> None:
    """Kills the containers with these labels, all in `cgroup`, which may be frozen and ends up thawed; the engine can
    remove them then. Nothing may start further ones (the invoker is dead or stopped).

    It holds for a dead agent's VM as well: whoever finds its lease lapsed makes the VM's cgroup object and calls this
    before it removes a container. A cgroup that is not there holds nothing back.

    Raises EngineError or CgroupError where neither kernel nor engine could be made to send the signals; the VM stays
    frozen then. Takes some milliseconds, or 2 s for each 8 containers where only the engine sees the processes.
    """
    if not cgroup.exists():
        return
    cgroup.set_cores(0.0)  # the floor
    sent = cgroup.kill() or _kill_seen(cgroup)
    cgroup.thaw_inside()
    if not sent:
        await _signal_all(engine, labels)
    cgroup.freeze(False)
    cgroup.set_cores(1.0)  # an exit takes CPU too: at the floor it would take seconds


async def end_frozen(cgroup: VmCgroup, engine: Engine, labels: Mapping[str, str], *, timeout_s: float) -> None:
    """Kills what `kill_frozen` does, removes the containers and waits until nothing is inside.

    The caller removes the cgroup then. Raises EngineError where the engine fails, CgroupError where a process is
    inside after `timeout_s`.
    """
    deadline_mono_s = clock.mono_s() + timeout_s
    await kill_frozen(cgroup, engine, labels)
    while found := await engine.containers(labels):
        ends = [engine.remove(each.id, timeout_s=max(1.0, deadline_mono_s - clock.mono_s())) for each in found]
        results = await asyncio.gather(*ends, return_exceptions=True)
        failed = [r for r in results if isinstance(r, BaseException)]
        if failed and clock.mono_s() > deadline_mono_s:
            raise failed[0]
        if failed:  # such as "removal is already in progress": whoever asked first needs time for it
            await asyncio.sleep(_LOOK_PERIOD_S)
    while cgroup.occupied():
        if clock.mono_s() > deadline_mono_s:
            raise CgroupError(f"{cgroup.dirs[0]}: a process inside outlives SIGKILL")
        await asyncio.sleep(_LOOK_PERIOD_S)


def _kill_seen(cgroup: VmCgroup) -> bool:
    """False where the processes cannot be seen, as from a container."""
    pids = [pid for pid in cgroup.pids() if pid != os.getpid()]
    processes.send(pids, signal.SIGKILL)
    return bool(pids) or not cgroup.occupied()


async def _signal_all(engine: Engine, labels: Mapping[str, str]) -> None:
    """Has the engine send SIGKILL; its calls hang until the VM is thawed and are given up."""
    living = [c for c in await engine.containers(labels) if c.state in ("running", "paused", "restarting")]
    sends = [asyncio.ensure_future(_signal(engine, each.id)) for each in living]
    if sends:
        await asyncio.wait(sends)


async def _signal(engine: Engine, container_id: str) -> None:
    with contextlib.suppress(EngineError):  # given up, as it must be, or it has ended
        await engine.kill(container_id, timeout_s=_SIGNAL_S)
