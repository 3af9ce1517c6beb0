"""Agents with the Docker backend against the machine's own engine, in a cluster that no other test knows."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fallow.infra.engine import CLUSTER_LABEL, VM_LABEL, Engine

IMAGE = os.environ.get("FALLOW_TEST_IMAGE", "fallow-standin:bookworm")

# What the Docker backend does as far as an agent can see it: containers with the VM's labels in the VM's cgroup.
INVOKER = """
import os, sys, time
import docker
c = docker.APIClient(base_url=os.environ.get("ENGINE"), version="auto")
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
            made = client.create_container(IMAGE, ["sleep", "600"], host_config=config, labels=labels)
            client.start(made["Id"])
            return str(made["Id"])

        return await self.engine.call(work, timeout_s=60)

    def cgroups(self) -> list[Path]:
        """What is left of the cluster's tree, in every hierarchy."""
        names = (self.id, self.id.replace("-", "_"))
        bases = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*")]
        return [p for base in bases for p in base.glob("*fallow*") if any(name in p.name for name in names)]


@asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    """Removes what a failed test leaves."""
    found = Cluster(id=f"t{uuid.uuid4().hex[:8]}", engine=Engine())
    try:
        yield found
    finally:
        for container in await found.engine.containers({CLUSTER_LABEL: found.id}):
            await found.engine.remove(container.id, timeout_s=30)
        found.engine.close()


def invoker_command(folder: Path, *, containers: int) -> str:
    script = folder / "docker_invoker.py"
    script.write_text(INVOKER.replace("@IMAGE@", IMAGE))
    return f"{sys.executable} {script} {containers}"
