"""The emulated host on a real Docker Engine."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from harvest_agent.processes import read_process

from .docker_vms import Cluster, becomes, invoker_command, pid_of
from .vms import Served, fleet, output_of

pytestmark = [pytest.mark.docker]


def config(here: Cluster, folder: Path, *ids: str, **more: object) -> dict[str, Any]:
    return {
        "vms": [{"id": vm_id, "cores": 1} for vm_id in ids],
        "backend": "docker",
        "cluster": here.id,
        "core_scale": 0.2,
        "invoker": invoker_command(folder, containers=1),
        **more,
    }


async def test_vms_end_with_their_fleet(short_dir: Path, here: Cluster) -> None:
    async with fleet(short_dir, **config(here, short_dir, "h1", "h2")) as host:
        await here.running("h1", 1)
        await here.running("h2", 1)
        _, answer = await host.call("GET", "/v1/vms")
        enforced = {vm["cpu_enforced"] for vm in answer["vms"]}
        assert enforced == {bool(here.cgroups())}
        assert await host.stop() == 0
    assert await here.holding() == {}
    assert here.cgroups() == []


async def test_an_agent_that_dies_is_cleaned_up(short_dir: Path, here: Cluster) -> None:
    async with fleet(short_dir, **config(here, short_dir, "h1", "h2")) as host:
        await here.running("h1", 1)
        await here.running("h2", 1)
        agents = output_of("pgrep", "-P", str(host.pid)).stdout.split()
        os.kill(min(map(int, agents)), signal.SIGKILL)

        async def one_is_left() -> bool:
            return len(await here.ids()) == 1

        await becomes(one_is_left)


async def test_the_next_fleet_removes_what_a_kill_of_all_left(short_dir: Path, here: Cluster) -> None:
    """Frozen, too: one VM was silent."""
    async with fleet(short_dir, **config(here, short_dir, "h1", link_loss_s=600)) as host:
        await here.running("h1", 1)
        agent = Served(host.process, short_dir / "run/h1/agent.sock")
        assert (await agent.call("POST", "/v1/evict", {"notice_s": 0}))[0] == 204
        invoker = pid_of(short_dir / "docker_invoker.py")

        async def silent() -> bool:
            process = read_process(invoker)
            return process is not None and process.state == "T"

        await becomes(silent)
        children = output_of("pgrep", "-P", str(host.pid)).stdout.split()
        host.process.send_signal(signal.SIGSTOP)
        for pid in (*map(int, children), invoker, host.pid):
            os.kill(pid, signal.SIGKILL)
    left = await here.ids()
    assert len(left) == 1
    (short_dir / "run/fleet.sock").unlink()
    async with fleet(short_dir, **{**config(here, short_dir, "h2"), "cluster": here.id + "b"}) as successor:
        assert await here.ids() == set()
        assert all(p.name.endswith("b") for p in here.cgroups())
        assert await successor.stop() == 0
    assert here.cgroups() == []
