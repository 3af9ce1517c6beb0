"""Containers that are plain processes: one runtime server each, in its own session, directory and the VM's cgroups.

They separate functions from each other as processes of one user do, no more: what must not be shared between tenants
needs a backend with real isolation. The weight of CPU shares (`cap_cores`) has no meaning here, the VM's quota caps
the sum. Memory is limited twice: the runtime sets its own data limit, and a watchdog ends a running container whose
resident memory, children included, exceeds its limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from fallow.core.model import ContainerId
from fallow.infra import clock
from fallow.infra.log import get_logger
from invoker.backends import procfs
from invoker.backends.base import Broken, Reply, StartError
from invoker.container_http import ContainerConnection
from invoker.logs import LogCollector

START_TIMEOUT_S = 20.0
CONNECT_EVERY_S = 0.002
WATCH_EVERY_S = 0.1
KILL_TIMEOUT_S = 5.0
NO_SESSION = -1  # no process has it
EXIT_MEMORY = 86  # the runtime's exit code when its memory is exhausted
MAX_SOCKET_PATH_BYTES = 100  # Linux takes 107
NICENESS = 5  # functions yield to the platform that serves them
OOM_SCORE_ADJ = 500  # the kernel, out of memory, takes a function first

T = TypeVar("T")

log = get_logger("invoker.process")


def python_server() -> Path:
    """The Python runtime's server. Raises StartError when the functions package is not installed."""
    spec = importlib.util.find_spec("functions.runtimes.python")
    if spec is None or not spec.submodule_search_locations:
        raise StartError("the package functions.runtimes.python is not installed")
    return Path(spec.submodule_search_locations[0]) / "server.py"


