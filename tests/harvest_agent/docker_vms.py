"""Agents with the Docker backend against the machine's own engine, in a cluster that no other test knows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fallow.infra.engine import CLUSTER_LABEL, VM_LABEL, Engine, EngineError
from harvest_agent.cgroups import LinuxKernel, remove_below
from support.docker_engine import runtime_image
from support.engine_proxy import EngineProxy
from support.patience import patient

# What the Docker backend does as far as an agent can see it: containers with the VM's labels in the VM's cgroup.
INVOKER = """
import os, sys, time
import docker
c = docker.APIClient(base_url=os.environ.get("ENGINE") or None, version="auto")
labels = {"fallow.cluster": os.environ["FALLOW_CLUSTER"], "fallow.vm": os.environ["FALLOW_VM_ID"]}
parent = os.environ["FALLOW_CGROUP_PARENT"]
config = c.create_host_config(cgroup_parent=parent or None, network_mode="none")
for _ in range(int(sys.argv[1])):
    made = c.create_container("@IMAGE@", ["sh", "-c", "while :; do :; done"], host_config=config, labels=labels)
    c.start(made["Id"])
time.sleep(600)
"""


@dataclass
class Cluster:
    """One cluster id on this machine's engine."""

    id: str
    engine: Engine

    async def holding(self) -> dict[str, list[str]]:
        """VM -> the states of its containers."""
        found: dict[str, list[str]] = {}
        for container in await self.engine.containers({CLUSTER_LABEL: self.id}):
            found.setdefault(container.vm_id, []).append(container.state)
        return found

    async def start(self, vm_id: str, *, cgroup_parent: str | None = None) -> str:
        """A container of a VM that no agent knows of; answers its id."""
        labels = {CLUSTER_LABEL: self.id, VM_LABEL: vm_id}

        def work(client) -> str:  # type: ignore[no-untyped-def]
            config = client.create_host_config(cgroup_parent=cgroup_parent, network_mode="none")
            made = client.create_container(runtime_image(), ["sleep", "600"], host_config=config, labels=labels)
            client.start(made["Id"])
            return str(made["Id"])

        return await self.engine.call(work, timeout_s=60)

    async def ids(self) -> set[str]:
        return {c.id for c in await self.engine.containers({CLUSTER_LABEL: self.id})}

    async def cleared(self) -> bool:
        """Removes what there is; whether nothing is left, though a slow engine may still be at an agent's removal."""
        for container in await self.engine.containers({CLUSTER_LABEL: self.id}):
            with contextlib.suppress(EngineError):
                await self.engine.remove(container.id, timeout_s=30)
        return await self.ids() == set()

    async def running(self, vm_id: str, count: int) -> None:
        """Waits until the VM has so many containers, and all run."""

        async def all_run() -> bool:
            return (await self.holding()).get(vm_id, []) == ["running"] * count

        await becomes(all_run)

    def cgroups(self) -> list[Path]:
        """What is left of the cluster's tree, in every hierarchy."""
        names = (self.id, self.id.replace("-", "_"))
        bases = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*")]
        return [p for base in bases for p in base.glob("*fallow*") if any(name in p.name for name in names)]


async def becomes(condition: Callable[[], Awaitable[Any]], *, within_s: float = 60.0) -> Any:
    """Polls until the condition holds; the deadline only ends a test that has failed."""
    async with asyncio.timeout(patient(within_s)):
        while not (value := await condition()):
            await asyncio.sleep(0.1)
        return value


def pid_of(script: Path) -> int:
    """Of the process that runs this script."""
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if str(script).encode() in words:
                return int(name)
    raise AssertionError(f"nobody runs {script}")


def quota(here: Cluster, vm_id: str) -> list[str]:
    """What the kernel keeps of the VM's quota, in the words of its version."""
    folders = [
        path / vm for path in here.cgroups() for vm in (vm_id, f"{path.stem}-{vm_id}.slice")
    ]  # cgroupfs, systemd
    files = [folder / name for folder in folders for name in ("cpu.cfs_quota_us", "cpu.max")]
    return [file.read_text() for file in files if file.exists()]


@asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    """Removes what a failed test leaves."""
    found = Cluster(id=f"t{uuid.uuid4().hex[:8]}", engine=Engine())
    try:
        yield found
    finally:
        await becomes(found.cleared)
        found.engine.close()
        for tree in found.cgroups():
            with contextlib.suppress(OSError):
                remove_below(tree, LinuxKernel())


def through(proxy: EngineProxy) -> dict[str, str]:
    """The environment of an agent that meets the engine at a proxy, while its invoker meets it itself."""
    return {"DOCKER_HOST": proxy.url, "ENGINE": os.environ.get("DOCKER_HOST", "")}


def docker_vm(here: Cluster, folder: Path, *, containers: int = 2, **settings: object) -> dict[str, Any]:
    """The settings of an agent."""
    return {
        "backend": "docker",
        "cluster": here.id,
        "lease_dir": folder / "leases",
        "invoker": invoker_command(folder, containers=containers),
        "cores": 1.0,
        "core_scale": 0.2,
        **settings,
    }


def invoker_command(folder: Path, *, containers: int) -> str:
    script = folder / "docker_invoker.py"
    script.write_text(INVOKER.replace("@IMAGE@", runtime_image()))
    return f"{sys.executable} {script} {containers}"
