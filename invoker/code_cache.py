"""Action code by digest: fetched once per VM, kept in memory and on disk, both bounded.

What is kept is the JSON string that goes into the body of /init, so that a megabyte of code is escaped once and not at
every cold start.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MEMORY_BYTES = 64 << 20
DISK_BYTES = 512 << 20
_ZIP_MAGIC = b"PK\x03\x04"

Fetch = Callable[[str], Awaitable[bytes | None]]


def to_json(code: bytes, *, binary: bool) -> bytes:
    """The code as a JSON string. Binary code is base64 text there, whether it was stored as that or as a bare zip."""
    if binary and (code.startswith(_ZIP_MAGIC) or not code.isascii()):
        code = base64.b64encode(code)
    return json.dumps(code.decode("utf-8", "replace")).encode()


class CodeCache:
    """Single flight: calls that want the same code at once cause one fetch. `fetch` reads the store by digest."""

    def __init__(
        self, *, directory: Path, fetch: Fetch, memory_bytes: int = MEMORY_BYTES, disk_bytes: int = DISK_BYTES
    ) -> None:
        self._directory = directory
        self._fetch = fetch
        self._memory_bytes = memory_bytes
        self._disk_bytes = disk_bytes
        self._memory: OrderedDict[tuple[str, bool], bytes] = OrderedDict()
        self._used_bytes = 0
        self._flights: dict[tuple[str, bool], asyncio.Future[bytes | None]] = {}
        self._threads = ThreadPoolExecutor(1, "code")

    async def get(self, digest: str, *, binary: bool) -> bytes | None:
        """The code as a JSON string; None where neither this VM nor the store has it. Raises what `fetch` raises."""
        if not digest:
            return b'""'
        key = (digest, binary)
        if (code := self._memory.get(key)) is not None:
            self._memory.move_to_end(key)
            return code
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.ensure_future(self._load(digest, binary=binary))
            self._flights[key] = flight
            flight.add_done_callback(functools.partial(self._landed, key))
        return await asyncio.shield(flight)  # one caller's cancellation must not fail the others

    async def close(self) -> None:
        """Give up fetches under way."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        self._threads.shutdown(wait=False)

    def _landed(self, key: tuple[str, bool], flight: asyncio.Future[bytes | None]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # marks it as seen: every caller may have gone

    async def _load(self, digest: str, *, binary: bool) -> bytes | None:
        in_thread = asyncio.get_running_loop().run_in_executor
        code = await in_thread(self._threads, self._read, digest)
        if code is None:
            code = await self._fetch(digest)
            if code is None:
                return None
            await in_thread(self._threads, self._write, digest, code)
        text = to_json(code, binary=binary)
        self._keep((digest, binary), text)
        return text

    def _keep(self, key: tuple[str, bool], text: bytes) -> None:
        self._memory[key] = text
        self._used_bytes += len(text)
        while self._used_bytes > self._memory_bytes and len(self._memory) > 1:
            _, dropped = self._memory.popitem(last=False)
            self._used_bytes -= len(dropped)

    def _read(self, digest: str) -> bytes | None:
        """From disk; a file whose bytes are not what its name says (a crash, a full disk) is none."""
        path = self._directory / digest
        try:
            code = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(code).hexdigest() != digest:
            path.unlink(missing_ok=True)
            return None
        os.utime(path)
        return code

    def _write(self, digest: str, code: bytes) -> None:
        """To disk; a disk that refuses costs the next cold start a fetch, nothing else."""
        with contextlib.suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True)
            part = self._directory / f"{digest}.part"
            part.write_bytes(code)
            part.replace(self._directory / digest)
            self._trim()

    def _trim(self) -> None:
        files = sorted((e.stat().st_mtime, e.stat().st_size, e.path) for e in os.scandir(self._directory))
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= self._disk_bytes:
                break
            Path(path).unlink(missing_ok=True)
            total -= size
