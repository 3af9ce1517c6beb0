"""The Docker Engine as the platform uses it: the only module that imports the SDK.

The SDK blocks, so every call runs in a bounded thread pool and under a deadline of its own. A call that is given up
leaves its thread to finish in the background: an engine that hangs fills the pool, never the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import docker
import docker.auth
import docker.errors
import requests.exceptions

from fallow.infra.daemon_threads import DaemonThreads

DEFAULT_TIMEOUT_S = 10.0
START_TIMEOUT_S = 60.0
PULL_TIMEOUT_S = 600.0
PULL_QUIET_S = 120.0  # of a pull, between two words of the engine
PING_TIMEOUT_S = 2.0

DEFAULT_URL = "unix:///var/run/docker.sock"
_UNIX = "unix://"

CLUSTER_LABEL = "fallow.cluster"
VM_LABEL = "fallow.vm"
KIND_LABEL = "fallow.kind"
KINDS_LABEL = "fallow.kinds"  # of an image: the runtime kinds it serves

T = TypeVar("T")


class EngineError(Exception):
    """The engine refused; the text is its own."""


class EngineAwayError(EngineError):
    """The engine does not answer, or not in time."""


class NotThereError(EngineError):
    """What was named (a container, an image) does not exist."""


class ImageNotThereError(NotThereError):
    """The engine has no such image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What `docker info` says of the world below."""

    cgroup_driver: str  # cgroupfs | systemd | none
    cgroup_version: int
    rootless: bool
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundContainer:
    """A function container, whoever started it."""

    id: str
    name: str
    vm_id: str
    state: str  # created | running | paused | exited | ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """What `docker inspect` says of one container."""

    running: bool  # also while paused
    exit_code: int
    out_of_memory: bool  # the kernel killed a process of it for its memory limit
    error: str  # why the engine could not start it
    addresses: Mapping[str, str]  # its IP address by network


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerUse:
    """What the processes of one container have used and hold."""

    cpu_ns: int  # since its start
    memory_mb: float  # resident


class Engine:
    """One Docker Engine, found as every Docker client finds it: DOCKER_HOST, else /var/run/docker.sock."""

    def __init__(self, *, threads: int = 8) -> None:
        self._threads = DaemonThreads(threads, "docker")
        # Of their own: a pull takes minutes, and a ping that queues behind others says nothing of the engine.
        self._pull_threads = DaemonThreads(2, "docker-pull")
        self._ping_threads = DaemonThreads(1, "docker-ping")
        self._local = threading.local()  # the SDK's session is not made for several threads

    async def call(
        self,
        work: Callable[[docker.APIClient], T],
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        threads: DaemonThreads | None = None,
    ) -> T:
        """Run `work` with a client of the low-level API. Raises EngineError and its kinds."""
        try:
            job = (threads or self._threads).submit(lambda: self._run(work, timeout_s))
        except RuntimeError:
            raise EngineAwayError("the Docker Engine is not asked any more: this process ends") from None
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.wrap_future(job)
        except TimeoutError:
            raise EngineAwayError(f"the Docker Engine did not answer within {timeout_s:g} s") from None

    def _run(self, work: Callable[[docker.APIClient], T], timeout_s: float) -> T:
        try:
            _knock(timeout_s)
            client = self._client(timeout_s)
            client.timeout = timeout_s
            with contextlib.closing(client):  # its idle connections: the SDK keeps one for each URL it has ever asked
                return work(client)
        except docker.errors.ImageNotFound as e:
            raise ImageNotThereError(_text(e)) from e
        except docker.errors.NotFound as e:
            raise NotThereError(_text(e)) from e
        except docker.errors.APIError as e:
            raise EngineError(_text(e)) from e
        except docker.errors.DockerException as e:
            raise EngineAwayError(f"no Docker Engine to be had at {engine_url()}: {e}") from e
        except (requests.exceptions.RequestException, OSError) as e:
            raise EngineAwayError(f"the Docker Engine does not answer: {e}") from e

    def _client(self, timeout_s: float) -> docker.APIClient:
        client = getattr(self._local, "client", None)
        if client is None:
            client = docker.APIClient(base_url=engine_url(), version="auto", timeout=timeout_s)
            self._local.client = client
        return client

    async def ping(self) -> None:
        """The engine answers within 2 s, whatever else it has been asked. Raises EngineError."""
        await self.call(lambda c: c.ping(), timeout_s=PING_TIMEOUT_S, threads=self._ping_threads)

    async def info(self) -> EngineInfo:
        """Also the check that the engine is there. Raises EngineError."""
        raw: dict[str, Any] = await self.call(lambda c: c.info())
        return EngineInfo(
            cgroup_driver=raw.get("CgroupDriver", ""),
            cgroup_version=int(raw.get("CgroupVersion") or 1),
            rootless=any("rootless" in option for option in raw.get("SecurityOptions") or ()),
            version=raw.get("ServerVersion", ""),
        )

    async def containers(
        self, labels: Mapping[str, str], *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> list[FoundContainer]:
        """All containers that carry these labels, ended ones too. Raises EngineError."""
        wanted = [f"{name}={value}" for name, value in labels.items()]
        raw = await self.call(lambda c: c.containers(all=True, filters={"label": wanted}), timeout_s=timeout_s)
        return [
            FoundContainer(
                id=each["Id"],
                name=(each.get("Names") or ["/"])[0].lstrip("/"),
                vm_id=(each.get("Labels") or {}).get(VM_LABEL, ""),
                state=each.get("State", ""),
            )
            for each in raw
        ]

    async def remove(self, container_id: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """End and remove a container at once; one that is not there is no error. Raises EngineError."""
        try:
            await self.call(lambda c: c.remove_container(container_id, force=True, v=True), timeout_s=timeout_s)
        except NotThereError:
            return

    async def kill(self, container_id: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Send SIGKILL and wait for the end, which does not come while its cgroup is frozen. Raises EngineError."""
        await self.call(lambda c: c.kill(container_id, "SIGKILL"), timeout_s=timeout_s)

    async def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Create a container from the body of the API's own call; returns its id. Raises EngineError,
        ImageNotThereError."""
        made: dict[str, Any] = await self.call(
            lambda c: c.create_container_from_config(config, name), timeout_s=START_TIMEOUT_S
        )
        return str(made["Id"])

    async def start(self, container_id: str) -> None:
        """Raises EngineError."""
        await self.call(lambda c: c.start(container_id), timeout_s=START_TIMEOUT_S)

    async def attach(self, container_id: str) -> int:
        """The container's output from now on, as a socket's file descriptor, which the caller owns: frames of 8 bytes
        head (stream, 3 zeros, length) and data. Raises EngineError."""
        return await self.call(lambda c: _attach(c, container_id))

    async def inspect(self, container_id: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> ContainerState:
        """Raises EngineError."""
        raw: dict[str, Any] = await self.call(lambda c: c.inspect_container(container_id), timeout_s=timeout_s)
        state, networks = raw.get("State") or {}, (raw.get("NetworkSettings") or {}).get("Networks") or {}
        return ContainerState(
            running=bool(state.get("Running")),
            exit_code=int(state.get("ExitCode") or 0),
            out_of_memory=bool(state.get("OOMKilled")),
            error=state.get("Error") or "",
            addresses={name: net.get("IPAddress") or "" for name, net in networks.items()},
        )

    async def use(self, container_id: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> ContainerUse:
        """All 0 for a container that does not run. Raises EngineError."""
        raw: dict[str, Any] = await self.call(
            lambda c: c.stats(container_id, stream=False, one_shot=True), timeout_s=timeout_s
        )
        cpu, memory = raw.get("cpu_stats") or {}, (raw.get("memory_stats") or {}).get("stats") or {}
        resident = memory.get("total_rss", memory.get("anon", 0))  # cgroup version 1, version 2
        return ContainerUse(
            cpu_ns=int((cpu.get("cpu_usage") or {}).get("total_usage", 0)), memory_mb=resident / (1 << 20)
        )

    async def pause(self, container_id: str) -> None:
        """Raises EngineError."""
        await self.call(lambda c: c.pause(container_id))

    async def unpause(self, container_id: str) -> None:
        """Raises EngineError."""
        await self.call(lambda c: c.unpause(container_id))

    async def image_labels(self, image: str) -> Mapping[str, str] | None:
        """The labels of an image, None = it is not there. Raises EngineError."""
        try:
            raw: dict[str, Any] = await self.call(lambda c: c.inspect_image(image))
        except NotThereError:
            return None
        return (raw.get("Config") or {}).get("Labels") or {}

    async def network_driver(self, network: str) -> str | None:
        """None = there is no such network. Raises EngineError."""
        try:
            raw: dict[str, Any] = await self.call(lambda c: c.inspect_network(network))
        except NotThereError:
            return None
        return str(raw.get("Driver", ""))

    async def pull(self, image: str) -> None:
        """Pull an image, named with its tag or digest. Raises EngineError with the registry's own words."""
        await self.call(lambda c: _pull(c, image), timeout_s=PULL_TIMEOUT_S, threads=self._pull_threads)

    def close(self) -> None:
        """Take no more calls; does not wait for those under way."""
        for threads in (self._threads, self._pull_threads, self._ping_threads):
            threads.close()


