"""A connection that breaks after Redis did what it was asked and before it said so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from fallow.infra.records import ActionDoc, Record, StreamEntry
from fallow.infra.store import Accepted, FenceVerdict, Store, StoreUnavailable, WriteVerdict


class Proxy:
    """Passes bytes on to the server; once armed, swallows the next reply and breaks that connection."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._armed = False
        self.swallowed = 0

    def arm(self) -> None:
        self._armed = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_unix_connection(str(self._target))
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pass_on(reader, upstream_writer))
                tasks.create_task(self._replies(upstream_reader, writer))
        finally:
            upstream_writer.close()
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def _replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if self._armed:
                self._armed = False
                self.swallowed += 1
                writer.close()
                return
            writer.write(data)


@pytest_asyncio.fixture
async def proxy(server: Any, folder: Path) -> AsyncIterator[Proxy]:
    proxy = Proxy(server.socket)
    async with await asyncio.start_unix_server(proxy.serve, str(folder / "p")):
        yield proxy


@pytest_asyncio.fixture
async def store(proxy: Proxy, folder: Path) -> AsyncIterator[Store]:
    """The store under test, behind the proxy, with every connection it will use open."""
    store = await Store.open(f"unix://{folder}/p")
    await store.claim_entries("nobody", "c1", count=1)
    yield store
    await store.close()


async def test_repeated_accept_enters_once(store: Store, proxy: Proxy, entry: Callable[..., StreamEntry]) -> None:
    proxy.arm()
    assert isinstance(await store.accept(entry()), Accepted)
    assert proxy.swallowed == 1
    assert (await store.usage()).entries == 1


async def test_repeated_record_is_one_record(store: Store, proxy: Proxy, record: Callable[..., Record]) -> None:
    proxy.arm()
    assert await store.write_records([record()]) == [WriteVerdict.EXISTS]
    assert proxy.swallowed == 1
    assert (await store.usage()).records == 1


async def test_repeated_put_is_no_conflict(store: Store, proxy: Proxy, doc: Callable[..., ActionDoc]) -> None:
    proxy.arm()
    put = await store.put_action(doc(), b"1", expect=None)
    assert proxy.swallowed == 1
    proxy.arm()
    put = await store.put_action(doc(), b"2", expect=put.revision)
    assert proxy.swallowed == 2
    assert await store.get_action("guest", "hello") == put


async def test_repeated_fence_is_raised(store: Store, proxy: Proxy) -> None:
    proxy.arm()
    assert await store.raise_fence("a", expect=0, attempt=1, controller_id="c1") is FenceVerdict.RAISED
    assert proxy.swallowed == 1


async def test_claims_whose_answer_was_lost_are_found(
    store: Store, proxy: Proxy, entry: Callable[..., StreamEntry]
) -> None:
    await store.accept(entry())
    (read,) = await store.read_entries("dead", count=1, block_ms=0)
    proxy.arm()
    with pytest.raises(StoreUnavailable):
        await store.claim_entries("dead", "c1", count=1)
    assert proxy.swallowed == 1
    assert await store.own_pending("c1", count=10) == [read]


async def test_entries_whose_delivery_was_lost_are_found(
    store: Store, proxy: Proxy, entry: Callable[..., StreamEntry]
) -> None:
    await store.accept(entry())
    proxy.arm()
    with pytest.raises(StoreUnavailable):
        await store.read_entries("c1", count=1, block_ms=0)
    assert proxy.swallowed == 1
    assert len(await store.own_pending("c1", count=10)) == 1
