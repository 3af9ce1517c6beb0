"""The VM services in containers, as compose has them: each the first process of its own PID namespace, which sees
neither the processes of its VM's containers nor those of the other services."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from fallow.infra.engine import CLUSTER_LABEL, VM_LABEL
from support.docker_engine import engine_client, runtime_image

pytestmark = [pytest.mark.system, pytest.mark.docker, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
PLATFORM = "fallow/platform"
# As an invoker: two containers.
INVOKER = """
import os, time
import docker
c = docker.APIClient(version="auto")
labels = {"fallow.cluster": os.environ["FALLOW_CLUSTER"], "fallow.vm": os.environ["FALLOW_VM_ID"]}
config = c.create_host_config(cgroup_parent=os.environ["FALLOW_CGROUP_PARENT"] or None, network_mode="none")
for _ in range(2):
    made = c.create_container("@IMAGE@", ["sleep", "600"], host_config=config, labels=labels)
    c.start(made["Id"])
time.sleep(600)
"""
ORPHAN = """
import os
read, write = os.pipe()
if os.fork() == 0:
    if (orphan := os.fork()) == 0:
        os._exit(0)
    os.write(write, str(orphan).encode())
    os._exit(0)  # before it has collected its child
os.wait()
print(os.read(read, 9).decode())
"""


class Services:
    """VM services on the machine's engine, in a cluster of their own."""

    def __init__(self, client: docker.APIClient, cluster: str, folder: Path) -> None:
        self.client = client
        self.cluster = cluster
        self._folder = folder

    def start(self, name: str, kind: str, *, cgroups: bool = True) -> str:
        env = {
            "FALLOW_VM_ID": name,
            "FALLOW_KIND": kind,
            "FALLOW_BACKEND": "docker",
            "FALLOW_CLUSTER": self.cluster,
            "FALLOW_LEASE_DIR": "/vms/leases",
            "FALLOW_INVOKER": "python3 /vms/invoker.py",
            "FALLOW_CORE_SCALE": "0.2",
            "FALLOW_LINK_LOSS_S": "0.5",
            "FALLOW_RETURN_S": "0.5",
            "PYTHONPATH": "/code",  # the code under test, with the image's libraries
        }
        binds = [
            f"{ROOT}:/code:ro",
            f"{self._folder}:/vms",
            f"{engine_socket()}:/var/run/docker.sock",
            *(["/sys/fs/cgroup:/sys/fs/cgroup:rw"] if cgroups else []),
        ]
        made = self.client.create_container(
            PLATFORM,
            ["python3", "-m", "harvest_agent.service"],
            name=f"{self.cluster}-{name}",
            environment=env,
            host_config=self.client.create_host_config(binds=binds, network_mode="none"),
        )
        self.client.start(made["Id"])
        return str(made["Id"])

    def execute(self, container: str, *argv: str) -> tuple[int, str]:
        run = self.client.exec_create(container, list(argv))["Id"]
        output = self.client.exec_start(run).decode()
        return int(self.client.exec_inspect(run)["ExitCode"]), output

    def said(self, container: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.client.logs(container).decode().splitlines() if line[:1] == "{"]

    def holding(self) -> dict[str, int]:
        """How many running containers each VM has."""
        found: dict[str, int] = {}
        for container in self.client.containers(filters={"label": [f"{CLUSTER_LABEL}={self.cluster}"]}):
            vm_id = container["Labels"][VM_LABEL]
            found[vm_id] = found.get(vm_id, 0) + 1
        return found

    def cgroups(self) -> list[Path]:
        return [p for p in Path("/sys/fs/cgroup").glob("**/fallow*") if self.cluster in p.name]

    def remove_all(self) -> None:
        mine = {"name": [self.cluster]}
        for filters in (mine, {"label": [f"{CLUSTER_LABEL}={self.cluster}"]}):
            for container in self.client.containers(all=True, filters=filters):
                self.client.remove_container(container["Id"], force=True)


def engine_socket() -> str:
    return os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")


def until(condition: Callable[[], Any], *, within_s: float = 60.0) -> Any:
    """Polls until the condition holds; the deadline only ends a test that has failed."""
    deadline_s = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline_s
        time.sleep(0.2)
    return value


@pytest.fixture
def services(short_dir: Path) -> Iterator[Services]:
    (short_dir / "invoker.py").write_text(INVOKER.replace("@IMAGE@", runtime_image()))
    with engine_client() as client:
        assert client.images(PLATFORM), f"the image {PLATFORM} is not there: scripts/images.sh builds it"
        found = Services(client, f"t{uuid.uuid4().hex[:8]}", short_dir)
        try:
            yield found
        finally:
            found.remove_all()


def test_services_live_die_and_leave_nothing(services: Services) -> None:
    regular, harvest = services.start("r1", "regular"), services.start("h1", "harvest")
    until(lambda: services.holding() == {"r1": 2, "h1": 2})
    assert services.execute(harvest, "python3", "-m", "harvest_agent.service", "--health") == (0, "h1 has 2 cores\n")
    orphan = services.execute(harvest, "python3", "-c", ORPHAN)[1].strip()
    until(lambda: services.execute(harvest, "test", "-d", f"/proc/{orphan}")[0] == 1)  # the first process collected it

    services.client.kill(harvest)  # an eviction without notice
    until(lambda: services.holding() == {"r1": 2})
    until(lambda: any(line["event"] == "removed what a dead VM left" for line in services.said(regular)))

    services.client.start(harvest)
    until(lambda: services.holding() == {"r1": 2, "h1.2": 2})  # the dead one's id is not used again
    assert [line["vm"] for line in services.said(harvest) if line["event"] == "VM joined"] == ["h1", "h1.2"]

    services.client.kill(harvest)
    services.client.stop(regular, timeout=60)  # at once: the last one out sees to what the dead one left
    assert services.holding() == {}
    assert services.client.inspect_container(regular)["State"]["ExitCode"] == 0
    assert services.cgroups() == []


def test_a_service_without_the_hosts_cgroups_says_that_cpu_is_not_enforced(services: Services) -> None:
    service = services.start("h1", "harvest", cgroups=False)
    until(lambda: services.holding() == {"h1": 2})
    joined = next(line for line in services.said(service) if line["event"] == "VM joined")
    assert joined["cpu"].startswith("not enforced (")
    services.client.stop(service, timeout=60)
    assert services.holding() == {}
    assert services.client.inspect_container(service)["State"]["ExitCode"] == 0
