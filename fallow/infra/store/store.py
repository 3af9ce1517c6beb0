"""The store as the processes see it. Its operations stand in one file a subject; this one opens and closes it."""

from __future__ import annotations

import re
from typing import Self

from fallow.infra.store import keys, scripts
from fallow.infra.store.actions import ActionStore
from fallow.infra.store.alarms import AlarmStore
from fallow.infra.store.connection import Connection
from fallow.infra.store.entities import EntityStore
from fallow.infra.store.errors import SchemaMismatch, StoreError
from fallow.infra.store.identities import IdentityStore
from fallow.infra.store.leases import LeaseStore
from fallow.infra.store.stream import StreamStore

MIN_REDIS = (6, 2)  # XGROUP CREATECONSUMER, exclusive stream ranges, consistent XPENDING


class Store(IdentityStore, EntityStore, ActionStore, StreamStore, LeaseStore, AlarmStore):
    """Everything that outlives a process. Safe for use by many tasks of one event loop.

    Every call is bounded by the deadline given to `open`, raises StoreUnavailable when Redis is away or too slow,
    StoreFull when it has no memory left, and may be repeated after either.
    """

    def __init__(self, connection: Connection) -> None:
        """Takes over an open connection; use `open`."""
        self._connection = connection

    @classmethod
    async def open(cls, url: str, *, timeout_s: float = 5.0) -> Self:
        """Connects and checks the server and the database. `timeout_s` is the deadline of every later call.

        Raises StoreError for a server older than 6.2, SchemaMismatch for a database of another version of Fallow.
        """
        connection = Connection(url, timeout_s=timeout_s)
        try:
            await _check_version(connection)
            await _check_schema(connection)
            await _make_group(connection)
            await connection.pipeline([("SCRIPT LOAD", script.source) for script in scripts.ALL])
        except BaseException:
            await connection.close()
            raise
        return cls(connection)

    async def close(self) -> None:
        """Breaks every connection; calls under way fail."""
        await self._connection.close()

    async def ping(self) -> None:
        """Raises StoreUnavailable unless Redis answers."""
        await self._connection.call("PING")


async def _check_version(connection: Connection) -> None:
    info = (await connection.call("INFO", "server")).decode(errors="replace")
    found = re.search(r"^redis_version:(\d+)\.(\d+)", info, re.MULTILINE)
    if found is None:
        raise StoreError(f"the server at {connection.url} does not say its Redis version")
    version = (int(found[1]), int(found[2]))
    if version < MIN_REDIS:
        raise StoreError(f"Redis at {connection.url} is {version[0]}.{version[1]}; 6.2 or newer is needed")


async def _check_schema(connection: Connection) -> None:
    await connection.call("SET", keys.schema(), keys.SCHEMA_VERSION, "NX")
    found = (await connection.call("GET", keys.schema())).decode(errors="replace")
    if found != keys.SCHEMA_VERSION:
        raise SchemaMismatch(
            f"the database at {connection.url} has schema version {found!r}, this Fallow knows "
            f"{keys.SCHEMA_VERSION!r}: use the version of Fallow that wrote it, or another database or state folder"
        )


async def _make_group(connection: Connection) -> None:
    try:
        # From 0: entries accepted before the group was there are its to deliver.
        await connection.call("XGROUP", "CREATE", keys.stream(), keys.GROUP, "0", "MKSTREAM")
    except StoreError as e:
        if "BUSYGROUP" not in str(e):
            raise
