"""Containers that are plain processes: one runtime server each, in its own session, directory and the VM's cgroups.

One process, the spawner, is inside the cgroups from the start and forks them all (`spawner`); what a fork becomes
depends on its kind (`runtimes`).

They separate functions from each other as processes of one user do, no more: what must not be shared between tenants
needs a backend with real isolation. The weight of CPU shares (`cap_cores`) has no meaning here, the VM's quota caps
the sum. Memory is limited twice: each has a data limit, and a watchdog ends a running container whose
resident memory, children included, exceeds its limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn, TypeVar

from fallow.core.model import ContainerId
from fallow.infra import clock
from fallow.infra.log import get_logger
from invoker.backends import procfs
from invoker.backends.base import LONGEST_CALL_S, Answer, Broken, Reply, StartError
from invoker.backends.runtimes import Found, Runtime, find_runtimes, forget_runtimes, package_folder
from invoker.backends.spawner import (
    START_TIMEOUT_S,
    End,
    Order,
    Spawner,
    container_environment,
    environment,
    open_spawner,
)
from invoker.container_http import ContainerConnection
from invoker.logs import LogCollector

WATCH_EVERY_S = 0.1
KILL_TIMEOUT_S = 5.0
RESPAWN_PAUSE_S = 0.2
RESPAWN_LONGEST_PAUSE_S = 5.0
READ_BYTES = 1 << 16  # what a pipe holds, unless its writer made it larger
PIPE_READS = 16  # ... to at most 1 MiB; who writes without end is not read without end
NO_SESSION = -1  # no process has it
LAST_WORDS_BYTES = 8192  # of a program's standard error: V8's last ones, a stack trace included, are some 3000
EXIT_MEMORY = 86  # the runtime's exit code when its memory is exhausted

T = TypeVar("T")

log = get_logger("invoker.process")


class ProcessContainer:
    """One runtime process. Made by ProcessBackend.start."""

    def __init__(
        self, backend: ProcessBackend, runtime: Runtime, home: Path, memory_mb: int, on_exit: Callable[[], None]
    ) -> None:
        self.logs = LogCollector(clock.unix_ms)
        self._backend = backend
        self._runtime = runtime
        self._home = home
        self._memory_mb = memory_mb
        self._on_exit = on_exit
        self.pid = 0  # 0 = not known yet
        self._stat_fd = -1
        self._stdin_fd = -1  # held open: the runtime ends when it closes, so when this process is killed
        self._pipes: dict[int, int] = {}  # fd -> stream
        self._connection = ContainerConnection()
        self._ordered = False
        self._exited = asyncio.Event()
        self._exit_code: int | None = None
        self._last_words = b""
        self._over_memory = False
        self._destroying = False
        self._end: asyncio.Future[None] | None = None
        self.last_cpu_s = 0.0
        self._children_cpu_s = 0.0

    async def start(self, spawner: Spawner, order: Order) -> None:
        """Have the process forked and connect to it. Raises StartError when it ends before it serves or takes longer
        than 20 s, OSError when this process has no file descriptors left."""
        started = await self._order(spawner, order)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                self.pid = await started
        except TimeoutError:
            raise StartError(f"the runtime did not serve within {START_TIMEOUT_S:g} s") from None
        except StartError as e:
            self.drain_logs()
            said = " | ".join(self.logs.take())[-500:]
            raise StartError(f"{e}: {said}" if said else str(e)) from None
        if self._exited.is_set():
            raise StartError(f"the runtime ended at once with exit code {self._exit_code}")
        with contextlib.suppress(FileNotFoundError):  # it ended just now: `_ended` will have its CPU time
            self._stat_fd = os.open(f"/proc/{self.pid}/stat", os.O_RDONLY)

    async def _order(self, spawner: Spawner, order: Order) -> asyncio.Future[int]:
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as theirs:
            ours, conn = socket.socketpair()
            theirs.enter_context(conn)
            await loop.create_unix_connection(lambda: self._connection, sock=ours)
            stdin, self._stdin_fd = os.pipe()
            theirs.callback(os.close, stdin)
            fds = [conn.fileno(), stdin]
            for stream in (0, 1):
                fd, write_fd = os.pipe()
                theirs.callback(os.close, write_fd)
                fds.append(write_fd)
                os.set_blocking(fd, False)
                self._pipes[fd] = stream
                loop.add_reader(fd, self._read_pipe, fd)
            started = spawner.fork(order, fds, self._ended)
        self._ordered = True
        return started

    async def post(self, path: str, body: bytes, timeout_s: float = LONGEST_CALL_S) -> Reply:
        reply = await self._connection.post(path, body, timeout_s)
        if isinstance(reply, Answer):
            if reply.logs_complete:
                self.drain_logs()
                self.logs.finish()
            return reply
        if not reply.sent:
            return reply
        # A broken connection of a process that lives is a broken runtime; give the kernel a moment to say which.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._exited.wait()
        return Broken(sent=True, out_of_memory=self._ran_out_of_memory())

    def _ran_out_of_memory(self) -> bool:
        if self._over_memory or self._exit_code == EXIT_MEMORY:
            return True
        if self._exit_code not in self._runtime.memory_ends:
            return False
        self.drain_logs()
        return self._runtime.memory_words in self._last_words

    def cpu_s(self, *, idle: bool = False) -> float | None:
        if not self._exited.is_set() and self._stat_fd >= 0:
            if not idle:
                self._children_cpu_s = procfs.children_cpu_s(self._stat_fd)
            self.last_cpu_s = max(self.last_cpu_s, procfs.own_cpu_s(self.pid) + self._children_cpu_s)
        return self.last_cpu_s

    def memory_used_mb(self) -> float | None:
        """Resident, children included. Pages of the spawner's image that it still shares count too: as much as a
        Python process of its own would have resident at its start, or less."""
        return procfs.rss_mb(self.pid) if self.pid and not self._exited.is_set() else None

    def drain_logs(self) -> None:
        for fd in list(self._pipes):
            for _ in range(PIPE_READS):
                if self._read_pipe(fd) < READ_BYTES:
                    break

    def watch(self, *, running: bool) -> None:
        (self._backend.watched.add if running else self._backend.watched.discard)(self)

    def check_memory(self) -> None:
        """End the process if it uses more than its limit."""
        used_mb = self.memory_used_mb()
        if used_mb is not None and used_mb > self._memory_mb:
            self._over_memory = True
            self._signal_group()

    async def destroy(self) -> None:
        self._destroying = True
        if self._end is None:
            self._end = asyncio.ensure_future(self._destroy())
        await asyncio.shield(self._end)  # who gives up waiting does not stop the end

    async def _destroy(self) -> None:
        self.watch(running=False)
        self.cpu_s()
        self._connection.close()
        if self._stdin_fd >= 0:
            os.close(self._stdin_fd)  # ends it also where its pid is not known yet
            self._stdin_fd = -1
        if self._ordered:
            self._signal_group()
            left = await self._backend.in_thread(
                functools.partial(
                    procfs.kill_container, self.pid or NO_SESSION, str(self._home), self._backend.procs_file
                )
            )
            if left:
                log.warning("processes_left", session=self.pid, count=left)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KILL_TIMEOUT_S):
                    await self._exited.wait()
        self.drain_logs()
        for fd in list(self._pipes):
            self._close_pipe(fd)
        if self._stat_fd >= 0:
            os.close(self._stat_fd)
            self._stat_fd = -1
        self._backend.forget(self)
        await self._backend.in_thread(functools.partial(shutil.rmtree, self._home, ignore_errors=True))

    def _signal_group(self) -> None:
        if self.pid and not self._exited.is_set():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _ended(self, end: End) -> None:
        """The spawner says so, or is lost: then nobody would say when this process ends, so it ends now."""
        if end.code is None:
            self.cpu_s()
            self._signal_group()
        self.last_cpu_s = max(self.last_cpu_s, end.cpu_s)
        self._exit_code = end.code
        self._exited.set()
        if not self._destroying:
            self._on_exit()

    def _read_pipe(self, fd: int) -> int:
        """Bytes read; fewer than READ_BYTES = there were no more."""
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if data:
            if self._runtime.memory_words and self._pipes[fd]:  # a program's standard error
                self._last_words = (self._last_words + data)[-LAST_WORDS_BYTES:]
            self.logs.feed(self._pipes[fd], data)
        else:
            self._close_pipe(fd)
        return len(data)

    def _close_pipe(self, fd: int) -> None:
        asyncio.get_running_loop().remove_reader(fd)
        self.logs.end(self._pipes.pop(fd))
        os.close(fd)


class ProcessBackend:
    """Runs containers under `run_dir`, inside `cgroups` (directories of the VM)."""

    def __init__(self, *, run_dir: Path, cgroups: tuple[Path, ...] = (), max_starts: int = 4) -> None:
        self.kinds: tuple[str, ...] = ()  # known once it is open
        self.trouble = ""  # a lost spawner is back sooner than a controller would act on it
        self.procs_file = cgroups[0] / "cgroup.procs" if cgroups else None
        self.watched: set[ProcessContainer] = set()
        self._run_dir = run_dir
        self._cgroups = cgroups
        self._script = package_folder("functions.runtimes.python") / "spawner.py"
        self._runtimes: Found = {}
        self._spawner: Spawner | None = None
        self._live: set[ProcessContainer] = set()
        self._ended_cpu_s = 0.0
        # Entering a cgroup waits some 20 ms for the kernel, ending a container for its processes.
        self._threads = ThreadPoolExecutor(max(2, max_starts), "containers")
        self._watchdog: asyncio.TimerHandle | None = None

    def sweep(self) -> int:
        """End and remove the containers that an invoker killed here before has left in this directory. Returns how
        many there were; blocks for some milliseconds each, so it belongs before the first start."""
        left = [entry for entry in self._run_dir.glob("c[0-9]*") if entry.is_dir()]
        for home in left:
            procfs.kill_container(NO_SESSION, str(home), self.procs_file)
            shutil.rmtree(home, ignore_errors=True)
        return len(left)

    async def open(self) -> None:
        """See Backend.open."""
        if not self._runtimes:
            try:
                self._run_dir.mkdir(parents=True, exist_ok=True)
                self._runtimes = await self.in_thread(functools.partial(find_runtimes, self._run_dir))
            except OSError as e:
                raise StartError(f"cannot make ready {self._run_dir}: {e}") from e
            self.kinds = tuple(self._runtimes)
        env = environment(self._run_dir, (runtime.env for runtime in self._runtimes.values()))
        self._spawner = await open_spawner(self._script, env=env, cgroups=self._cgroups, in_thread=self.in_thread)

    async def supervise(self) -> NoReturn:
        """See Backend.supervise. A lost spawner has lost its containers; until there is a new one no start succeeds."""
        pause_s = RESPAWN_PAUSE_S
        while True:
            if self._spawner is not None:
                await self._spawner.lost.wait()
                log.error("spawner_lost", pid=self._spawner.pid)
                lost, self._spawner = self._spawner, None
                await lost.close(self.in_thread)
            await asyncio.sleep(pause_s)
            try:
                await self.open()
                pause_s = RESPAWN_PAUSE_S
            except StartError as e:
                log.error("spawner_failed", error=str(e))
                pause_s = min(pause_s * 2, RESPAWN_LONGEST_PAUSE_S)

    async def start(
        self,
        container_id: ContainerId,
        *,
        kind: str,
        memory_mb: int,
        cap_cores: float,
        on_exit: Callable[[], None],
    ) -> ProcessContainer:
        """See Backend.start. `cap_cores` is not used."""
        runtime = self._runtimes.get(kind)
        if runtime is None:
            raise StartError(f"kind {kind} is not offered here; there are {', '.join(self.kinds)}")
        spawner = self._spawner
        if spawner is None or spawner.lost.is_set():
            raise StartError("the spawner of containers is being started again")
        home = self._run_dir / f"c{container_id}"
        container = ProcessContainer(self, runtime, home, memory_mb, on_exit)
        container.logs.begin(1)  # what a start says is only read when it fails
        self._live.add(container)
        env = container_environment(home, runtime.env)
        order = Order(
            id=container_id,
            home=str(home),
            memory_mb=memory_mb,
            env=env,
            path=runtime.path,
            program=runtime.program(memory_mb) if runtime.program is not None else (),
            margin_mb=runtime.margin_mb,
        )
        try:
            home.mkdir(parents=True, mode=0o700)
            await container.start(spawner, order)
        except BaseException as e:
            await asyncio.shield(container.destroy())
            if isinstance(e, OSError):
                raise StartError(str(e)) from e
            raise
        self._arm_watchdog()
        return container

    def cpu_total_s(self) -> float:
        return self._ended_cpu_s + sum(c.cpu_s() or 0.0 for c in self._live)

    def memory_mb(self) -> float:
        return sum(c.memory_used_mb() or 0.0 for c in self._live)

    async def close(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
        await asyncio.gather(*(c.destroy() for c in list(self._live)))
        if self._spawner is not None:
            spawner, self._spawner = self._spawner, None
            await spawner.close(self.in_thread)
        forget_runtimes(self._run_dir)
        self._threads.shutdown(wait=False)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run a blocking call in the backend's bounded threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def forget(self, container: ProcessContainer) -> None:
        """A container is gone; its CPU time stays in the total."""
        if container in self._live:
            self._live.discard(container)
            self._ended_cpu_s += container.last_cpu_s

    def _arm_watchdog(self) -> None:
        if self._watchdog is None:
            self._watchdog = asyncio.get_running_loop().call_later(WATCH_EVERY_S, self._check_memory)

    def _check_memory(self) -> None:
        self._watchdog = asyncio.get_running_loop().call_later(WATCH_EVERY_S, self._check_memory)
        for container in list(self.watched):
            container.check_memory()
