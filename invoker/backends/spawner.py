"""The invoker's end of the spawner: the process that forks the VM's containers (its protocol is in its own docstring).

The spawner enters the VM's cgroups once, and every container inherits them.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from fallow.infra.log import get_logger
from invoker.backends.base import StartError

START_TIMEOUT_S = 20.0
END_TIMEOUT_S = 5.0
MESSAGE_BYTES = 1 << 16

T = TypeVar("T")

log = get_logger("invoker.spawner")


class InThread(Protocol):
    """Runs a blocking call in a bounded thread."""

    def __call__(self, work: Callable[[], T]) -> Awaitable[T]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One container: `home` exists.

    With a `program` it becomes that one, its data limit `margin_mb` above `memory_mb`; without, it stays Python and
    `path` is appended to its sys.path.
    """

    id: int
    home: str
    memory_mb: int
    env: Mapping[str, str]
    path: Sequence[str] = ()
    program: Sequence[str] = ()
    margin_mb: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a container's process ended. A `code` of None: nobody knows, the spawner was lost and it may run on."""

    code: int | None
    cpu_s: float


@dataclass(frozen=True, slots=True)
class _Forked:
    started: asyncio.Future[int]
    on_end: Callable[[End], None]


class Spawner:
    """One spawner process. Made by `open_spawner`; all methods belong to the event loop that made it."""

    def __init__(self, script: Path, env: Mapping[str, str]) -> None:
        """Start it. Raises OSError."""
        self.lost = asyncio.Event()  # it has ended, with its containers
        self._said = asyncio.Event()  # that it is ready, or nothing and is lost
        self._forked: dict[int, _Forked] = {}
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-S", "-E", str(script)],
                    env=env,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,
                )
            except OSError:
                self._control.close()
                raise
        asyncio.get_running_loop().add_reader(self._control, self._read)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ready(self) -> None:
        """Wait until it takes orders. Raises StartError."""
        await self._said.wait()
        if self.lost.is_set():
            raise StartError(f"the spawner of containers ended at once (process {self.pid})")

    def fork(self, order: Order, fds: Sequence[int], on_end: Callable[[End], None]) -> asyncio.Future[int]:
        """Have a container made that takes over copies of `fds`: its connection, stdin, stdout, stderr.

        The future gives its pid once it serves, or StartError. `on_end` is called once, from the loop, when its process
        has ended; not for an order that failed before there was one. Raises OSError when the order cannot be sent.
        """
        started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        socket.send_fds(self._control, [json.dumps(asdict(order)).encode()], list(fds))
        self._forked[order.id] = _Forked(started, on_end)
        return started

    async def close(self, in_thread: InThread) -> None:
        """End it and what it forked."""
        self._lose()
        try:
            await in_thread(functools.partial(self._process.wait, END_TIMEOUT_S))
        except subprocess.TimeoutExpired:
            self._process.kill()
            log.warning("spawner_left", pid=self.pid)

    def _read(self) -> None:
        while not self.lost.is_set():
            try:
                data = self._control.recv(MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if data:
                self._heard(json.loads(data))
            else:
                self._process.kill()  # it lives on only if it is broken
                self._lose()

    def _heard(self, message: dict[str, Any]) -> None:
        forked = self._forked.get(message.get("id", -1))
        match message:
            case {"ready": True}:
                self._said.set()
            case {"id": _, "pid": int(pid)} if forked is not None:
                if not forked.started.done():
                    forked.started.set_result(pid)
            case {"id": number, "code": int(code), "cpu_s": float(cpu_s)}:
                self._ended(number, End(code=code, cpu_s=cpu_s), f"the runtime ended at once with exit code {code}")
            case {"id": number, "error": str(error)}:
                self._ended(number, End(code=None, cpu_s=0.0), f"the runtime could not be forked: {error}")

    def _ended(self, number: int, end: End, why: str) -> None:
        forked = self._forked.pop(number, None)
        if forked is None:
            return
        if not forked.started.done():
            forked.started.set_exception(StartError(why))
            forked.started.exception()  # read it: whoever gave up this start must not be blamed for not doing so
        forked.on_end(end)

    def _lose(self) -> None:
        """Its socket is closed, by whichever side."""
        if self.lost.is_set():
            return
        self.lost.set()
        asyncio.get_running_loop().remove_reader(self._control)
        self._control.close()
        self._said.set()
        for number in list(self._forked):
            self._ended(number, End(code=None, cpu_s=0.0), "the spawner of containers ended")


async def open_spawner(
    script: Path, *, env: Mapping[str, str], cgroups: Sequence[Path], in_thread: InThread
) -> Spawner:
    """A spawner that is inside all `cgroups` and takes orders. Raises StartError. Cancelled, it leaves nothing."""
    try:
        spawner = Spawner(script, env)
    except OSError as e:
        raise StartError(f"cannot start {script}: {e}") from e
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            if cgroups:
                await in_thread(functools.partial(_enter_cgroups, spawner.pid, cgroups))
            await spawner.ready()
    except BaseException as e:
        await asyncio.shield(spawner.close(in_thread))
        if isinstance(e, TimeoutError):
            raise StartError(f"the spawner was not ready within {START_TIMEOUT_S:g} s") from None
        if isinstance(e, OSError):
            raise StartError(f"the spawner cannot enter the VM's cgroup: {e}") from e
        raise
    return spawner


def _enter_cgroups(pid: int, cgroups: Sequence[Path]) -> None:
    """Blocks for the kernel's grace periods: some 20 ms each, seconds on a loaded machine."""
    for directory in cgroups:
        (directory / "cgroup.procs").write_text(str(pid))


def environment(run_dir: Path, additions: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The spawner's: room, first of all, for the longest environment that `container_environment` can give with one
    of `additions`."""
    home = run_dir / ("c" + "9" * 20)
    longest = [container_environment(home, more) for more in additions]
    room = max((sum(len(os.fsencode(f"{k}={v}")) + 1 for k, v in env.items()) for env in longest), default=0)
    return {"FALLOW_ROOM": "." * room, "LANG": "C.UTF-8"}


def container_environment(home: Path, more: Mapping[str, str]) -> dict[str, str]:
    """What an action sees of this machine before it is given its own parameters; `more` is its runtime's."""
    path = os.environ.get("PATH", os.defpath)
    return {"PATH": path, "LANG": "C.UTF-8", "HOME": str(home), "TMPDIR": str(home), **more}
