"""The seam between running activations and what containers are made of.

A backend starts containers whose server already answers; everything after that is the action-container protocol
(`POST /init` once, then `POST /run`), the same for every backend.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, Protocol

from fallow.core.model import ContainerId
from fallow.core.value import value
from invoker.logs import LogCollector

LONGEST_CALL_S = 86_400.0  # no action is allowed as long a time


@value(frozen=True, slots=True, kw_only=True)
class Answer:
    """A complete HTTP answer. `total_bytes` exceeds len(body) where the rest was read and dropped."""

    status: int
    body: bytes
    total_bytes: int
    logs_complete: bool = False  # no sentinels follow: all of the log was written before the answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """No complete answer will come.

    `sent` is False when nothing of the request left this process: the only case in which it may be sent elsewhere.
    """

    sent: bool
    out_of_memory: bool = False


Reply = Answer | Broken


class StartError(Exception):
    """A container could not be started; the text says why, for the operator's log.

    `developer_error` is what the activation says where the action itself is at fault: then no other start is tried.
    """

    developer_error: str = ""


class ImagePullError(StartError):
    """The image of a blackbox action is not to be had."""

    def __init__(self, image: str, why: str) -> None:
        super().__init__(f"cannot pull the image {image}: {why}")
        self.developer_error = f"Failed to pull container image '{image}'."


class Container(Protocol):
    """One started container. Its methods are called from the event loop only."""

    logs: LogCollector

    async def post(self, path: str, body: bytes, timeout_s: float = LONGEST_CALL_S) -> Reply:
        """Send one request and wait for its answer; one at a time. Raises TimeoutError when there is none after
        `timeout_s`: a container whose request was given up can only be destroyed."""
        ...

    def cpu_s(self, *, idle: bool = False) -> float | None:
        """CPU time used so far, in real core-seconds; None = not measurable. Of an `idle` container it may be assumed
        that no child process ended in it since this was last asked: that is cheaper to answer."""
        ...

    def memory_used_mb(self) -> float | None:
        """Resident now, children included; None = not measurable, or ended."""
        ...

    def drain_logs(self) -> None:
        """Take into `logs` what the container has written by now, without waiting."""
        ...

    def watch(self, *, running: bool) -> None:
        """Enforce the memory limit while a call runs."""
        ...

    async def destroy(self) -> None:
        """End the container and everything it started, and free what it held. May be called twice."""
        ...


class Backend(Protocol):
    """Starts containers."""

    kinds: tuple[str, ...]  # runtime kinds offered, such as "python:3"; known once it is open

    @property
    def trouble(self) -> str:
        """Why no container can be started or ended now, in words; "" = all is well."""
        ...

    async def open(self) -> None:
        """Make ready for the first start. Called once, before anything else. Raises StartError."""
        ...

    async def supervise(self) -> NoReturn:
        """Keep what `open` made in order, for ever. Without it a backend that broke stays broken."""
        ...

    async def start(
        self,
        container_id: ContainerId,
        *,
        kind: str,
        memory_mb: int,
        cap_cores: float,
        on_exit: Callable[[], None],
    ) -> Container:
        """Start an empty container and wait until its server takes requests. `on_exit` is called once, from the
        loop, when it ends by itself. Raises StartError. A cancelled start leaves nothing behind."""
        ...

    def cpu_total_s(self) -> float:
        """Real CPU seconds of all containers, past ones included."""
        ...

    def memory_mb(self) -> float:
        """Resident memory of all live containers."""
        ...

    async def close(self) -> None:
        """End every container and the backend's own helpers."""
        ...