def engine_url() -> str:
    """Where the engine is asked."""
    return os.environ.get("DOCKER_HOST") or DEFAULT_URL


def _knock(timeout_s: float) -> None:
    """Raises EngineAwayError where nobody listens on the engine's unix socket, in plainer words than the SDK's, which
    also forgets to close what it could not connect."""
    url = engine_url()
    if not url.startswith(_UNIX):
        return
    with socket.socket(socket.AF_UNIX) as knocking:
        knocking.settimeout(timeout_s)
        try:
            knocking.connect(url.removeprefix(_UNIX))
        except OSError as e:
            raise EngineAwayError(f"no Docker Engine to be had at {url}: {e.strerror or e}") from e


def _attach(client: docker.APIClient, container_id: str) -> int:
    wrapped = client.attach_socket(container_id, {"stdout": 1, "stderr": 1, "stream": 1, "logs": 0})
    try:
        fd = os.dup(wrapped.fileno())  # nothing has come yet: the container has not been started
    finally:
        getattr(wrapped, "_response", wrapped).close()  # the whole answer, and its connection
    os.set_blocking(fd, False)
    return fd


def _pull(client: docker.APIClient, image: str) -> None:
    """`APIClient.pull` without its lack of any timeout: one for each word of the engine, one for all."""
    registry, _ = docker.auth.resolve_repository_name(image.partition("@")[0])
    header = docker.auth.get_config_header(client, registry)
    response = client.post(
        client._url("/images/create"),
        params={"fromImage": image},
        headers={"X-Registry-Auth": header} if header else {},
        stream=True,
        timeout=PULL_QUIET_S,
    )
    with contextlib.closing(response):
        client._raise_for_status(response)
        _follow_pull(client._stream_helper(response, decode=True), time.monotonic() + PULL_TIMEOUT_S)


def _follow_pull(words: Iterable[Mapping[str, Any]], until_mono_s: float) -> None:
    for word in words:
        if "error" in word:
            raise EngineError(str(word["error"]))
        if time.monotonic() > until_mono_s:
            raise EngineAwayError(f"the pull took more than {PULL_TIMEOUT_S:g} s")


def _text(error: docker.errors.APIError) -> str:
    return str(error.explanation or error)
