"""A VM whose containers are Docker's, on a real engine: they are nobody's children, and none outlives its VM."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from harvest_agent.agent import EXIT_EVICTED

from .docker_vms import Cluster, becomes, docker_vm, pid_of, quota
from .vms import Served, agent, events

pytestmark = [pytest.mark.docker]


async def test_a_stopped_vm_leaves_no_container_lease_or_cgroup(short_dir: Path, here: Cluster) -> None:
    async with agent(short_dir, **docker_vm(here, short_dir)) as vm:
        await here.running("h1", 2)
        assert (short_dir / "leases/h1.lease").exists()
        _, state = await vm.call("GET", "/v1/state")
        assert state["cpu_enforced"] == bool(here.cgroups())
        assert await vm.stop() == 0
    assert await here.holding() == {}
    assert here.cgroups() == []
    assert list((short_dir / "leases").iterdir()) == []
    assert [e["event"] for e in events(short_dir / "events.jsonl")] == ["joined", "gone"]


@pytest.mark.parametrize("cgroup_root", ["auto", "none"])
async def test_what_containers_use_is_seen_though_they_are_siblings(
    short_dir: Path, here: Cluster, cgroup_root: str
) -> None:
    """By the VM's cgroup, or else by the engine."""
    async with agent(short_dir, cgroup_root=cgroup_root, **docker_vm(here, short_dir)) as vm:
        await here.running("h1", 2)

        async def used() -> Any:
            _, state = await vm.call("GET", "/v1/state")
            return state["cpu_used"] > 0.3 and state["memory_used_mb"] > 0

        await becomes(used)


async def test_an_evicted_vm_is_frozen_and_then_nothing_is_left(short_dir: Path, here: Cluster) -> None:
    async with agent(short_dir, **docker_vm(here, short_dir, link_loss_s=2)) as vm:
        await here.running("h1", 2)
        assert (await vm.call("POST", "/v1/evict", {"notice_s": 0}))[0] == 204
        assert await vm.ended() == EXIT_EVICTED
    assert await here.holding() == {}
    assert here.cgroups() == []


async def test_an_evicted_vm_without_a_cgroup_leaves_nothing_either(short_dir: Path, here: Cluster) -> None:
    """Nothing can freeze its containers: they are gone as soon as it falls silent."""
    async with agent(short_dir, cgroup_root="none", link_loss_s=600, **docker_vm(here, short_dir)) as vm:
        await here.running("h1", 2)
        _, state = await vm.call("GET", "/v1/state")
        assert (state["cpu_enforced"], state["cpu_note"]) == (False, "switched off (cgroup_root = none)")
        assert (await vm.call("POST", "/v1/evict", {"notice_s": 0}))[0] == 204

        async def none_left() -> bool:
            return await here.holding() == {}

        await becomes(none_left)
        vm.process.send_signal(signal.SIGTERM)  # cuts the silence short
        assert await vm.ended() == EXIT_EVICTED


async def test_a_dead_invoker_takes_its_containers_along(short_dir: Path, here: Cluster) -> None:
    async with agent(short_dir, **docker_vm(here, short_dir)):
        await here.running("h1", 2)
        before, its_quota = await here.ids(), quota(here, "h1")
        os.kill(pid_of(short_dir / "docker_invoker.py"), signal.SIGKILL)

        async def anew() -> bool:
            now = await here.ids()
            return len(now) == 2 and not now & before

        await becomes(anew)
        assert quota(here, "h1") == its_quota


@asynccontextmanager
async def two_vms(here: Cluster, folder: Path) -> AsyncIterator[tuple[Served, Served]]:
    """h1 with two containers, killed without a chance to clear up; h2 with one."""
    for name in ("1", "2"):
        (folder / name).mkdir()
    leases = folder / "leases"
    async with (
        agent(folder / "1", **docker_vm(here, folder / "1", lease_dir=leases)) as dead,
        agent(folder / "2", vm_id="h2", **docker_vm(here, folder / "2", lease_dir=leases, containers=1)) as other,
    ):
        await here.running("h1", 2)
        await here.running("h2", 1)
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

        await becomes(reaped)
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


async def test_a_vm_that_stops_leaves_living_ones_alone(short_dir: Path, here: Cluster) -> None:
    one, two = short_dir / "1", short_dir / "2"
    one.mkdir()
    two.mkdir()
    leases = short_dir / "leases"
    async with (
        agent(one, **docker_vm(here, one, lease_dir=leases)) as stopping,
        agent(two, vm_id="h2", **docker_vm(here, two, lease_dir=leases, containers=1)),
    ):
        await here.running("h1", 2)
        await here.running("h2", 1)
        assert await stopping.stop() == 0
        assert await here.holding() == {"h2": ["running"]}
        assert bool(quota(here, "h2")) == bool(here.cgroups())
        assert not quota(here, "h1")
    assert here.cgroups() == []