class ProcessContainer:
    """One runtime process. Made by ProcessBackend.start."""

    def __init__(self, backend: ProcessBackend, home: Path, memory_mb: int, on_exit: Callable[[], None]) -> None:
        self.logs = LogCollector(clock.unix_ms)
        self._backend = backend
        self._home = home
        self._memory_mb = memory_mb
        self._on_exit = on_exit
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._stat_fd = -1
        self._pipes: dict[int, int] = {}  # fd -> stream
        self._connection = ContainerConnection()
        self._exited = asyncio.Event()
        self._over_memory = False
        self._destroying = False
        self._end: asyncio.Future[None] | None = None
        self.last_cpu_s = 0.0

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    def spawn(self, argv: list[str], env: dict[str, str]) -> None:
        """Start the process. Runs on the loop: with vfork it takes 0.6 ms, and the interpreter's lock is held for
        most of it wherever it runs."""
        self._process = subprocess.Popen(
            argv,
            env=env,
            cwd=self._home,
            stdin=subprocess.PIPE,  # held open: the runtime ends when it closes, so when this process is killed
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        loop = asyncio.get_running_loop()
        self._pidfd = os.pidfd_open(self._process.pid)
        self._stat_fd = os.open(f"/proc/{self._process.pid}/stat", os.O_RDONLY)
        loop.add_reader(self._pidfd, self._reap)
        for stream, pipe in enumerate((self._process.stdout, self._process.stderr)):
            assert pipe is not None
            fd = os.dup(pipe.fileno())
            pipe.close()
            os.set_blocking(fd, False)
            self._pipes[fd] = stream
            loop.add_reader(fd, self._read_pipe, fd)
        with contextlib.suppress(OSError):  # gone already, or a sandbox forbids it: priorities are a courtesy
            os.setpriority(os.PRIO_PROCESS, self.pid, NICENESS)
            Path(f"/proc/{self.pid}/oom_score_adj").write_text(str(OOM_SCORE_ADJ))

    async def connect(self, socket: Path) -> None:
        """Wait until the server listens. Raises StartError when it ends before or takes longer than 20 s."""
        loop = asyncio.get_running_loop()
        deadline_s = clock.mono_s() + START_TIMEOUT_S
        while True:
            with contextlib.suppress(OSError):
                await loop.create_unix_connection(lambda: self._connection, str(socket))
                return
            if self._exited.is_set():
                await asyncio.sleep(0)
                self.drain_logs()
                said = " | ".join(self.logs.take())[-500:]
                raise StartError(f"the runtime ended at once with exit code {self._returncode()}: {said or 'silent'}")
            if clock.mono_s() > deadline_s:
                raise StartError(f"the runtime did not listen within {START_TIMEOUT_S:g} s")
            await asyncio.sleep(CONNECT_EVERY_S)

    async def post(self, path: str, body: bytes) -> Reply:
        reply = await self._connection.post(path, body)
        if not isinstance(reply, Broken) or not reply.sent:
            return reply
        # A broken connection of a process that lives is a broken runtime; give the kernel a moment to say which.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._exited.wait()
        return Broken(sent=True, out_of_memory=self._over_memory or self._returncode() == EXIT_MEMORY)

    def cpu_s(self) -> float | None:
        if not self._exited.is_set():
            self.last_cpu_s = max(self.last_cpu_s, procfs.cpu_s(self.pid, self._stat_fd))
        return self.last_cpu_s

    def memory_used_mb(self) -> float:
        return 0.0 if self._exited.is_set() else procfs.rss_mb(self.pid)

    def drain_logs(self) -> None:
        for fd in list(self._pipes):
            self._read_pipe(fd)

    def watch(self, *, running: bool) -> None:
        (self._backend.watched.add if running else self._backend.watched.discard)(self)

    def check_memory(self) -> None:
        """End the process if it uses more than its limit."""
        if not self._exited.is_set() and self.memory_used_mb() > self._memory_mb:
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
        if self._process is not None:
            self._signal_group()
            left = await self._backend.in_thread(
                functools.partial(procfs.kill_container, self.pid, str(self._home), self._backend.procs_file)
            )
            if left:
                log.warning("processes_left", session=self.pid, count=left)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KILL_TIMEOUT_S):
                    await self._exited.wait()
        self.drain_logs()
        for fd in list(self._pipes):
            self._close_pipe(fd)
        self._backend.forget(self)
        await self._backend.in_thread(functools.partial(shutil.rmtree, self._home, ignore_errors=True))

    def _signal_group(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _returncode(self) -> int | None:
        return self._process.returncode if self._process is not None else None

    def _reap(self) -> None:
        """The process ended: its pidfd is readable."""
        assert self._process is not None
        self.last_cpu_s = max(self.last_cpu_s, procfs.cpu_s(self.pid, self._stat_fd))  # a zombie still has its times
        if self._process.poll() is None:
            return
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        os.close(self._stat_fd)
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._exited.set()
        if not self._destroying:
            self._on_exit()

    def _read_pipe(self, fd: int) -> None:
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.logs.feed(self._pipes[fd], data)
        else:
            self._close_pipe(fd)

    def _close_pipe(self, fd: int) -> None:
        asyncio.get_running_loop().remove_reader(fd)
        self.logs.end(self._pipes.pop(fd))
        os.close(fd)


class ProcessBackend:
    """Starts runtime processes under `run_dir`; each is entered in `cgroups` (directories of the VM)."""

    def __init__(self, *, run_dir: Path, cgroups: tuple[Path, ...] = (), max_starts: int = 4) -> None:
        self.kinds: tuple[str, ...] = ("python:3", f"python:{sys.version_info.major}.{sys.version_info.minor}")
        self.procs_file = cgroups[0] / "cgroup.procs" if cgroups else None
        self.watched: set[ProcessContainer] = set()
        self._run_dir = run_dir
        self._cgroups = cgroups
        self._server = python_server()
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
        if kind not in self.kinds:
            raise StartError(f"kind {kind} is not offered here; there are {', '.join(self.kinds)}")
        home = self._run_dir / f"c{container_id}"
        socket = home / "s"
        if len(os.fsencode(socket)) > MAX_SOCKET_PATH_BYTES:
            raise StartError(f"the run directory's path is too long for a unix socket: {self._run_dir}")
        container = ProcessContainer(self, home, memory_mb, on_exit)
        container.logs.begin(1)  # what a start says is only read when it fails
        self._live.add(container)
        try:
            home.mkdir(parents=True, mode=0o700)
            container.spawn(self._argv(socket, memory_mb), self._env(home))
            if self._cgroups:
                await self.in_thread(functools.partial(self._enter_cgroups, container.pid))
            await container.connect(socket)
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
        return sum(c.memory_used_mb() for c in self._live)

    async def close(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
        await asyncio.gather(*(c.destroy() for c in list(self._live)))
        self._threads.shutdown(wait=False)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run a blocking call in the backend's bounded threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def forget(self, container: ProcessContainer) -> None:
        """A container is gone; its CPU time stays in the total."""
        if container in self._live:
            self._live.discard(container)
            self._ended_cpu_s += container.last_cpu_s

    def _argv(self, socket: Path, memory_mb: int) -> list[str]:
        python = [sys.executable, "-S", "-E", str(self._server)]
        return [*python, "--socket", str(socket), "--memory-mb", str(memory_mb), "--die-with-stdin"]

    def _env(self, home: Path) -> dict[str, str]:
        path = os.environ.get("PATH", os.defpath)
        return {"PATH": path, "LANG": "C.UTF-8", "HOME": str(home), "TMPDIR": str(home)}

    def _enter_cgroups(self, pid: int) -> None:
        for directory in self._cgroups:
            (directory / "cgroup.procs").write_text(str(pid))

    def _arm_watchdog(self) -> None:
        if self._watchdog is None:
            self._watchdog = asyncio.get_running_loop().call_later(WATCH_EVERY_S, self._check_memory)

    def _check_memory(self) -> None:
        self._watchdog = asyncio.get_running_loop().call_later(WATCH_EVERY_S, self._check_memory)
        for container in list(self.watched):
            container.check_memory()
