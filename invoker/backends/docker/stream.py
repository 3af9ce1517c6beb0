"""A container's output as the engine sends it over an attached connection."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from invoker.logs import LogCollector

HEAD_BYTES = 8  # stream, three zeros, length (big endian)
READ_BYTES = 1 << 16
DRAIN_READS = 16  # who writes without end is not read without end
LAST_ERROR_BYTES = 8192  # V8's last words, a stack trace included, are some 3000
_STDERR = 2


class FrameParser:
    """Cuts what was read into (stream, data): 0 = stdout, 1 = stderr. Frames need not come whole."""

    def __init__(self) -> None:
        self._head = b""
        self._stream = 0
        self._left_bytes = 0  # of the frame whose head has been read

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """What `data` holds, in order. O(len(data))."""
        found = []
        at = 0
        while at < len(data):
            if self._left_bytes:
                piece = data[at : at + self._left_bytes]
                found.append((self._stream, piece))
                self._left_bytes -= len(piece)
                at += len(piece)
                continue
            part = data[at : at + HEAD_BYTES - len(self._head)]
            self._head += part
            at += len(part)
            if len(self._head) == HEAD_BYTES:
                self._stream = 1 if self._head[0] == _STDERR else 0
                self._left_bytes = int.from_bytes(self._head[4:], "big")
                self._head = b""
        return found


class LogStream:
    """Feeds `logs` from an attached connection, whose descriptor it owns. What comes is read at once, wanted or not: a
    reader that waits would hold the container back. `on_end` is called when the engine closes it."""

    def __init__(self, fd: int, logs: LogCollector, on_end: Callable[[], None]) -> None:
        self._fd = fd
        self._logs = logs
        self._on_end = on_end
        self._frames = FrameParser()
        self.last_error_bytes = b""
        asyncio.get_running_loop().add_reader(fd, self._read)

    def drain(self) -> None:
        """Take what has come, without waiting."""
        for _ in range(DRAIN_READS):
            if self._fd < 0 or self._read() < READ_BYTES:
                return

    def close(self) -> None:
        if self._fd < 0:
            return
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1
        for stream in (0, 1):
            self._logs.end(stream)

    def _read(self) -> int:
        """Bytes read; fewer than READ_BYTES = there were no more."""
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if not data:
            self.close()
            self._on_end()
            return 0
        for stream, piece in self._frames.feed(data):
            if stream == 1:
                self.last_error_bytes = (self.last_error_bytes + piece)[-LAST_ERROR_BYTES:]
            self._logs.feed(stream, piece)
        return len(data)
