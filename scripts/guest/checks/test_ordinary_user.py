"""The process backend as an ordinary user whose systemd manager passes the CPU controller on: enforced, and nothing
asked of root."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from tests.harvest_agent.vms import Served, agent, cgroups, invoker_command, tagged, until

pytestmark = [pytest.mark.timeout(600)]
WINDOW_S = 5.0


def cpu_s(vm: Path) -> float:
    stat = dict(line.split() for line in (vm / "cpu.stat").read_text().splitlines())
    return int(stat["usage_usec"]) / 1e6


async def cores_used(vm: Path) -> float:
    before_s, start_s = cpu_s(vm), time.monotonic()
    await asyncio.sleep(WINDOW_S)
    return (cpu_s(vm) - before_s) / (time.monotonic() - start_s)


async def share_used(served: Served, vm: Path, real_cores: float) -> float:
    """Used cores over those to be had, which a measurement without a tight quota gives just before."""
    await served.call("POST", "/v1/resize", {"cores": 64.0})
    had = await cores_used(vm)
    await served.call("POST", "/v1/resize", {"cores": real_cores / 0.5})
    await asyncio.sleep(0.5)  # periods under way when the quota changed
    return await cores_used(vm) / min(real_cores, had)


async def test_an_ordinary_users_vm_is_held_to_its_cores(tmp_path: Path) -> None:
    assert os.geteuid() != 0
    async with agent(tmp_path, cores=1.0, core_scale=0.5, invoker=invoker_command(tmp_path, busy=2)) as served:
        await until(lambda: len(tagged(tmp_path)) == 4, within_s=120)
        _, state = await served.call("GET", "/v1/state")
        assert (state["cpu_enforced"], state["cpu_note"]) == (True, "")
        (tree,) = cgroups(served.pid)
        print(f"in {tree}")
        assert "/user@1000.service/" in str(tree)
        assert tree.parent.name.endswith(".scope")
        vm = tree / "h1"
        for cores in (1.0, 0.4, 2.0):
            shares = [await share_used(served, vm, cores * 0.5) for _ in range(3)]
            print(f"{cores * 0.5} cores: used {shares} times what could be had of them")
            assert min(abs(share - 1) for share in shares) <= 0.1
        assert await served.stop() == 0
        assert tagged(tmp_path) == {}
    assert not tree.parent.exists()
