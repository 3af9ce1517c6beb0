"""How a VM's containers end, against an engine whose kill hangs under version 1's freezer as the real one's does."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest

from fallow.infra.engine import Engine, EngineAwayError, EngineInfo, FoundContainer
from harvest_agent.cgroups import CgroupError, VmCgroup, make_docker_tree, vm_cgroup
from harvest_agent.cgroups.ending import end_frozen, kill_frozen

from .fake_kernel import FakeKernel
from .test_docker_cgroups import MOUNTS, ROOT, kernel_of

LABELS = {"fallow.cluster": "c", "fallow.vm": "h1"}
QUOTA = {1: "cpu.cfs_quota_us", 2: "cpu.max"}


class Machine:
    """Containers in one VM's cgroup: a kill is pending while it is frozen (version 1), removal waits for the death."""

    def __init__(self, version: int, containers: list[str]) -> None:
        self.kernel = Logging(self, version)
        info = EngineInfo(cgroup_driver="cgroupfs", cgroup_version=version, rootless=False, version="20.10")
        tree = make_docker_tree("c", info, MOUNTS[version], self.kernel)
        self.cgroup: VmCgroup = vm_cgroup(tree, "h1", self.kernel)
        self.cgroup.create(2.0)
        self.living = set(containers)
        self.signalled: set[str] = set()
        self.there = list(containers)
        self.away = False
        self.cgroup.freeze(True)
        self.kernel.log.clear()
        self._count()

    def settle(self) -> None:
        """What is signalled dies as soon as it may."""
        if self.kernel.frozen is False:
            self.living -= self.signalled
        self._count()

    def _count(self) -> None:
        if self.kernel.version == 1:
            self.kernel.files[ROOT / "pids/fallow_c/h1"]["pids.current"] = str(len(self.living))
        else:  # zeros: another PID namespace
            self.kernel.files[ROOT / "fallow_c/h1"]["cgroup.procs"] = " ".join("0" for _ in self.living)

    async def containers(self, labels: Mapping[str, str]) -> list[FoundContainer]:
        assert labels == LABELS
        if self.away:
            raise EngineAwayError("no Docker Engine to be had")
        return [
            FoundContainer(id=c, name=c, vm_id="h1", state="running" if c in self.living else "exited")
            for c in self.there
        ]

    async def kill(self, container: str, *, timeout_s: float) -> None:
        self.kernel.log.append(f"kill {container}")
        self.signalled.add(container)
        self.settle()
        if container in self.living:
            await asyncio.sleep(0)
            raise EngineAwayError("the Docker Engine did not answer")

    async def remove(self, container: str, *, timeout_s: float) -> None:
        assert container not in self.living, "removed before it could die"
        self.kernel.log.append(f"remove {container}")
        self.there.remove(container)

    async def end(self) -> None:
        await end_frozen(self.cgroup, cast(Engine, self), LABELS, timeout_s=5.0)


class Logging(FakeKernel):
    """Notes what is written to quota and freezer."""

    def __init__(self, machine: Machine, version: int) -> None:
        super().__init__(version, kernel_of(version).roots, controllers="cpu memory pids")
        self.machine = machine
        self.log: list[str] = []
        self.frozen: bool | None = None

    def write(self, path: Path, text: str) -> None:
        super().write(path, text)
        if path.name in (QUOTA[self.version], "freezer.state", "cgroup.freeze", "cgroup.kill"):
            self.log.append(f"{path.name} {text}")
        if path.name in ("freezer.state", "cgroup.freeze"):
            self.frozen = text in ("FROZEN", "1")
            if hasattr(self.machine, "living"):
                self.machine.settle()
        if path.name == "cgroup.kill":
            self.machine.living.clear()


async def test_version_1_sends_the_signals_before_it_thaws() -> None:
    machine = Machine(1, ["a", "b"])
    await machine.end()
    assert machine.kernel.log == [
        "cpu.cfs_quota_us 1000",
        "kill a",
        "kill b",
        "freezer.state THAWED",
        "cpu.cfs_quota_us 50000",
        "remove a",
        "remove b",
    ]


async def test_version_2_kills_what_is_frozen() -> None:
    machine = Machine(2, ["a"])
    await machine.end()
    assert machine.kernel.log == [
        "cpu.max 1000 1000000",
        "cgroup.kill 1",
        "cgroup.freeze 0",
        "cpu.max 50000 50000",
        "remove a",
    ]


async def test_a_container_that_was_paused_is_released_under_the_frozen_vm() -> None:
    machine = Machine(1, ["a"])
    paused = ROOT / "freezer/fallow_c/h1/a"
    machine.kernel.make(paused)
    machine.kernel.files[paused]["freezer.state"] = "FROZEN"
    await machine.end()
    assert machine.kernel.read(paused / "freezer.state") == "THAWED"


async def test_a_vm_stays_frozen_while_nobody_can_send_the_signals() -> None:
    machine = Machine(1, ["a"])
    machine.away = True
    with pytest.raises(EngineAwayError):
        await machine.end()
    assert "freezer.state THAWED" not in machine.kernel.log
    machine.away = False
    await machine.end()
    assert machine.there == []


async def test_a_process_that_outlives_it_all_is_told() -> None:
    machine = Machine(1, [])
    machine.living.add("a process that is no container's")
    with pytest.raises(CgroupError, match="outlives SIGKILL"):
        await end_frozen(machine.cgroup, cast(Engine, Stubborn()), LABELS, timeout_s=0.0)


class Stubborn:
    async def containers(self, labels: Mapping[str, str]) -> list[FoundContainer]:
        return []


async def test_a_vm_without_a_cgroup_holds_nothing_back() -> None:
    machine = Machine(2, [])
    machine.cgroup.remove()
    await kill_frozen(machine.cgroup, cast(Engine, machine), LABELS)
    await machine.end()
