"""A VM whose containers are Docker's, on a real engine: they are nobody's children, and none outlives its VM."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from harvest_agent.agent import EXIT_EVICTED

from .docker_vms import Cluster, cluster, invoker_command
from .vms import Served, agent, events

pytestmark = [pytest.mark.docker]


@pytest.fixture
async def here() -> AsyncIterator[Cluster]:
    async with cluster() as found:
        yield found


async def until(condition: Callable[[], Awaitable[Any]], *, within_s: float = 60.0) -> Any:
    """The deadline only ends a test that has failed."""
    async with asyncio.timeout(within_s):
        while not (value := await condition()):
            await asyncio.sleep(0.1)
        return value


def of(here: Cluster, folder: Path, *, containers: int = 2, **settings: object) -> dict[str, object]:
    return {
        "backend": "docker",
        "cluster": here.id,
        "lease_dir": folder / "leases",
        "invoker": invoker_command(folder, containers=containers),
        "cores": 1.0,
        "core_scale": 0.2,
        **settings,
    }


async def running(here: Cluster, vm_id: str, count: int) -> None:
    async def all_run() -> bool:
        return (await here.holding()).get(vm_id, []) == ["running"] * count

    await until(all_run)


async def test_a_stopped_vm_leaves_no_container_lease_or_cgroup(short_dir: Path, here: Cluster) -> None:
    async with agent(short_dir, **of(here, short_dir)) as vm:
        await running(here, "h1", 2)
        assert (short_dir / "leases/h1").exists()
        _, state = await vm.call("GET", "/v1/state")
        assert state["cpu_enforced"] == bool(here.cgroups())
        assert await vm.stop() == 0
    assert await here.holding() == {}
    assert here.cgroups() == []
    assert list((short_dir / "leases").iterdir()) == []
    assert [e["event"] for e in events(short_dir / "events.jsonl")] == ["joined", "gone"]


async def test_what_containers_use_is_seen_though_they_are_siblings(short_dir: Path, here: Cluster) -> None:
    async with agent(short_dir, **of(here, short_dir)) as vm:
        await running(here, "h1", 2)

        async def used() -> Any:
            _, state = await vm.call("GET", "/v1/state")
            return state["cpu_used"] > 0.3 and state["memory_used_mb"] > 0

        await until(used)


async def test_an_evicted_vm_is_frozen_and_then_nothing_is_left(short_dir: Path, here: Cluster) -> None:
    async with agent(short_dir, **of(here, short_dir, link_loss_s=2)) as vm:
        await running(here, "h1", 2)
        assert (await vm.call("POST", "/v1/evict", {"notice_s": 0}))[0] == 204
        assert await vm.ended() == EXIT_EVICTED
    assert await here.holding() == {}
    assert here.cgroups() == []


async def test_a_dead_invoker_takes_its_containers_along(short_dir: Path, here: Cluster) -> None:
    async with agent(short_dir, **of(here, short_dir)):
        await running(here, "h1", 2)
        before = await ids(here)
        os.kill(pid_of(short_dir / "docker_invoker.py"), signal.SIGKILL)

        async def anew() -> bool:
            now = await ids(here)
            return len(now) == 2 and not now & before

        await until(anew)


@asynccontextmanager
async def two_vms(here: Cluster, folder: Path) -> AsyncIterator[tuple[Served, Served]]:
    """h1 with two containers, killed without a chance to clear up; h2 with one."""
    for name in ("1", "2"):
        (folder / name).mkdir()
    leases = folder / "leases"
    async with (
        agent(folder / "1", **of(here, folder / "1", lease_dir=leases)) as dead,
        agent(folder / "2", vm_id="h2", **of(here, folder / "2", lease_dir=leases, containers=1)) as other,
    ):
        await running(here, "h1", 2)
        await running(here, "h2", 1)
        invoker = pid_of(folder / "1/docker_invoker.py")
        os.kill(invoker, signal.SIGSTOP)
        dead.process.kill()
        try:
            yield dead, other
        finally:
            os.kill(invoker, signal.SIGKILL)


async def test_what_a_killed_agent_left_is_removed_by_another(short_dir: Path, here: Cluster) -> None:
    async with two_vms(here, short_dir) as (_, other):

        async def reaped() -> bool:
            return await here.holding() == {"h2": ["running"]}

        await until(reaped)
        assert (await other.call("GET", "/v1/state"))[0] == 200
        assert await other.stop() == 0
    assert await here.holding() == {}
    assert here.cgroups() == []
    assert list((short_dir / "leases").iterdir()) == []


async def test_the_last_vm_waits_for_the_lease_of_a_dead_one(short_dir: Path, here: Cluster) -> None:
    async with two_vms(here, short_dir) as (_, last):
        assert await last.stop() == 0
        assert await here.holding() == {}
        assert here.cgroups() == []


async def ids(here: Cluster) -> set[str]:
    return {c.id for c in await here.engine.containers({"fallow.cluster": here.id})}


def pid_of(script: Path) -> int:
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if str(script).encode() in words:
                return int(name)
    raise AssertionError(f"nobody runs {script}")
