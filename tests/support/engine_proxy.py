"""A socket in front of the real Docker Engine that can be stalled or closed, as an engine that hangs or is away."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from pathlib import Path


class EngineProxy:
    """`url` is for DOCKER_HOST. While `stall`ed it takes connections and bytes and passes nothing on, or no request of
    one kind; `close` refuses and breaks all there are."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._upstream = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
        self._open = asyncio.Event()
        self._open.set()
        self._only = b""
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"unix://{self._path}"

    @property
    def idle(self) -> bool:
        """Nobody is connected, and nothing is on its way to the engine."""
        return not self._serving

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    def stall(self, only: str = "") -> None:
        """`only` = the requests whose first line begins like this regular expression; "" = everything."""
        self._only = only.encode()
        self._open.clear()

    def resume(self) -> None:
        self._open.set()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        tasks = list(self._serving)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        writers = [writer]
        try:
            await self._pass()
            up_reader, up_writer = await asyncio.open_unix_connection(self._upstream)
            writers.append(up_writer)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, up_writer, requests=True))
                group.create_task(self._pump(up_reader, writer, requests=False))
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            pass
        finally:
            self._serving.discard(task)
            for one in writers:
                one.transport.abort()

    async def _pass(self, request: bytes = b"") -> None:
        if not self._only or re.match(self._only, request):
            await self._open.wait()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, requests: bool) -> None:
        while data := await reader.read(1 << 16):
            await self._pass(data if requests else b"")
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()
