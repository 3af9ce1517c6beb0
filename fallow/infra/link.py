"""The link between a controller and an invoker: one WebSocket, messages in frames, nothing that blocks.

`send` only appends; a writer task per link packs what one turn of the loop appended into one frame. Both ends ping each
other every second: an end that heard nothing for three to four seconds of its own running time gives the link up, so a
vanished machine is noticed within five. Counting turns, not time, forgives an end that was itself stopped or starved.

A link must be iterated: its reader is the iteration. Handle a batch without long awaits, or the peer is kept waiting.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

import aiohttp
from aiohttp import WSMsgType, web

from fallow.infra import codec
from fallow.infra.codec import CodecError
from fallow.infra.log import get_logger
from fallow.infra.messages import Message

DEFAULT_QUEUE_BYTES = 32 << 20
_FRAME_BYTES = 4 << 20  # a frame is closed at this size, so that a ping never waits behind much more
_FRAME_MESSAGES = 4096
_TICK_S = 1.0  # ping period
_QUIET_TICKS = 4  # silent ticks until the link is given up: 3 to 4 s, below the 5 s within which a loss is noticed
_CLOSE_S = 1.0  # deadline of each step of an orderly close
_MESSAGE_OVERHEAD_BYTES = 64  # what a queued message costs beside its own bytes

_WebSocket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse
_log = get_logger("fallow.link")


class LinkError(Exception):
    """The link could not be made. The text says which URL and why."""


class Link:
    """One end of a link. Made by `dial` or by LinkServer, inside a running loop; ends with `close`."""

    def __init__(self, ws: _WebSocket, peer: str, *, queue_bytes: int = DEFAULT_QUEUE_BYTES) -> None:
        self.peer = peer
        self.close_reason = ""  # in words; "" while open
        self._ws = ws
        self._socket = _duplicate(ws)
        self._loop = asyncio.get_running_loop()
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._max_queued_bytes = queue_bytes
        self._ping_due = False
        self._pong_due: bytes | None = None
        self._wake: asyncio.Future[None] | None = None
        self._heard = True
        self._quiet_ticks = 0
        self._ended = False
        self._read_all = False
        self._timer = self._loop.call_later(_TICK_S, self._tick)
        self._writer = self._loop.create_task(self._write(), name=f"link to {peer}")
        self._writer.add_done_callback(self._on_writer_done)

    @property
    def closed(self) -> bool:
        """No message goes out any more; some that came in may still be read."""
        return self._ended or self._ws.closed

    @property
    def queued_bytes(self) -> int:
        """What `send` accepted and the socket has not taken."""
        return self._queued_bytes

    def send(self, message: Message) -> bool:
        """Queues a message; never blocks. False = closed, or the queue is at its bound: the message is not sent.

        True promises order, not arrival. Raises CodecError if the message has no wire form.
        """
        if self.closed:
            return False
        data = codec.encode_one(message)
        cost = len(data) + _MESSAGE_OVERHEAD_BYTES
        if self._queued_bytes + cost > self._max_queued_bytes:
            return False
        self._queue.append(data)
        self._queued_bytes += cost
        self._wake_writer()
        return True

    def __aiter__(self) -> Link:
        return self

    async def __anext__(self) -> list[Message]:
        """The messages of the next frame; the iteration ends with the link. A malformed frame ends both."""
        while not self._read_all:
            try:
                frame = await self._ws.receive()
            except (OSError, aiohttp.ClientError) as e:
                self._end_reading(f"connection lost: {e}")
                break
            self._heard = True
            if frame.type is WSMsgType.BINARY:
                messages = self._decode(frame.data)
                if messages:
                    return messages
            elif frame.type is WSMsgType.PING:
                self._pong_due = frame.data
                self._wake_writer()
            elif frame.type is not WSMsgType.PONG:
                self._end_reading(_words(frame.type))
        raise StopAsyncIteration

    def _decode(self, frame: bytes) -> list[Message]:
        try:
            return codec.decode(frame)
        except CodecError as e:
            _log.error("link closed: malformed frame", peer=self.peer, error=str(e))
            self._end_reading(f"malformed frame: {e}")
            return []

    async def close(self) -> None:
        """Sends what is queued (for a second at most), closes, and frees the socket; may be called at any time."""
        if not self._ended:
            self._ended = True  # from here on `send` refuses
            self.close_reason = self.close_reason or "closed here"
            self._wake_writer()
            await asyncio.wait([self._writer], timeout=_CLOSE_S)
        self._timer.cancel()
        self._writer.cancel()
        await asyncio.wait([self._writer])
        with suppress(TimeoutError, OSError, aiohttp.ClientError):
            async with asyncio.timeout(_CLOSE_S):
                await self._ws.close()
        self._sever()

    def _end_reading(self, reason: str) -> None:
        self._read_all = True
        self._end(reason)

    def _end(self, reason: str) -> None:
        """The connection is gone or useless: no orderly close."""
        if not self._ended:
            self._ended = True
            self.close_reason = reason
            self._queue.clear()
            self._queued_bytes = 0
            self._timer.cancel()
            self._wake_writer()
            self._sever()

    def _sever(self) -> None:
        """Shuts the socket down under its transport, so that whoever waits on a dead peer ends now.

        An orderly close would wait for the peer to take what is buffered.
        """
        with suppress(OSError), self._socket:
            self._socket.shutdown(socket.SHUT_RDWR)

    def _tick(self) -> None:
        self._quiet_ticks = 0 if self._heard else self._quiet_ticks + 1
        self._heard = False
        if self._quiet_ticks >= _QUIET_TICKS:
            _log.warning("link lost: peer is silent", peer=self.peer)
            self._end("peer is silent")
            return
        self._ping_due = True
        self._wake_writer()
        self._timer = self._loop.call_later(_TICK_S, self._tick)

    def _wake_writer(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _write(self) -> None:
        try:
            while True:
                if self._pong_due is not None:
                    data, self._pong_due = self._pong_due, None
                    await self._ws.pong(data)
                if self._ping_due:
                    self._ping_due = False
                    await self._ws.ping()
                if self._queue:
                    parts, cost = self._take_frame()
                    await self._ws.send_bytes(codec.join(parts))
                    self._queued_bytes = max(0, self._queued_bytes - cost)
                elif self._ended:
                    return
                elif self._pong_due is None and not self._ping_due:
                    self._wake = self._loop.create_future()
                    await self._wake
        except (OSError, aiohttp.ClientError) as e:
            self._end(f"connection lost: {e}")

    def _on_writer_done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("link closed: its writer died", peer=self.peer, exc_info=error)
            self._end(f"writer died: {error}")

    def _take_frame(self) -> tuple[list[bytes], int]:
        """The messages of the next frame, at least one, and what they count in the queue."""
        parts = [self._queue.popleft()]
        size = len(parts[0])
        while self._queue and len(parts) < _FRAME_MESSAGES and size + len(self._queue[0]) <= _FRAME_BYTES:
            parts.append(self._queue.popleft())
            size += len(parts[-1])
        return parts, size + len(parts) * _MESSAGE_OVERHEAD_BYTES


class LinkServer:
    """Accepts links: mount `handle` at GET /link. Raises ValueError for an empty secret, which anyone would know."""

    def __init__(self, secret: str, on_link: Callable[[Link], Awaitable[None]]) -> None:
        if not secret:
            raise ValueError("join_secret is empty; set it to the cluster's secret")
        self._expected = _authorization(secret).encode()
        self._on_link = on_link
        self._links: set[Link] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serves one link: runs `on_link` for its whole life and closes it afterwards. 401 without the secret."""
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if not hmac.compare_digest(given, self._expected):
            return web.json_response({"error": "wrong or missing join secret"}, status=401)
        ws = web.WebSocketResponse(timeout=_CLOSE_S, autoping=False, compress=False, max_msg_size=codec.MAX_FRAME_BYTES)
        await ws.prepare(request)
        try:
            link = Link(ws, request.remote or "unix socket")
        except LinkError:
            return ws  # the peer left between its request and our answer
        self._links.add(link)
        try:
            await self._on_link(link)
        finally:
            self._links.discard(link)
            await link.close()
        return ws

    async def close(self) -> None:
        """Closes every link; their `on_link` see the end of the iteration."""
        await asyncio.gather(*(link.close() for link in tuple(self._links)))


