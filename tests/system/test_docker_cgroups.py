"""A VM's cgroup around real containers of a real Docker Engine, in whichever world this machine is: cgroup version 1
or 2, driver cgroupfs or systemd. Nothing here knows which."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fallow.infra.engine import CLUSTER_LABEL, VM_LABEL, Engine, NotThereError
from harvest_agent import host
from harvest_agent.cgroups import HostTree, LinuxKernel, VmCgroup, remove_if_empty, vm_cgroup
from harvest_agent.cgroups.ending import end_frozen
from harvest_agent.cgroups.slices import unit_part

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

IMAGE = os.environ.get("TEST_FALLOW_IMAGE", "fallow-standin:bookworm")
BUSY = ["sh", "-c", "while :; do :; done"]
QUIET = ["sleep", "1000"]
HOLDING = ["sh", "-c", "head -c 64M /dev/zero | tail -c 64M | sleep 1000"]  # tail does, until someone reads
WINDOW_S = 3.0


@dataclass
class Rig:
    """One VM of a cluster of its own on this machine's engine."""

    engine: Engine
    cluster: str
    tree: HostTree
    kernel: LinuxKernel = field(default_factory=LinuxKernel)
    vm_id: str = "h1"

    @property
    def labels(self) -> dict[str, str]:
        return {CLUSTER_LABEL: self.cluster, VM_LABEL: self.vm_id}

    def vm(self) -> VmCgroup:
        return vm_cgroup(self.tree, self.vm_id, self.kernel)

    async def start(self, parent: str, command: list[str]) -> str:
        def work(client: Any) -> str:
            config = client.create_host_config(cgroup_parent=parent, cpu_shares=512, network_mode="none")
            made = client.create_container(IMAGE, command, host_config=config, labels=self.labels)
            client.start(made["Id"])
            return str(made["Id"])

        return await self.engine.call(work, timeout_s=60)

    async def end(self, vm: VmCgroup) -> None:
        await end_frozen(vm, self.engine, self.labels, timeout_s=60)
        vm.remove()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    engine = Engine()
    cluster = f"t-{uuid.uuid4().hex[:8]}"
    tree = host.docker_tree(cluster, await engine.info(), LinuxKernel())
    rig = Rig(engine=engine, cluster=cluster, tree=tree)
    try:
        yield rig
    finally:
        await rig.end(rig.vm())
        remove_if_empty(tree, rig.kernel)
        engine.close()
    assert left_behind(cluster) == []


def left_behind(cluster: str) -> list[Path]:
    """Every directory of the cluster's tree, in all hierarchies; others' may come and go meanwhile."""
    names = (f"fallow_{cluster}", f"fallow_{unit_part(cluster)}")
    walk = os.walk("/sys/fs/cgroup", onerror=lambda e: None)
    return [Path(top, d) for top, dirs, _ in walk for d in dirs if d.startswith(names)]


async def cores_used(vm: VmCgroup, window_s: float = WINDOW_S) -> float:
    before_ns, start_s = vm.cpu_ns(), time.monotonic()
    await asyncio.sleep(window_s)
    after_ns, end_s = vm.cpu_ns(), time.monotonic()
    assert before_ns is not None
    assert after_ns is not None
    return (after_ns - before_ns) / 1e9 / (end_s - start_s)


async def test_two_busy_containers_use_the_cores_that_their_vm_has(rig: Rig) -> None:
    """Paired with a calibration: what the machine gives these containers without a tight quota bounds what they can
    use of one. Only the kernel holds them back, also after a change while they run."""
    vm = rig.vm()
    vm.create(64.0)
    for _ in range(2):
        await rig.start(vm.docker_parent, BUSY)
    assert vm.occupied()
    for cores in (0.5, 1.5, 0.2, 1.0):
        used = await paired(vm, cores)
        assert used == pytest.approx(1.0, rel=0.1), f"{cores} cores: used {used:.2f} times what could be had of them"


async def paired(vm: VmCgroup, cores: float) -> float:
    """Used cores over those to be had, the best of a few tries: a burst of other work spoils a try, never helps one."""
    tries = []
    for _ in range(5):
        vm.set_cores(64.0)
        had = await cores_used(vm, 1.0)
        vm.set_cores(cores)
        await asyncio.sleep(0.3)  # periods under way when the quota changed
        used = await cores_used(vm)
        tries.append(used / min(cores, had))
        print(f"{cores} cores: {used:.3f} used, {had:.3f} to be had without a quota")
        if abs(tries[-1] - 1) <= 0.1:
            break
    return min(tries, key=lambda t: abs(t - 1))


