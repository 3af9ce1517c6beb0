"""The one place that speaks to Redis: deadlines, scripts, and the translation of Redis' errors into the store's.

Replies are taken raw (bytes, ints, lists; RESP2), so that nothing depends on how a version of the client library
dresses them up. A call on a broken connection is repeated once; what cannot recognise its own earlier success (a read
that moves stream entries to their reader) is not, so that the caller learns that an answer was lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    MasterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from fallow.infra.store.errors import StoreError, StoreFull, StoreUnavailable
from fallow.infra.store.scripts import Script

Argument = str | bytes | int | float

_CONNECTIONS = 16  # for calls at once; each is pipelined or short, so more would only queue inside Redis
_ONCE_CONNECTIONS = 16  # the stream reader and the follower of changes hold one each, claims take one for a moment
# Refusals of a server that is up but not fit to serve now. The client has classes for some codes and takes those off
# the text; raised inside a script of Redis 6 they stand in the middle of it.
_UNFIT = (ReadOnlyError, MasterDownError, TryAgainError)
_UNFIT_CODES = ("LOADING", "MASTERDOWN", "MISCONF", "READONLY", "NOREPLICAS", "TRYAGAIN", "BUSY ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One run of a script, for a pipeline."""

    script: Script
    keys: Sequence[str]
    args: Sequence[Argument]


