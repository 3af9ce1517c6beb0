"""The stream of accepted calls: nothing lost, nothing doubled, bounded."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from fallow.infra.records import Record, StreamEntry
from fallow.infra.store import Accepted, AlreadyRecorded, FenceVerdict, Store, StreamFull, WriteVerdict, keys

MakeEntry = Callable[..., StreamEntry]
MakeRecord = Callable[..., Record]


async def accept(store: Store, entry: StreamEntry) -> str:
    answer = await store.accept(entry)
    assert isinstance(answer, Accepted)
    return answer.entry_id


async def test_entry_comes_back_as_accepted(store: Store, entry: MakeEntry) -> None:
    call = entry(args=b"\x00\xff", traceparent="tp", api_key="u:k")
    entry_id = await accept(store, call)
    assert await store.read_entries("c1", count=10, block_ms=0) == [replace(call, entry_id=entry_id)]
    assert await store.read_entries("c1", count=10, block_ms=0) == []
    assert await store.own_pending("c1", count=10) == [replace(call, entry_id=entry_id)]
    assert await store.own_pending("c1", count=10, after=entry_id) == []
    assert await store.own_pending("c2", count=10) == []


async def test_accepting_again_changes_nothing(store: Store, entry: MakeEntry) -> None:
    call = entry()
    assert len({await accept(store, call) for _ in range(3)}) == 1
    assert (await store.usage()).entries == 1


async def test_each_entry_reaches_one_reader(store: Store, entry: MakeEntry) -> None:
    for _ in range(50):
        await accept(store, entry())
    batches = await asyncio.gather(*(store.read_entries(f"c{i % 3}", count=7, block_ms=0) for i in range(9)))
    counted = Counter(found.activation_id for batch in batches for found in batch)
    assert len(counted) == 50
    assert set(counted.values()) == {1}
    assert sum((await store.stream_owners()).values()) == 50


async def test_blocking_read_wakes_for_an_entry(store: Store, entry: MakeEntry) -> None:
    reading = asyncio.create_task(store.read_entries("c1", count=10, block_ms=30_000))
    call = entry()
    entry_id = await accept(store, call)
    assert await reading == [replace(call, entry_id=entry_id)]


async def test_blocking_read_ends_empty(store: Store) -> None:
    assert await store.read_entries("c1", count=10, block_ms=10) == []


async def test_entries_of_a_cancelled_read_are_found_again(store: Store, entry: MakeEntry) -> None:
    dice = random.Random(3)
    accepted, seen = set(), set()
    for _ in range(40):
        reading = asyncio.create_task(store.read_entries("c1", count=10, block_ms=1_000))
        accepted.add(await accept(store, entry()))
        for _ in range(dice.randrange(40)):
            await asyncio.sleep(0)
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            seen |= {found.entry_id for found in await reading}
    seen |= {found.entry_id for found in await store.read_entries("c1", count=100, block_ms=0)}
    pending = {found.entry_id for found in await store.own_pending("c1", count=1_000)}
    assert pending == accepted
    assert seen <= accepted


async def test_bounds_in_entries_and_bytes(store: Store, entry: MakeEntry, record: MakeRecord) -> None:
    store.configure_limits(stream_entries=2, stream_bytes=1_000_000)
    first, second, third = entry(), entry(), entry()
    await accept(store, first)
    await accept(store, second)
    refused = await store.accept(third)
    assert isinstance(refused, StreamFull)
    assert refused.entries == 2
    assert isinstance(await store.accept(second), Accepted)  # it stands already
    await store.write_records([record(first.activation_id)])
    await accept(store, third)
    store.configure_limits(stream_entries=100, stream_bytes=(await store.usage()).entry_bytes + 1_000)
    assert isinstance(await store.accept(entry(args=b"x" * 1_001)), StreamFull)
    await accept(store, entry())


async def test_counters_return_to_nothing(store: Store, entry: MakeEntry, record: MakeRecord) -> None:
    calls = [entry(args=b"x" * i) for i in range(20)]
    for call in calls:
        await accept(store, call)
    assert (await store.usage()).entry_bytes > sum(range(20))
    await store.read_entries("c1", count=10, block_ms=0)
    await store.write_records([record(call.activation_id) for call in calls])
    assert ((await store.usage()).entries, (await store.usage()).entry_bytes) == (0, 0)


async def test_running_attempt_becomes_the_fence(store: Store, entry: MakeEntry) -> None:
    plain, retried = entry(running_attempt=1, controller_id="c1"), entry(running_attempt=1, controller_id="c1")
    await store.raise_fence(retried.activation_id, expect=1, attempt=2, controller_id="c1")
    await accept(store, plain)
    await accept(store, retried)
    assert await store.read_fence(plain.activation_id) == 1
    assert await store.read_fence(retried.activation_id) == 2
    # Whoever claims it cannot take attempt 1 again; the owner goes on to 2.
    refused = await store.raise_fence(plain.activation_id, expect=0, attempt=1, controller_id="c2")
    assert refused is FenceVerdict.SUPERSEDED
    raised = await store.raise_fence(plain.activation_id, expect=1, attempt=2, controller_id="c1")
    assert raised is FenceVerdict.RAISED


async def test_accept_and_record_race(store: Store, entry: MakeEntry, record: MakeRecord) -> None:
    """Whichever comes first, there is one record and no entry left."""
    calls = [entry() for _ in range(60)]
    writes = [asyncio.create_task(store.write_records([record(call.activation_id)])) for call in calls[::2]]
    accepts = [asyncio.create_task(store.accept(call)) for call in calls]
    writes += [asyncio.create_task(store.write_records([record(call.activation_id)])) for call in calls[1::2]]
    answers = await asyncio.gather(*accepts)
    assert all(verdicts == [WriteVerdict.WRITTEN] for verdicts in await asyncio.gather(*writes))
    assert {type(answer) for answer in answers} <= {Accepted, AlreadyRecorded}
    assert (await store.usage()).entries == 0
    assert (await store.usage()).entry_bytes == 0
    assert (await store.usage()).records == 60


async def test_two_claimers_share_without_doubling(store: Store, entry: MakeEntry) -> None:
    calls = [entry() for _ in range(60)]
    for call in calls:
        await accept(store, call)
    await store.read_entries("dead", count=100, block_ms=0)
    await store.raise_fence(calls[0].activation_id, expect=0, attempt=1, controller_id="dead")
    claimed: list[StreamEntry] = []

    async def claim(controller_id: str) -> None:
        while batch := await store.claim_entries("dead", controller_id, count=7):
            claimed.extend(batch)

    await asyncio.gather(claim("c1"), claim("c2"))
    assert sorted(found.activation_id for found in claimed) == sorted(call.activation_id for call in calls)
    assert {found.activation_id: found.attempts for found in claimed if found.attempts} == {calls[0].activation_id: 1}
    owners = await store.stream_owners()
    assert owners["dead"] == 0
    assert owners["c1"] + owners["c2"] == 60


async def test_consumer_is_removed_only_when_it_owns_nothing(store: Store, entry: MakeEntry) -> None:
    await accept(store, entry())
    await store.read_entries("dead", count=1, block_ms=0)
    assert await store.remove_consumer("dead") is False
    await store.claim_entries("dead", "c1", count=10)
    assert await store.remove_consumer("dead") is True
    assert await store.remove_consumer("dead") is True
    assert await store.stream_owners() == {"c1": 1}


async def test_entry_is_handed_over(store: Store, entry: MakeEntry, record: MakeRecord) -> None:
    call = entry(running_attempt=1, controller_id="c2")
    entry_id = await accept(store, call)
    await store.read_entries("c1", count=1, block_ms=0)
    assert await store.hand_over(entry_id, "c2") is True
    assert await store.own_pending("c1", count=10) == []
    assert await store.own_pending("c2", count=10) == [replace(call, entry_id=entry_id, attempts=1)]
    await store.write_records([record(call.activation_id)])
    assert await store.hand_over(entry_id, "c1") is False


async def test_claims_while_records_are_written(store: Store, entry: MakeEntry, record: MakeRecord) -> None:
    calls = [entry() for _ in range(80)]
    for call in calls:
        await accept(store, call)
    await store.read_entries("c0", count=100, block_ms=0)

    async def write() -> None:
        for call in calls:
            await store.write_records([record(call.activation_id)])

    async def claim() -> None:
        for i in range(40):
            await store.claim_entries(f"c{i % 3}", f"c{(i + 1) % 3}", count=50)

    await asyncio.gather(write(), claim())
    assert sum((await store.stream_owners()).values()) == 0
    assert ((await store.usage()).entries, (await store.usage()).entry_bytes) == (0, 0)


async def test_entry_deleted_by_hand_is_not_claimed(store: Store, entry: MakeEntry) -> None:
    entry_id = await accept(store, entry())
    await store.read_entries("dead", count=1, block_ms=0)
    await store._connection.call("XDEL", keys.stream(), entry_id)
    assert await store.own_pending("dead", count=10) == []
    assert await store.claim_entries("dead", "c1", count=10) == []
    assert set((await store.stream_owners()).values()) == {0}


async def test_deleted_entries_do_not_hide_those_behind(store: Store, entry: MakeEntry) -> None:
    gone = [await accept(store, entry()) for _ in range(5)]
    last = await accept(store, entry())
    await store.read_entries("c1", count=10, block_ms=0)
    await store._connection.call("XDEL", keys.stream(), *gone)
    assert [found.entry_id for found in await store.own_pending("c1", count=2)] == [last]


@pytest.mark.parametrize("bad", [b"\xc1", b"\x93\x01\x02\x03", b""])
async def test_unreadable_entry_stops_no_other(store: Store, entry: MakeEntry, bad: bytes) -> None:
    await store._connection.call("XADD", keys.stream(), "*", "id", "a", "e", bad)
    entry_id = await accept(store, entry())
    assert [found.entry_id for found in await store.read_entries("c1", count=10, block_ms=0)] == [entry_id]
    assert await store.stream_owners() == {"c1": 1}
    assert (await store.usage()).entries == 2  # it is kept for a person to look at


async def test_a_call_started_after_it_was_entered_is_fenced_by_a_repetition(store: Store, entry: MakeEntry) -> None:
    call = entry()
    await accept(store, call)
    assert await store.read_fence(call.activation_id) == 0
    await accept(store, replace(call, running_attempt=1, controller_id="c1"))
    assert await store.read_fence(call.activation_id) == 1
    await accept(store, replace(call, running_attempt=2, controller_id="c2"))
    assert await store.read_fence(call.activation_id) == 1  # only where there is none: the rest is compare-and-set
    assert (await store.usage()).entries == 1
