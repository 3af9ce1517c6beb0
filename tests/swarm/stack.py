"""The stack on emulated machines, as an operator deploys it, and a client at the same switch."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from swarm.hosts import Hosts, Machine

from support.cluster import basic

ROOT = Path(__file__).parents[2]
STACK = "fallow"
PORT = 3233
PLATFORM = "fallow/platform"
REGISTRY = "fallow-swarm-test/"  # of no machine: what images are called that hold the code under test
IMAGES = (f"{REGISTRY}fallow/platform:latest", f"{REGISTRY}fallow/action-python:latest")
PACKAGES = ("fallow", "fallow_cli", "controller", "invoker", "harvest_agent", "loadtest")
NAP = """
import time
def main(args):
    time.sleep(args.get("nap_s", 0.3))
    return {"number": args["number"]}
"""


def make_images() -> list[str]:
    """Images for the machines: those of `make images`, with the code under test on top; and Redis."""
    env = {**os.environ, "DOCKER_BUILDKIT": "0"}  # the builder that needs no plugin
    with tempfile.TemporaryDirectory() as context:
        for package in PACKAGES:
            shutil.copytree(
                ROOT / package, Path(context) / "code" / package, ignore=shutil.ignore_patterns("__pycache__")
            )
        shutil.copy(Path(__file__).with_name("Dockerfile"), context)
        _run("docker", "build", "--quiet", "--tag", IMAGES[0], context, env=env)
    _run("docker", "tag", "fallow/action-python", IMAGES[1])
    return [*IMAGES, redis_image()]


def remove_images() -> None:
    _run("docker", "image", "rm", *IMAGES)


def redis_image() -> str:
    """What .env says, as for compose, or else what stack.yaml takes."""
    env = ROOT / ".env"
    lines = env.read_text().splitlines() if env.exists() else []
    said = dict(line.split("=", 1) for line in lines if "=" in line)
    return os.environ.get("REDIS_IMAGE") or said.get("REDIS_IMAGE") or "redis:7-alpine"


@dataclass(frozen=True, kw_only=True)
class Keys:
    guest: str
    operator: str
    join: str


def new_keys() -> Keys:
    return Keys(guest=_key(), operator=_key(), join=secrets.token_urlsafe(32))


def _key() -> str:
    return f"{uuid.uuid4()}:{secrets.token_hex(32)}"


Answer = tuple[int, dict[str, Any]]  # status and body


class Stack:
    """`deploy` makes the secrets and deploys; everything else speaks to what runs then."""

    def __init__(self, hosts: Hosts, keys: Keys) -> None:
        self.hosts = hosts
        self.keys = keys
        self.manager = hosts.machines[0]
        self.url = f"http://{self.manager.address}:{PORT}"

    def deploy(self, **variables: str) -> None:
        for name, text in (
            ("join_secret", self.keys.join),
            ("operator_key", self.keys.operator),
            ("guest_key", self.keys.guest),
        ):
            self.manager.docker("secret", "create", f"fallow_{name}", "-", stdin=text)
        command = ["docker", "--host", self.manager.engine_url, "stack", "deploy", "--resolve-image", "never"]
        env = {**os.environ, "REGISTRY": REGISTRY, "REDIS_IMAGE": redis_image(), **variables}
        _run(*command, "--compose-file", str(ROOT / "stack.yaml"), STACK, env=env)

    def machine(self, vm_id: str) -> Machine:
        """Where a VM is, or was in an earlier life."""
        name = vm_id.partition(".")[0]
        return next(m for m in self.hosts.machines if m.name == name)

    def label(self, machine: Machine, label: str) -> None:
        self.manager.docker("node", "update", "--label-add", label, machine.name)

    def containers(self, machine: Machine, template: str = "{{.ID}}") -> list[str]:
        """The functions' containers on a machine, ended ones too, each as the template shows it."""
        ids = machine.docker("ps", "--all", "--quiet", "--filter", "label=fallow.cluster").split()
        # Not checked: one may have been removed since.
        return machine.docker("inspect", "--format", template, *ids, check=False).splitlines() if ids else []

    def cli(self, *args: str) -> str:
        """What `fallow ARGS` prints, for an operator at the switch."""
        env = {
            **os.environ,
            "FALLOW_URL": self.url,
            "FALLOW_AUTH": self.keys.guest,
            "FALLOW_OPERATOR_AUTH": self.keys.operator,
        }
        return _run(str(Path(sys.executable).with_name("fallow")), *args, env=env)

    def state(self) -> str:
        """For a failed test: the tasks, and the last lines of each service."""
        text = self.manager.docker("stack", "ps", "--no-trunc", STACK, check=False)
        for service in ("controller", "regular-vm", "harvest-vm"):
            log = self.manager.docker("service", "logs", "--raw", "--tail", "15", f"{STACK}_{service}", check=False)
            text += f"\n--- {service}\n{log}"
        return text


