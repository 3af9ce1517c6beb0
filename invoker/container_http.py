"""HTTP/1.1 to one container over one connection that stays open.

One request at a time; answers have a Content-Length: what has none is no answer, as in OpenWhisk's invoker.
"""

from __future__ import annotations

import asyncio
from typing import cast

from invoker.backends.base import Answer, Broken, Reply
from invoker.outcome import MAX_RESULT_BYTES

MAX_HEAD_BYTES = 64 << 10
MAX_DROPPED_BYTES = 1 << 30  # an answer that claims more is not read to its end
_HEAD = "POST {path} HTTP/1.1\r\nHost: c\r\nContent-Type: application/json\r\n"
# A runtime that does not know the second header writes its sentinels all the same, and its answer is silent about it.
_PLAIN_HEADS = {path: _HEAD.format(path=path).encode() for path in ("/init", "/run")}
_HEADS = {**_PLAIN_HEADS, "/run": _PLAIN_HEADS["/run"] + b"X-Fallow-Sentinels: none\r\n"}


class ContainerConnection(asyncio.Protocol):
    """The client's side. `lost` is True once the container closed or broke the connection, or said that it will.

    `logs_with_answer` = whoever has an answer can read the whole log by then, so that no sentinels are needed.
    """

    def __init__(self, *, logs_with_answer: bool = True) -> None:
        self._heads = _HEADS if logs_with_answer else _PLAIN_HEADS
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Reply] | None = None
        self._buffer = b""
        self._chunks: list[bytes] = []
        self._kept_bytes = 0
        self._status = 0
        self._total_bytes = -1  # -1 = the head of the answer has not come yet
        self._read_bytes = 0
        self._logs_complete = False
        self._last = False  # the server closes after this answer
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def connection_lost(self, exc: Exception | None) -> None:
        self._break()

    def eof_received(self) -> bool:
        self._break()
        return False

    async def post(self, path: str, body: bytes, timeout_s: float) -> Reply:
        """Send a request and wait for its answer. Raises TimeoutError when none is complete after `timeout_s`.

        The connection cannot be used again after that, nor if the wait is cancelled.
        """
        if self.lost or self._transport is None or self._waiter is not None:
            return Broken(sent=False)
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(timeout_s, self._time_out)  # asyncio.timeout costs five times as much
        self._transport.write(b"%bContent-Length: %d\r\n\r\n%b" % (self._heads[path], len(body), body))
        try:
            return await self._waiter
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            timer.cancel()
            self._waiter = None

    @property
    def answering(self) -> bool:
        """A part of an answer has come."""
        return self._total_bytes >= 0 or bool(self._buffer)

    def _time_out(self) -> None:
        self.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(TimeoutError())

    def close(self) -> None:
        """Drop the connection at once."""
        self.lost = True
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._waiter is None or self._waiter.done():
            self.close()  # bytes that nobody asked for: the stream is out of step
            return
        if self._total_bytes >= 0:
            self._take(data)
            return
        self._buffer = self._buffer + data if self._buffer else data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                self._break()
            return
        head, data, self._buffer = self._buffer[:end], self._buffer[end + 4 :], b""
        if not self._parse_head(head):
            self._break()
            return
        self._take(data)

    def _parse_head(self, head: bytes) -> bool:
        first, *fields = head.split(b"\r\n")
        length = -1
        self._logs_complete = False
        self._last = first.startswith(b"HTTP/1.0")
        for line in fields:
            name, _, value = line.lower().partition(b":")
            if name == b"content-length" and value.strip().isdigit():
                length = int(value)
            elif name == b"x-fallow-logs":
                self._logs_complete = value.strip() == b"complete"
            elif name == b"connection":
                self._last = value.strip() == b"close" or (self._last and value.strip() != b"keep-alive")
        parts = first.split(b" ", 2)
        if length < 0 or length > MAX_DROPPED_BYTES or len(parts) < 2 or not parts[1].isdigit():
            return False
        self._status, self._total_bytes = int(parts[1]), length
        self._chunks, self._kept_bytes, self._read_bytes = [], 0, 0
        return True

    def _take(self, data: bytes) -> None:
        self._read_bytes += len(data)
        room = MAX_RESULT_BYTES + 1 - self._kept_bytes
        if room > 0 and data:
            self._chunks.append(data[:room])
            self._kept_bytes += len(self._chunks[-1])
        if self._read_bytes < self._total_bytes:
            return
        if self._read_bytes > self._total_bytes:
            self._break()
            return
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        answer = Answer(
            status=self._status, body=body, total_bytes=self._total_bytes, logs_complete=self._logs_complete
        )
        self._total_bytes = -1
        if self._last:
            self.close()
        self._settle(answer)

    def _break(self) -> None:
        self.close()
        self._settle(Broken(sent=True))

    def _settle(self, reply: Reply) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(reply)
