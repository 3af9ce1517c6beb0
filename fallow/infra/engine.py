"""The Docker Engine as the platform uses it: the only module that imports the SDK.

The SDK blocks, so every call runs in a bounded thread pool and under a deadline of its own. A call that is given up
leaves its thread to finish in the background: an engine that hangs fills the pool, never the event loop.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import docker
import docker.errors
import requests.exceptions

DEFAULT_TIMEOUT_S = 10.0
START_TIMEOUT_S = 60.0
PULL_TIMEOUT_S = 600.0

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


class Engine:
    """One Docker Engine, found as every Docker client finds it: DOCKER_HOST, else /var/run/docker.sock."""

    def __init__(self, *, threads: int = 8) -> None:
        self._threads = ThreadPoolExecutor(threads, "docker")
        self._local = threading.local()  # the SDK's session is not made for several threads

    async def call(self, work: Callable[[docker.APIClient], T], *, timeout_s: float = DEFAULT_TIMEOUT_S) -> T:
        """Run `work` with a client of the low-level API. Raises EngineError and its kinds."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                return await loop.run_in_executor(self._threads, self._run, work, timeout_s)
        except TimeoutError:
            raise EngineAwayError(f"the Docker Engine did not answer within {timeout_s:g} s") from None

    def _run(self, work: Callable[[docker.APIClient], T], timeout_s: float) -> T:
        try:
            client = self._client()
            client.timeout = timeout_s
            return work(client)
        except docker.errors.NotFound as e:
            raise NotThereError(_text(e)) from e
        except docker.errors.APIError as e:
            raise EngineError(_text(e)) from e
        except docker.errors.DockerException as e:
            raise EngineAwayError(f"no Docker Engine to be had: {e}") from e
        except (requests.exceptions.RequestException, OSError) as e:
            raise EngineAwayError(f"the Docker Engine does not answer: {e}") from e

    def _client(self) -> docker.APIClient:
        client = getattr(self._local, "client", None)
        if client is None:
            client = docker.APIClient(base_url=os.environ.get("DOCKER_HOST"), version="auto", timeout=DEFAULT_TIMEOUT_S)
            self._local.client = client
        return client

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

    def close(self) -> None:
        """Take no more calls; does not wait for those under way."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _text(error: docker.errors.APIError) -> str:
    return str(error.explanation or error)
