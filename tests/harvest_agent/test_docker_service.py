"""A service whose VM is away still looks after what dead VMs left on its engine."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from fallow.core.model import VmId
from fallow.traces.vms import Life

from .docker_vms import Cluster, becomes, docker_vm, pid_of
from .vms import agent, service

pytestmark = [pytest.mark.docker]


@pytest.mark.parametrize("stopped", [False, True], ids=["goes on", "is stopped"])
async def test_an_absent_vm_removes_what_a_dead_one_left(short_dir: Path, here: Cluster, stopped: bool) -> None:
    one, two, leases = short_dir / "1", short_dir / "2", short_dir / "leases"
    one.mkdir()
    two.mkdir()
    later = Life(vm_id=VmId("h2"), join_s=5000, steps=((0, 4),)).to_json()
    (two / "plan.json").write_text(json.dumps({"vm_id": "h2", "lives": [later]}))
    absent = docker_vm(here, two, lease_dir=leases, lives=two / "plan.json")
    async with agent(one, **docker_vm(here, one, lease_dir=leases)) as dead, service(two, **absent) as away:
        await here.running("h1", 2)
        invoker = pid_of(one / "docker_invoker.py")
        os.kill(invoker, signal.SIGSTOP)  # it could clear up itself
        dead.process.kill()
        try:
            if stopped:
                assert await away.stop() == 0
                assert await here.holding() == {}

            async def nothing_left() -> bool:
                return await here.holding() == {} and not (leases / "h1.lease").exists()

            await becomes(nothing_left)
        finally:
            os.kill(invoker, signal.SIGKILL)
        if not stopped:
            assert await away.stop() == 0
    assert here.cgroups() == []
    assert list(leases.iterdir()) == []
