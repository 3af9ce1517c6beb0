"""A Docker Engine that is away or hangs: it delays a VM and leaves work to others, and holds nobody up for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harvest_agent.agent import EXIT_EVICTED
from support.engine_proxy import EngineProxy

from .docker_vms import Cluster, becomes, docker_vm, through
from .vms import Served, agent, service

pytestmark = [pytest.mark.docker]


@pytest.fixture
async def proxy(short_dir: Path) -> AsyncIterator[EngineProxy]:
    found = EngineProxy(short_dir / "docker.sock")
    yield found
    await found.close()


@pytest.mark.parametrize("evicted", [False, True], ids=["stopped", "evicted"])
async def test_a_vm_ends_without_the_engine_and_another_clears_up(
    short_dir: Path, here: Cluster, proxy: EngineProxy, evicted: bool
) -> None:
    await proxy.start()
    one, two, leases = short_dir / "1", short_dir / "2", short_dir / "leases"
    one.mkdir()
    two.mkdir()
    async with agent(one, env=through(proxy), **docker_vm(here, one, lease_dir=leases)) as vm:
        await here.running("h1", 2)
        proxy.stall()
        assert (await vm.call("GET", "/v1/state"))[0] == 200
        if evicted:
            assert (await vm.call("POST", "/v1/evict", {"notice_s": 0}))[0] == 204
            assert await vm.ended(within_s=60) == EXIT_EVICTED
        else:
            assert await vm.stop() == 0
    assert "containers are left behind" in (one / "log").read_text()
    assert len((await here.holding())["h1"]) == 2
    assert (leases / "h1.lease").exists()  # by which the others know
    async with agent(two, vm_id="h2", **docker_vm(here, two, lease_dir=leases, containers=0)) as other:

        async def cleared() -> bool:
            return await here.holding() == {} and not (leases / "h1.lease").exists()

        await becomes(cleared)
        assert await other.stop() == 0
    assert here.cgroups() == []


async def test_a_vm_joins_when_its_engine_answers(short_dir: Path, here: Cluster, proxy: EngineProxy) -> None:
    settings = docker_vm(here, short_dir, containers=1, vm_id="h1")
    async with service(short_dir, env=through(proxy), **settings) as served:
        await becomes(lambda: asyncio.sleep(0, "waits for the Docker Engine" in (short_dir / "log").read_text()))
        assert not (short_dir / "a.sock").exists()
        await proxy.start()
        await Served(served.process, short_dir / "a.sock").ready()
        await here.running("h1", 1)
        assert await served.stop() == 0
    assert await here.holding() == {}


async def test_a_vm_that_waits_for_its_engine_can_be_stopped(
    short_dir: Path, here: Cluster, proxy: EngineProxy
) -> None:
    await proxy.start()
    proxy.stall()
    async with service(short_dir, env=through(proxy), **docker_vm(here, short_dir, vm_id="h1")) as served:
        assert await served.stop() == 0
