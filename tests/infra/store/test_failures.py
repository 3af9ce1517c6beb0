"""What the store does when Redis is away, slow, full, restarted, too old, or not its own."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fallow.infra.records import ActionDoc, Record, StreamEntry
from fallow.infra.store import (
    Accepted,
    SchemaMismatch,
    Store,
    StoreError,
    StoreFull,
    StoreUnavailable,
    WriteVerdict,
    keys,
)

MakeEntry = Callable[..., StreamEntry]
MakeRecord = Callable[..., Record]
MakeDoc = Callable[..., ActionDoc]


async def test_killed_server_loses_no_accepted_entry(
    server: Any, store: Store, entry: MakeEntry, record: MakeRecord
) -> None:
    """Accepts run while the server is killed: each that was answered is there after the restart, none is doubled."""
    calls = [entry() for _ in range(300)]
    done = asyncio.Event()
    accepted: set[str] = set()
    recorded: set[str] = set()

    async def work(part: list[StreamEntry]) -> None:
        for i, call in enumerate(part):
            try:
                assert isinstance(await store.accept(call), Accepted)
                accepted.add(call.activation_id)
                if i % 3 == 0:
                    assert await store.write_records([record(call.activation_id)]) == [WriteVerdict.WRITTEN]
                    recorded.add(call.activation_id)
            except StoreUnavailable:
                return
            if len(accepted) >= 100:
                done.set()

    async def crash() -> None:
        await done.wait()
        await server.kill()

    await asyncio.gather(crash(), *(work(calls[i::6]) for i in range(6)))
    assert 100 <= len(accepted) < 300
    await server.start()
    held = {found.activation_id for found in await store.read_entries("c1", count=1_000, block_ms=0)}
    unsure = {call.activation_id for call in calls} - recorded
    assert accepted - recorded <= held | {
        activation_id for activation_id in accepted if await store.get_record("guest", activation_id)
    }
    assert held <= unsure
    for call in calls:  # the client's repeat after the outage
        if call.activation_id not in recorded and not await store.get_record("guest", call.activation_id):
            assert isinstance(await store.accept(call), Accepted)
    usage = await store.usage()
    assert usage.entries + usage.records == 300


async def test_scripts_are_loaded_again_after_a_restart(server: Any, store: Store, record: MakeRecord) -> None:
    first = record()
    assert await store.write_records([first]) == [WriteVerdict.WRITTEN]
    await server.kill()
    await server.start()
    assert await store.write_records([first, record()]) == [WriteVerdict.EXISTS, WriteVerdict.WRITTEN]


async def test_pending_entries_survive_a_restart(server: Any, store: Store, entry: MakeEntry) -> None:
    call = entry()
    await store.accept(call)
    (read,) = await store.read_entries("c1", count=1, block_ms=0)
    await server.kill()
    await server.start()
    assert await store.own_pending("c1", count=10) == [read]


async def every_call(store: Store, entry: StreamEntry, record: Record, doc: ActionDoc) -> list[BaseException | Any]:
    return await asyncio.gather(
        store.ping(),
        store.authenticate("u", "s"),
        store.put_action(doc, b"code", expect=None),
        store.get_action("guest", "hello"),
        store.list_actions("guest"),
        store.get_code("0"),
        store.write_records([record]),
        store.write_records([record, record]),
        store.get_record("guest", "0"),
        store.list_records("guest"),
        store.accept(entry),
        store.read_entries("c1", count=1, block_ms=10),
        store.own_pending("c1", count=1),
        store.claim_entries("c1", "c2", count=1),
        store.stream_owners(),
        store.raise_fence("a", expect=0, attempt=1, controller_id="c1"),
        store.live_controllers(),
        store.hold("r", "c1", 1.0),
        store.trim(max_age_s=1, max_count=1, max_bytes=1, now_unix_ms=1),
        store.usage(),
        anext(store.changes()),
        return_exceptions=True,
    )


async def test_server_away_is_unavailable(
    server: Any, store: Store, entry: MakeEntry, record: MakeRecord, doc: MakeDoc
) -> None:
    await server.kill()
    answers = await every_call(store, entry(), record(), doc())
    assert {type(answer) for answer in answers} == {StoreUnavailable}
    with pytest.raises(StoreUnavailable):
        await Store.open(server.url)


async def test_silent_server_is_unavailable_by_the_deadline(
    server: Any, entry: MakeEntry, record: MakeRecord, doc: MakeDoc
) -> None:
    store = await Store.open(server.url, timeout_s=0.2)
    server.signal(signal.SIGSTOP)
    try:
        async with asyncio.timeout(20):
            answers = await every_call(store, entry(), record(), doc())
            with pytest.raises(StoreUnavailable):
                await Store.open(server.url, timeout_s=0.2)
    finally:
        server.signal(signal.SIGCONT)
    assert {type(answer) for answer in answers} == {StoreUnavailable}
    await store.close()


async def test_store_serves_again_when_the_server_does(server: Any, store: Store, record: MakeRecord) -> None:
    await server.kill()
    with pytest.raises(StoreUnavailable):
        await store.ping()
    await server.start()
    await store.ping()
    assert await store.write_records([record()]) == [WriteVerdict.WRITTEN]


async def test_full_server_refuses_and_still_trims(
    store: Store, entry: MakeEntry, record: MakeRecord, doc: MakeDoc
) -> None:
    old = [record() for _ in range(10)]
    await store.write_records(old)
    await store._connection.call("CONFIG", "SET", "maxmemory", 1)
    call, one = entry(), record()
    refusals = await asyncio.gather(
        store.accept(call),
        store.write_records([one]),
        store.write_records([one, record()]),
        store.put_action(doc(), b"code", expect=None),
        store.raise_fence("a", expect=0, attempt=1, controller_id="c1"),
        store.hold("r", "c1", 1.0),
        store.put_key("guest", "u:" + "s" * 64),
        return_exceptions=True,
    )
    assert {type(refusal) for refusal in refusals} == {StoreFull}
    assert all("maxmemory" in str(refusal) for refusal in refusals)
    assert await store.get_record("guest", old[0].activation_id) == old[0]
    assert await store.trim(max_age_s=1e9, max_count=2, max_bytes=1 << 40, now_unix_ms=2_000) == 8
    usage = await store.usage()
    assert (usage.records, usage.entries, usage.entry_bytes) == (2, 0, 0)
    await store._connection.call("CONFIG", "SET", "maxmemory", 0)
    assert await store.write_records([one]) == [WriteVerdict.WRITTEN]


async def test_unknown_schema_is_refused(server: Any, store: Store) -> None:
    await store._connection.call("SET", keys.schema(), "2")
    with pytest.raises(SchemaMismatch, match="schema version '2'"):
        await Store.open(server.url)
    await store._connection.call("SET", keys.schema(), keys.SCHEMA_VERSION)
    again = await Store.open(server.url)
    await again.close()


async def test_every_key_is_under_the_schema_prefix(
    store: Store, entry: MakeEntry, record: MakeRecord, doc: MakeDoc
) -> None:
    answers = await every_call(store, entry(), record(), doc())
    assert not [answer for answer in answers if isinstance(answer, BaseException)]
    found = await store._connection.call("KEYS", "*")
    assert len(found) > 5
    assert all(key.startswith(b"fallow:1:") or key == b"fallow:schema" for key in found)


@pytest.mark.parametrize("url", ["", "http://127.0.0.1/", "redis://127.0.0.1:port/0"])
async def test_bad_url_is_named(url: str) -> None:
    with pytest.raises(StoreError, match="not a Redis URL"):
        await Store.open(url)


async def test_no_server_is_unavailable(folder: Path) -> None:
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await Store.open(f"unix://{folder}/none")


async def test_old_server_is_refused(folder: Path) -> None:
    """A server that says it is Redis 6.0."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if not line.startswith(b"*"):
                continue
            words = []
            for _ in range(int(line[1:])):
                size = int((await reader.readline())[1:])
                words.append(await reader.readexactly(size + 2))
            text = b"# Server\r\nredis_version:6.0.16\r\n"
            writer.write(b"$%d\r\n%s\r\n" % (len(text), text) if words[0] == b"INFO\r\n" else b"+OK\r\n")
        writer.close()

    async with await asyncio.start_unix_server(serve, str(folder / "s")):
        with pytest.raises(StoreError, match=r"is 6\.0; 6\.2 or newer"):
            await Store.open(f"unix://{folder}/s")