class Blind(LinuxKernel):
    """As a container sees version 1 alone: no process of another PID namespace, no way to kill a cgroup."""

    def exists(self, path: Path) -> bool:
        return path.name != "cgroup.kill" and super().exists(path)

    def read(self, path: Path) -> str:
        return "" if path.name == "cgroup.procs" else super().read(path)


@pytest.mark.parametrize("kernel", [LinuxKernel(), Blind()], ids=["all is seen", "only the engine sees"])
async def test_a_frozen_vm_stands_still_and_ends_without_running_on(rig: Rig, kernel: LinuxKernel) -> None:
    rig.kernel = kernel
    vm = rig.vm()
    vm.create(2.0)
    for command in (BUSY, BUSY, QUIET):
        await rig.start(vm.docker_parent, command)
    assert vm.freeze(True)
    await asyncio.sleep(0.5)  # what is in the kernel stops when it leaves it
    before_ns = vm.cpu_ns()
    await asyncio.sleep(1.0)
    assert vm.cpu_ns() == before_ns
    assert vm.occupied()
    await end_frozen(vm, rig.engine, rig.labels, timeout_s=60)
    after_ns = vm.cpu_ns()
    assert await rig.engine.containers(rig.labels) == []
    assert not vm.occupied()
    assert before_ns is not None
    assert after_ns is not None
    assert after_ns - before_ns < 300e6  # CPU for the exits alone
    print(f"{(after_ns - before_ns) / 1e6:.1f} ms of CPU between the freeze and the end of three containers")
    vm.remove()
    assert not any(d.exists() for d in vm.dirs)


async def test_a_paused_container_of_a_frozen_vm_ends_too(rig: Rig) -> None:
    vm = rig.vm()
    vm.create(1.0)
    container = await rig.start(vm.docker_parent, BUSY)
    await rig.engine.call(lambda c: c.pause(container))
    assert vm.freeze(True)
    await rig.end(vm)
    assert await rig.engine.containers(rig.labels) == []


async def test_what_containers_hold_is_counted(rig: Rig) -> None:
    vm = rig.vm()
    vm.create(2.0)
    await rig.start(vm.docker_parent, HOLDING)
    async with asyncio.timeout(60):
        while (memory_mb := vm.memory_mb()) is not None and memory_mb < 64:
            await asyncio.sleep(0.1)
    assert memory_mb is None or memory_mb < 128


async def test_nothing_is_undone_when_systemd_reads_its_units_anew(rig: Rig) -> None:
    """What stands in a unit's cgroup files past systemd would be. Where there is no systemd, nobody meddles."""
    vm = rig.vm()
    vm.create(0.5)
    await rig.start(vm.docker_parent, BUSY)
    vm.set_cores(0.3)
    vm.freeze(True)
    await asyncio.sleep(0.5)  # version 1 says FREEZING until all stand still
    before = limits(vm)
    assert any(limit.startswith("15000") for limit in before.values())
    await asyncio.to_thread(reload_systemd)
    await asyncio.sleep(1.0)
    assert limits(vm) == before
    frozen_ns = vm.cpu_ns()
    await asyncio.sleep(0.5)
    assert vm.cpu_ns() == frozen_ns


def reload_systemd() -> None:
    if Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "daemon-reload"], check=True, timeout=120)


def limits(vm: VmCgroup) -> dict[Path, str]:
    names = ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us", "freezer.state", "cgroup.freeze")
    paths = [d / name for d in vm.dirs for name in names]
    return {p: p.read_text(encoding="ascii").strip() for p in paths if p.exists()}


async def test_a_vm_that_a_dead_agent_left_frozen_is_taken_over(rig: Rig) -> None:
    dead = rig.vm()
    dead.create(1.0)
    await rig.start(dead.docker_parent, BUSY)
    dead.freeze(True)
    await end_frozen(rig.vm(), rig.engine, rig.labels, timeout_s=60)
    vm = rig.vm()
    vm.create(1.5)
    await rig.start(vm.docker_parent, BUSY)
    assert await cores_used(vm, 1.0) > 0


async def test_a_container_that_is_gone_is_no_error(rig: Rig) -> None:
    with pytest.raises(NotThereError):
        await rig.engine.kill("no-such-container")
    await rig.engine.remove("no-such-container")
