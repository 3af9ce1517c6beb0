"""A cluster of compose.yaml for a test: a project of its own, at a free port, on the machine's Docker Engine."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from support.docker_engine import engine_client

ROOT = Path(__file__).parents[2]
STAND_IN = "fallow-standin:bookworm"
V2 = ("docker", "compose")
V1 = ("docker-compose",)
HARVEST = ("harvest-1", "harvest-2", "harvest-3")
T = TypeVar("T")


def eventually(look: Callable[[], T], *, within_s: float = 60.0) -> T:
    """What `look` gives once that is true. The time only bounds a test that fails."""
    deadline = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s; last: {found!r}"
        time.sleep(0.2)
    return found


def has_v1() -> bool:
    """Is the Python Compose here, 1.x?"""
    if shutil.which(V1[0]) is None:
        return False
    said = subprocess.run([*V1, "version", "--short"], capture_output=True, text=True, check=False, timeout=60)
    return said.stdout.startswith("1.")


class ComposeCluster:
    def __init__(self, command: Sequence[str], **env: str) -> None:
        self.project = f"fallowtest{uuid.uuid4().hex[:8]}"
        self._command = [*command, "-f", str(ROOT / "compose.yaml"), "-p", self.project]
        self.env = {**_base(), "COMPOSE_PROJECT_NAME": self.project, **_ports(), **env}
        self.url = f"http://127.0.0.1:{self.env['PORT']}"
        self.auth = ""
        self.cluster = ""  # its id

    def compose(self, *args: str, check: bool = True, timeout_s: float = 400.0) -> subprocess.CompletedProcess[str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("FALLOW_")}
        done = subprocess.run(
            [*self._command, *args],
            env={**inherited, **self.env},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        assert not check or done.returncode == 0, f"{args}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done

    def up(self, *services: str) -> None:
        """Returns when every VM can be used."""
        self.compose("up", "-d", *services)
        self.cluster = self.compose("exec", "-T", "controller", "cat", "/var/lib/fallow/cluster/cluster").stdout.strip()
        lines = self.compose("exec", "-T", "controller", "fallow", "env").stdout.splitlines()
        told = dict(line.removeprefix("export ").split("=", 1) for line in lines)
        assert told["FALLOW_URL"] == self.url
        self.auth = told["FALLOW_AUTH"]
        eventually(lambda: len(self.usable()) == 4)

    def down(self) -> None:
        self.compose("--profile", "loadtest", "--profile", "demo", "down", "-v")

    def fallow(self, *args: str) -> str:
        """The command as a person uses it beside the cluster."""
        return self.compose("exec", "-T", "controller", "fallow", *args).stdout

    def vms(self) -> dict[str, dict[str, Any]]:
        return {vm["id"]: vm for vm in json.loads(self.fallow("vm", "list", "--json"))}

    def usable(self) -> set[str]:
        return {name for name, vm in self.vms().items() if vm["usable"]}

    def request(self, method: str, path: str, document: Any = None) -> tuple[int, Any]:
        """As the namespace guest, from the host."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if document is None else json.dumps(document).encode(),
            headers={
                "Authorization": "Basic " + base64.b64encode(self.auth.encode()).decode(),
                "Content-Type": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=90) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as e:
            return e.code, json.loads(e.read() or b"null")

    def deploy(self, name: str, **exec_: str) -> None:
        path = f"/api/v1/namespaces/_/actions/{name}?overwrite=true"
        status, answer = self.request("PUT", path, {"exec": exec_, "limits": {"timeout": 60_000}})
        assert status == 200, answer

    def invoke(self, action: str, /, **args: Any) -> Any:
        """The result of a blocking call that succeeds."""
        path = f"/api/v1/namespaces/_/actions/{action}?blocking=true"
        status, answer = self.request("POST", path, args)
        assert status == 200, answer
        return answer["response"]["result"]

    def function_containers(self, vm_id: str = "") -> list[str]:
        label = [f"fallow.cluster={self.cluster}", *([f"fallow.vm={vm_id}"] if vm_id else [])]
        with engine_client() as client:
            return [c["Id"] for c in client.containers(all=True, filters={"label": label})]

    def left_behind(self) -> dict[str, list[str]]:
        """What is on the engine, and in the cgroup file system, of this cluster."""
        project = {"label": [f"com.docker.compose.project={self.project}"]}
        with engine_client() as client:
            return {
                "functions": self.function_containers() if self.cluster else [],
                "services": [c["Id"] for c in client.containers(all=True, filters=project)],
                "networks": [n["Name"] for n in client.networks(filters=project)],
                "volumes": [v["Name"] for v in client.volumes(filters=project)["Volumes"] or ()],
                "cgroups": [str(d) for d in Path("/sys/fs/cgroup").glob(f"*/*{self.cluster}*")] if self.cluster else [],
            }


@contextlib.contextmanager
def compose_cluster(command: Sequence[str] = V2, **env: str) -> Iterator[ComposeCluster]:
    """Not up yet; whatever is of it is removed in the end."""
    cluster = ComposeCluster(command, **env)
    try:
        yield cluster
    finally:
        cluster.compose("down", "-v", "--remove-orphans", check=False)


def _base() -> dict[str, str]:
    """The base images: those that the environment or .env name; else the stand-in, where this engine has it."""
    given = "BASE_IMAGE" in os.environ or (ROOT / ".env").exists()
    builder = {} if _has_buildx() else {"DOCKER_BUILDKIT": "0"}
    with engine_client() as client:
        if given or not client.images(STAND_IN):
            return builder
    said = subprocess.run(
        [str(ROOT / "scripts" / "standin-image.sh"), STAND_IN], capture_output=True, text=True, check=True, timeout=300
    )
    return builder | dict(line.split("=", 1) for line in said.stdout.splitlines())


def _has_buildx() -> bool:
    said = subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False, timeout=60)
    return said.returncode == 0


def _ports() -> dict[str, str]:
    """Two that are free."""
    with socket.socket() as api, socket.socket() as locust:
        for s in (api, locust):
            s.bind(("127.0.0.1", 0))
        return {"PORT": str(api.getsockname()[1]), "LOCUST_PORT": str(locust.getsockname()[1])}