class Connection:
    """Two pools to one server: one for calls that may be repeated, one for what may wait or must not be repeated."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        """Connects at the first call. Raises StoreError for a URL that Redis' client cannot read."""
        self.url = url
        self.timeout_s = timeout_s
        try:
            self._calls = BlockingConnectionPool.from_url(
                url,
                max_connections=_CONNECTIONS,
                timeout=timeout_s,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                protocol=2,
                retry=Retry(NoBackoff(), 1),
            )
            self._onces = ConnectionPool.from_url(
                url,
                max_connections=_ONCE_CONNECTIONS,
                socket_timeout=None,
                socket_connect_timeout=timeout_s,
                protocol=2,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as e:
            raise StoreError(f"not a Redis URL: {url!r} ({e}); use redis://HOST:PORT/DB or unix:///PATH") from None
        # Any: the client's command methods carry no types.
        self._client: Any = _raw(Redis(connection_pool=self._calls))
        self._once: Any = _raw(Redis(connection_pool=self._onces))

    async def close(self) -> None:
        """Breaks every connection, also those in use."""
        await self._calls.disconnect(inuse_connections=True)
        await self._onces.disconnect(inuse_connections=True)

    async def call(self, command: str, *args: Argument) -> Any:
        """One command's raw reply. Raises StoreError."""
        async with self.guard(self.timeout_s):
            return await self._client.execute_command(command, *args)

    async def wait(self, wait_s: float, command: str, *args: Argument) -> Any:
        """A command that Redis answers within `wait_s` and that is never repeated. Raises StoreError."""
        async with self.guard(wait_s + self.timeout_s):
            return await self._once.execute_command(command, *args)

    async def pipeline(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """The raw replies of several commands in one round trip, not atomic.

        Raises StoreError, then any part may have taken effect.
        """
        async with self.guard(self.timeout_s):
            return await _pipeline(self._client, commands, raise_on_error=True)

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """One script's reply. Raises StoreError."""
        (reply,) = await self.run_all([Call(script=script, keys=keys, args=args)])
        return reply

    async def run_once(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """One script's reply; never repeated. Raises StoreError."""
        (reply,) = await self._run_all(self._once, [Call(script=script, keys=keys, args=args)])
        return reply

    async def run_all(self, calls: Sequence[Call]) -> list[Any]:
        """Several scripts in one round trip; each is atomic, the whole is not.

        Raises StoreError, then any may have taken effect.
        """
        return await self._run_all(self._client, calls)

    async def _run_all(self, client: Any, calls: Sequence[Call]) -> list[Any]:
        commands = [("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args) for call in calls]
        async with self.guard(self.timeout_s):
            replies = await _evaluate(client, commands)
            unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown:  # a server that was restarted or flushed forgets its scripts
                for script in {calls[i].script.sha: calls[i].script for i in unknown}.values():
                    await client.execute_command("SCRIPT LOAD", script.source)
                again = await _evaluate(client, [commands[i] for i in unknown])
                for i, reply in zip(unknown, again, strict=True):
                    replies[i] = reply
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
            return replies

    @asynccontextmanager
    async def messages(self, channel: str) -> AsyncIterator[_Messages]:
        """A subscription to a channel: enter it once per life of the connection. Raises StoreError."""
        pubsub = self._once.pubsub()
        try:
            async with self.guard(self.timeout_s):
                await pubsub.subscribe(channel)
            yield _Messages(self, pubsub)
        finally:
            async with self.guard(self.timeout_s):
                await pubsub.aclose()

    @asynccontextmanager
    async def guard(self, deadline_s: float) -> AsyncIterator[None]:
        """Bounds what it encloses and translates Redis' errors. A cancellation that meets it is never lost."""
        task = asyncio.current_task()
        asked_before = task.cancelling() if task is not None else 0
        try:
            async with asyncio.timeout(deadline_s):
                yield
        except (RedisError, OSError) as e:  # OSError includes the deadline's TimeoutError
            _cancelled_since(task, asked_before)
            raise translate(e, self.url) from e
        _cancelled_since(task, asked_before)


class _Messages:
    """The messages of one subscription."""

    def __init__(self, connection: Connection, pubsub: Any) -> None:
        self._connection = connection
        self._pubsub = pubsub

    async def next(self, wait_s: float) -> tuple[str, bytes] | None:
        """(type, data) of the next message, None when none came in `wait_s`. Types: "subscribe", "message", "pong"."""
        async with self._connection.guard(wait_s + self._connection.timeout_s):
            message = await self._pubsub.get_message(timeout=wait_s)
        if message is None:
            return None
        data = message["data"]
        return message["type"], data if isinstance(data, bytes) else b""

    async def ping(self) -> None:
        """Asks for a "pong" message, to see whether the server is there."""
        async with self._connection.guard(self._connection.timeout_s):
            await self._pubsub.ping()


def _cancelled_since(task: asyncio.Task[Any] | None, asked_before: int) -> None:
    """redis-py may swallow a cancellation, or turn it into an error of its own: it is raised again here."""
    if task is not None and task.cancelling() > asked_before:
        raise asyncio.CancelledError


def translate(error: RedisError | OSError, url: str) -> StoreError:
    """The store's word for what Redis' client raised."""
    text = str(error) or type(error).__name__
    if isinstance(error, AuthenticationError):
        return StoreError(f"Redis at {url} refuses the credentials of its URL: {text}")
    if isinstance(error, RedisConnectionError | RedisTimeoutError | OSError):
        return StoreUnavailable(f"Redis at {url} does not answer: {text}")
    if isinstance(error, OutOfMemoryError) or "OOM command not allowed" in text:
        return StoreFull(f"Redis at {url} is at its memory limit: raise maxmemory, or keep fewer records")
    if isinstance(error, _UNFIT) or (isinstance(error, ResponseError) and any(code in text for code in _UNFIT_CODES)):
        return StoreUnavailable(f"Redis at {url} cannot serve now: {text}")
    return StoreError(f"Redis at {url} refuses: {text}")


async def _evaluate(client: Any, commands: Sequence[Sequence[Argument]]) -> list[Any]:
    if len(commands) > 1:
        return await _pipeline(client, commands, raise_on_error=False)
    try:
        return [await client.execute_command(*commands[0])]
    except NoScriptError as e:
        return [e]


async def _pipeline(client: Any, commands: Sequence[Sequence[Argument]], *, raise_on_error: bool) -> list[Any]:
    async with client.pipeline(transaction=False) as pipe:
        for command in commands:
            pipe.execute_command(*command)
        return list(await pipe.execute(raise_on_error=raise_on_error))


def _raw(client: Redis) -> Redis:
    client.response_callbacks.clear()
    return client
