"""One question to a Redis server, before a store is opened on it: who are you? It speaks RESP by hand."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import SplitResult, unquote, urlsplit

_DEFAULT_PORT = 6379
_MAX_REPLY_BYTES = 1 << 20


class ProbeError(Exception):
    """No answer to the question. `loading`: the server is alive and reading its data back."""

    def __init__(self, message: str, *, loading: bool = False) -> None:
        super().__init__(message)
        self.loading = loading


async def server_info(url: str, *, timeout_s: float) -> dict[str, str]:
    """The fields of `INFO server`. url: redis://, rediss:// or unix://, with user and password where needed.

    Raises ProbeError with a text that names the server, never the password.
    """
    parts = urlsplit(url)
    place = parts.path if parts.scheme == "unix" else parts.netloc.rpartition("@")[2]
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await _connect(parts)
            try:
                return _fields(await _ask(reader, writer, parts))
            finally:
                writer.close()
    except TimeoutError:
        raise ProbeError(f"{place} does not answer within {timeout_s:g} s") from None
    except ProbeError as e:
        raise ProbeError(f"{place}: {e}", loading=e.loading) from None
    except (OSError, ValueError, EOFError) as e:
        raise ProbeError(f"{place}: {getattr(e, 'strerror', None) or e}") from None


async def _connect(parts: SplitResult) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if parts.scheme == "unix":
        return await asyncio.open_unix_connection(unquote(parts.path))
    if parts.scheme not in ("redis", "rediss"):
        raise ProbeError(f"{parts.scheme or 'no scheme'} in the URL; it must start with redis://, rediss:// or unix://")
    tls = ssl.create_default_context() if parts.scheme == "rediss" else None
    return await asyncio.open_connection(parts.hostname or "127.0.0.1", parts.port or _DEFAULT_PORT, ssl=tls)


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, parts: SplitResult) -> bytes:
    if parts.password is not None:
        user = [unquote(parts.username)] if parts.username else []
        await _command(reader, writer, "AUTH", *user, unquote(parts.password))
    await _command(reader, writer, "PING")  # INFO answers during loading too, PING says so
    return await _command(reader, writer, "INFO", "server")


async def _command(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *words: str) -> bytes:
    encoded = [word.encode() for word in words]
    writer.write(b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in encoded))
    await writer.drain()
    line = (await reader.readline()).rstrip(b"\r\n")
    kind, rest = line[:1], line[1:]
    if kind == b"+":
        return rest
    if kind == b"$" and rest.isdigit() and int(rest) <= _MAX_REPLY_BYTES:
        return (await reader.readexactly(int(rest) + 2))[:-2]
    text = rest.decode(errors="replace")[:200]
    if kind == b"-":
        raise ProbeError(text, loading=text.startswith("LOADING"))
    raise ProbeError("it does not speak Redis' protocol" if line else "it closed the connection")


def _fields(reply: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in reply.decode(errors="replace").splitlines())
    return {key: value for key, colon, value in pairs if colon}
