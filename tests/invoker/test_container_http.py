"""The invoker's HTTP client, against servers that answer as others' runtimes do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from invoker.backends.base import Answer
from invoker.container_http import ContainerConnection

BODY = b"HTTP/1.%d 200 OK\r\nContent-Length: 2\r\n%s\r\n{}"


async def asked(answer: bytes, connection: Callable[[], ContainerConnection]) -> tuple[ContainerConnection, bytes]:
    """The connection after one answer, and what the server was sent."""
    heard = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard = await reader.readuntil(b"\r\n\r\n{}")
        writer.write(answer)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    _, made = await asyncio.get_running_loop().create_connection(connection, "127.0.0.1", port)
    reply = await made.post("/run", b"{}", 10.0)
    assert reply == Answer(status=200, body=b"{}", total_bytes=2)
    lost = made.lost
    made.close()
    server.close()
    await server.wait_closed()
    made.lost = lost
    return made, heard


@pytest.mark.parametrize(
    ("minor", "field", "closes"),
    [
        (1, b"", False),
        (1, b"Connection: keep-alive\r\n", False),
        (1, b"Connection: Close\r\n", True),
        (0, b"", True),
        (0, b"Connection: keep-alive\r\n", False),
    ],
)
async def test_a_server_that_will_close_is_not_asked_again(minor: int, field: bytes, closes: bool) -> None:
    connection, _ = await asked(BODY % (minor, field), ContainerConnection)
    assert connection.lost is closes


@pytest.mark.parametrize("with_answer", [True, False])
async def test_sentinels_are_only_declined_where_the_log_comes_with_the_answer(with_answer: bool) -> None:
    _, heard = await asked(BODY % (1, b""), lambda: ContainerConnection(logs_with_answer=with_answer))
    assert (b"X-Fallow-Sentinels: none" in heard) is with_answer