class Client:
    """A tenant, and with `admin` the operator, over HTTP."""

    def __init__(self, stack: Stack, session: aiohttp.ClientSession) -> None:
        self.stack = stack
        self._session = session

    async def put(self, name: str, code: str) -> None:
        document = {"exec": {"kind": "python:3", "code": code}}
        path = f"{self.stack.url}/api/v1/namespaces/_/actions/{name}?overwrite=true"
        async with self._session.put(path, json=document) as r:
            assert r.status == 200, await r.text()

    async def invoke(self, name: str, args: dict[str, Any]) -> Answer:
        path = f"{self.stack.url}/api/v1/namespaces/_/actions/{name}?blocking=true"
        async with self._session.post(path, json=args) as r:
            return r.status, await r.json()

    async def vms(self) -> dict[str, dict[str, Any]]:
        headers = basic(self.stack.keys.operator)
        async with self._session.get(f"{self.stack.url}/admin/v1/vms", headers=headers) as r:
            assert r.status == 200, await r.text()
            return {vm["id"]: vm for vm in (await r.json())["vms"]}

    async def usable(self) -> set[str]:
        return {vm_id for vm_id, vm in (await self.vms()).items() if vm["usable"]}

    async def until(self, condition: Callable[[], Awaitable[Any]], *, within_s: float = 60.0) -> Any:
        """Polls until the condition is true, and answers it; meanwhile nothing need listen yet."""
        try:
            async with asyncio.timeout(within_s):
                while True:
                    with contextlib.suppress(aiohttp.ClientConnectionError):
                        if value := await condition():
                            return value
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise AssertionError(f"not within {within_s:g} s\n{self.stack.state()}") from None


@contextlib.asynccontextmanager
async def client_of(stack: Stack) -> AsyncIterator[Client]:
    timeout = aiohttp.ClientTimeout(total=90)
    async with aiohttp.ClientSession(headers=basic(stack.keys.guest), timeout=timeout) as session:
        yield Client(stack, session)


@dataclass
class Load:
    """Callers that call one after the other, until `stop`; every answer is kept."""

    client: Client
    actions: tuple[str, ...]
    answers: list[tuple[int, int, dict[str, Any]]] = field(default_factory=list)  # number, status, body
    _stopped: bool = False
    _sent: int = 0

    async def caller(self, action: str) -> None:
        while not self._stopped:
            self._sent += 1
            number = self._sent
            status, body = await self.client.invoke(action, {"number": number})
            self.answers.append((number, status, body))

    def stop(self) -> None:
        self._stopped = True

    async def more(self, count: int) -> None:
        """Waits for that many answers from now on."""
        enough = len(self.answers) + count

        async def answered() -> bool:
            return len(self.answers) >= enough

        await self.client.until(answered, within_s=90)

    async def busy_vm(self, kind: str) -> str:
        """A VM of this kind that runs calls now."""

        async def busy() -> str:
            vms = await self.client.vms()
            return next((v["id"] for v in vms.values() if v["kind"] == kind and v["usable"] and v["running"]), "")

        return str(await self.client.until(busy))

    @property
    def failed(self) -> list[tuple[int, int, dict[str, Any]]]:
        """What was not answered with its own result."""
        return [
            (number, status, body)
            for number, status, body in self.answers
            if status != 200 or body["response"]["result"] != {"number": number}
        ]


@contextlib.asynccontextmanager
async def load_on(client: Client, *, actions: int = 4, callers: int = 2) -> AsyncIterator[Load]:
    """Load on so many actions, by so many callers each; at its end every call is answered, with what it should be."""
    names = tuple(f"nap{i}" for i in range(actions))
    for name in names:
        await client.put(name, NAP)
    load = Load(client, names)
    async with asyncio.TaskGroup() as group:
        for name in names * callers:
            group.create_task(load.caller(name))
        try:
            yield load
        finally:
            load.stop()
    assert load.failed == [], client.stack.state()


def noted(body: dict[str, Any], key: str) -> Any:
    """An annotation of an activation."""
    return next(each["value"] for each in body["annotations"] if each["key"] == key)


def quota_cores(stack: Stack, vm_id: str) -> float | None:
    """What a VM's cgroup allows, as the kernel has it; None = no limit, or no cgroup."""
    name = stack.machine(vm_id).name
    for file in Path("/sys/fs/cgroup").glob(f"*/{stack.hosts.tag}/{name}/fallow_*/{vm_id}/cpu.cfs_quota_us"):
        quota, period = int(file.read_text()), int(file.with_name("cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else None
    return None


def _run(*command: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout
