"""The requests of one container over TCP, one at a time.

A connection is made when it is needed and stays open. One that rested is made anew: a server may close it just as a
request is on its way, and nothing would tell whether that was read.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from fallow.infra import clock
from invoker.backends.base import Answer, Broken, Reply
from invoker.container_http import ContainerConnection

FIRST_RETRY_S = 0.005
LONGEST_RETRY_S = 0.1
ATTEMPT_S = 1.0  # while it starts: an address that is not there, or not there any more, may not answer at all
CONNECT_S = 5.0  # once it serves; a listening server's kernel answers for it, even frozen
FRESH_S = 2.0  # Node.js closes a connection after 5 s of rest

Pause = Callable[[float], Awaitable[bool]]  # waits so many seconds; True = there is no use in going on


class TcpConnection(ContainerConnection):
    """Without delays: neither ours nor those of a server that writes head and body apart and without TCP_NODELAY. Its
    kernel sends the body when ours acknowledges the head, which ours puts off for 40 ms unless told not to."""

    def __init__(self) -> None:
        super().__init__(logs_with_answer=False)
        self._socket: socket.socket | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._socket = transport.get_extra_info("socket")
        if self._socket is not None:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.answering and not self.lost and self._socket is not None:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


class Channel:
    """`pause` is how it waits between two attempts: it says when the container has ended."""

    def __init__(self, pause: Pause) -> None:
        self._pause = pause
        self._address = ""
        self._port = 0
        self._connection: TcpConnection | None = None
        self._used_mono_s = 0.0

    async def open(self, address: str, port: int, timeout_s: float) -> bool:
        """Connect as soon as the server listens. False = the container ended first. Raises TimeoutError."""
        self._address, self._port = address, port
        async with asyncio.timeout(timeout_s):
            return await self._connect_patiently()

    async def post(self, path: str, body: bytes, timeout_s: float, *, patient: bool) -> Reply:
        """Send a request and wait for its answer. `patient` = while nobody listens, try again until `timeout_s` is
        over. Raises TimeoutError."""
        connection = self._connection
        if connection is None or connection.lost or clock.mono_s() - self._used_mono_s > FRESH_S:
            began_s = clock.mono_s()
            if not await self._reconnect(timeout_s, patient=patient):
                return Broken(sent=False)
            timeout_s = max(0.001, timeout_s - (clock.mono_s() - began_s))
            connection = self._connection
            assert connection is not None
        reply = await connection.post(path, body, timeout_s)
        if isinstance(reply, Answer):
            self._used_mono_s = clock.mono_s()
        return reply

    async def _reconnect(self, timeout_s: float, *, patient: bool) -> bool:
        self.close()
        if patient:
            async with asyncio.timeout(timeout_s):
                return await self._connect_patiently()
        return await self._connect(min(timeout_s, CONNECT_S))

    async def _connect_patiently(self) -> bool:
        retry_s = FIRST_RETRY_S
        while not await self._connect(ATTEMPT_S):
            if await self._pause(retry_s):
                return False
            retry_s = min(retry_s * 1.5, LONGEST_RETRY_S)
        return True

    async def _connect(self, timeout_s: float) -> bool:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                _, made = await loop.create_connection(TcpConnection, self._address, self._port)
        except OSError:
            return False
        self._connection = made
        self._used_mono_s = clock.mono_s()
        return True

    def close(self) -> None:
        """Drop the connection; the next request makes another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
