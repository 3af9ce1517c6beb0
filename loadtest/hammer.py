"""A closed-loop HTTP/1.1 client for one URL, light enough not to be what is measured: `python -m loadtest.hammer`.

Reads one JSON line of HammerOrder from standard input; writes one JSON line, then the latencies as native doubles (ms).
Each connection sends its next request once the last answer is complete.
"""

from __future__ import annotations

import array
import asyncio
import json
import re
import sys
import time
from dataclasses import asdict, dataclass
from typing import cast

from fallow.infra import tasks

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class HammerOrder:
    host: str
    port: int
    path: str
    authorization: str
    body: str
    connections: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HammerResult:
    """`errors` are answers other than 200 and broken connections; they have no latency."""

    requests: int
    errors: int
    seconds: float
    first_error: str = ""


def request_bytes(order: HammerOrder) -> bytes:
    body = order.body.encode()
    head = (
        f"POST {order.path} HTTP/1.1\r\nHost: {order.host}:{order.port}\r\nAuthorization: {order.authorization}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Worker(asyncio.Protocol):
    """One connection. `ended` is done when it has its last answer or broke."""

    def __init__(self, request: bytes, until_s: float, latencies_ms: array.array[float]) -> None:
        self._request = request
        self._until_s = until_s
        self._latencies_ms = latencies_ms
        self._buffer = b""
        self._sent_s = 0.0
        self._transport: asyncio.WriteTransport | None = None
        self.errors = 0
        self.first_error = ""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is one in all but name
        self._send()

    def _send(self) -> None:
        assert self._transport is not None
        self._sent_s = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer = self._buffer + data if self._buffer else data
        head_end = buffer.find(_END)
        if head_end < 0:
            return
        length = _LENGTH.search(buffer, 0, head_end + 2)
        if length is None:
            self._stop("an answer without a Content-Length")
            return
        if len(buffer) < head_end + len(_END) + int(length[1]):
            return
        now_s = time.perf_counter()
        if buffer.startswith(b"HTTP/1.1 200"):
            self._latencies_ms.append((now_s - self._sent_s) * 1e3)
        else:
            self._failed(buffer[:300].decode(errors="replace"))
        self._buffer = b""
        if now_s < self._until_s:
            self._send()
        else:
            self._stop("")

    def _failed(self, why: str) -> None:
        self.errors += 1
        self.first_error = self.first_error or why

    def _stop(self, error: str) -> None:
        if error:
            self._failed(error)
        if not self.ended.done():
            self.ended.set_result(None)
        if self._transport is not None:
            self._transport.close()

    def give_up(self, error: str) -> None:
        if not self.ended.done():
            self._stop(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.give_up(f"the connection broke: {exc or 'closed by the server'}")


async def hammer(order: HammerOrder) -> tuple[HammerResult, array.array[float]]:
    """Raises OSError where the server cannot be reached."""
    loop = asyncio.get_running_loop()
    latencies_ms = array.array("d")
    request = request_bytes(order)
    began_s = time.perf_counter()
    until_s = began_s + order.seconds

    def worker() -> _Worker:
        return _Worker(request, until_s, latencies_ms)

    connected = [await loop.create_connection(worker, order.host, order.port) for _ in range(order.connections)]
    workers = [w for _, w in connected]
    # A server that hangs must not hang the measurement; what is open by then counts as an error.
    await asyncio.wait([w.ended for w in workers], timeout=order.seconds + 30)
    took_s = time.perf_counter() - began_s
    for w in workers:
        w.give_up("no answer in 30 s")
    errors = sum(w.errors for w in workers)
    first = next((w.first_error for w in workers if w.first_error), "")
    result = HammerResult(requests=len(latencies_ms), errors=errors, seconds=took_s, first_error=first)
    return result, latencies_ms


async def _main(stop: asyncio.Event) -> int:
    order = HammerOrder(**json.loads(sys.stdin.readline()))
    result, latencies_ms = await hammer(order)
    sys.stdout.buffer.write(json.dumps(asdict(result)).encode() + b"\n" + latencies_ms.tobytes())
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(tasks.run(_main))