async def dial(session: aiohttp.ClientSession, url: str, secret: str, *, timeout_s: float) -> Link:
    """Connects to a LinkServer. Raises LinkError when it is not reached in time, refuses, or is something else."""
    try:
        async with asyncio.timeout(timeout_s):
            ws = await session.ws_connect(
                url,
                headers={"Authorization": _authorization(secret)},
                timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_S),
                autoping=False,
                max_msg_size=codec.MAX_FRAME_BYTES,
            )
    except TimeoutError:
        raise LinkError(f"{url}: no answer within {timeout_s:g} s") from None
    except aiohttp.WSServerHandshakeError as e:
        why = "the join secret is refused" if e.status == 401 else f"answers {e.status}"
        raise LinkError(f"{url}: {why}") from None
    except (aiohttp.ClientError, OSError, ValueError) as e:
        raise LinkError(f"{url}: {e}") from None
    return Link(ws, url)


def _authorization(secret: str) -> str:
    return f"Bearer {secret}"


def _words(kind: WSMsgType) -> str:
    if kind in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED):
        return "closed by the peer"
    return "connection lost" if kind is WSMsgType.ERROR else f"unexpected {kind.name} frame"


def _duplicate(ws: _WebSocket) -> socket.socket:
    """A handle of our own on the link's socket, for `_sever`.

    Neither asyncio's nor uvloop's transport lets its socket be shut down, and the number of a descriptor that the
    transport has closed may by then belong to somebody else.
    """
    sock = ws.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        raise LinkError("the connection is gone already")
    return socket.socket(fileno=os.dup(sock.fileno()))
