"""Records: exactly one per activation, whoever writes; the fence; lists; bounds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from fallow.infra.records import Record, StreamEntry
from fallow.infra.store import AlreadyRecorded, FenceVerdict, Store, StoreError, WriteVerdict, keys
from fallow.infra.store.activations import FENCE_TTL_S, RECORD_OVERHEAD_BYTES

MakeRecord = Callable[..., Record]


async def test_record_comes_back_as_written(store: Store, record: MakeRecord) -> None:
    written = record(result=b"\x00\xff", logs=["a", "ü"], evicted=True, vm_id="h1", cpu_ms=None, init_ms=7)
    assert await store.write_records([written]) == [WriteVerdict.WRITTEN]
    assert await store.get_record("guest", written.activation_id) == written
    assert await store.get_record("other", written.activation_id) is None
    assert await store.get_record("guest", "0" * 32) is None
    assert await store.get_record(None, written.activation_id) == written


async def test_one_of_many_writers_writes(store: Store, record: MakeRecord) -> None:
    one = record()
    rivals = [replace(one, vm_id=f"h{i}", attempt=1 + i % 3) for i in range(60)]
    verdicts = await asyncio.gather(*(store.write_records([rival]) for rival in rivals))
    winners = [rival for rival, (verdict,) in zip(rivals, verdicts, strict=True) if verdict is WriteVerdict.WRITTEN]
    assert len(winners) == 1
    assert [v for (v,) in verdicts].count(WriteVerdict.EXISTS) == len(rivals) - 1
    assert await store.get_record("guest", one.activation_id) == winners[0]
    assert (await store.usage()).records == 1


async def test_verdicts_keep_the_order_of_the_records(store: Store, record: MakeRecord) -> None:
    fenced, fresh, twice = record(), record(), record()
    assert await store.raise_fence(fenced.activation_id, expect=1, attempt=2, controller_id="c1") is FenceVerdict.RAISED
    assert await store.write_records([fenced, fresh, twice, twice, replace(fenced, attempt=2)]) == [
        WriteVerdict.FENCED,
        WriteVerdict.WRITTEN,
        WriteVerdict.WRITTEN,
        WriteVerdict.EXISTS,
        WriteVerdict.WRITTEN,
    ]
    assert await store.write_records([]) == []


async def test_fence_is_raised_by_one_controller(store: Store) -> None:
    verdicts = await asyncio.gather(
        *(store.raise_fence("a1", expect=0, attempt=1, controller_id=f"c{i}") for i in range(20))
    )
    assert verdicts.count(FenceVerdict.RAISED) == 1
    assert verdicts.count(FenceVerdict.SUPERSEDED) == 19
    assert await store.read_fence("a1") == 1


async def test_own_raise_may_be_repeated(store: Store) -> None:
    for _ in range(2):
        assert await store.raise_fence("a1", expect=1, attempt=2, controller_id="c1") is FenceVerdict.RAISED
    assert await store.raise_fence("a1", expect=1, attempt=2, controller_id="c2") is FenceVerdict.SUPERSEDED
    assert await store.raise_fence("a1", expect=2, attempt=3, controller_id="c2") is FenceVerdict.RAISED
    assert await store.raise_fence("a1", expect=2, attempt=3, controller_id="c1") is FenceVerdict.SUPERSEDED
    assert await store.read_fence("a1") == 3


async def test_absent_fence_matches_nothing_above_one(store: Store) -> None:
    assert await store.raise_fence("a1", expect=2, attempt=3, controller_id="c1") is FenceVerdict.SUPERSEDED
    assert await store.read_fence("a1") == 0


async def test_no_fence_is_raised_over_a_record(store: Store, record: MakeRecord) -> None:
    one = record()
    await store.write_records([one])
    verdict = await store.raise_fence(one.activation_id, expect=0, attempt=1, controller_id="c1")
    assert verdict is FenceVerdict.RECORDED
    assert await store.read_fence(one.activation_id) == 0


@pytest.mark.parametrize("round_", range(5))
async def test_record_and_fence_race(store: Store, record: MakeRecord, round_: int) -> None:
    """Either the record of attempt 1 stands and the retry is refused, or attempt 1 is fenced off by the retry."""
    ones = [record(attempt=1) for _ in range(40)]

    async def retry(one: Record) -> FenceVerdict:
        return await store.raise_fence(one.activation_id, expect=1, attempt=2, controller_id="c1")

    async def write(one: Record) -> WriteVerdict:
        return (await store.write_records([one]))[0]

    dice = random.Random(round_)
    tasks = [
        (asyncio.ensure_future(pair[0]), asyncio.ensure_future(pair[1]))
        for pair in ((write(one), retry(one)) if dice.random() < 0.5 else (retry(one), write(one)) for one in ones)
    ]
    for one, pair in zip(ones, tasks, strict=True):
        outcome = {await task for task in pair}
        exists = await store.get_record("guest", one.activation_id) is not None
        assert outcome == (
            {WriteVerdict.WRITTEN, FenceVerdict.RECORDED} if exists else {WriteVerdict.FENCED, FenceVerdict.RAISED}
        )


async def test_call_that_never_started_is_recorded_under_attempt_0(store: Store, record: MakeRecord) -> None:
    free, started = record(attempt=0), record(attempt=0)
    await store.raise_fence(started.activation_id, expect=0, attempt=1, controller_id="c2")
    assert await store.write_records([free, started]) == [WriteVerdict.WRITTEN, WriteVerdict.FENCED]


async def test_lists_are_newest_first_within_inclusive_bounds(store: Store, record: MakeRecord) -> None:
    ones = [record(start_unix_ms=1_000 + i, name="hello" if i % 2 else "pkg/echo") for i in range(10)]
    await store.write_records([*ones, record(namespace="other", start_unix_ms=1_005)])
    newest = ones[::-1]

    async def starts(**query: int | str) -> list[int]:
        return [found.start_unix_ms for found in await store.list_records("guest", **query)]  # type: ignore[arg-type]

    assert await starts() == [one.start_unix_ms for one in newest]
    assert await starts(since=1_003, upto=1_006) == [1_006, 1_005, 1_004, 1_003]
    assert await starts(skip=2, limit=3) == [1_007, 1_006, 1_005]
    assert await starts(name="pkg/echo", upto=1_005) == [1_004, 1_002, 1_000]
    assert await starts(name="echo") == []
    assert await starts(limit=0) == []
    assert await store.count_records("guest") == 10
    assert await store.count_records("guest", name="hello", since=1_003, upto=1_009) == 4
    (brief,) = await store.list_records("guest", limit=1)
    assert brief == replace(newest[0], result=b"", logs=[])
    assert await store.list_records("guest", docs=True) == newest


async def test_entry_goes_with_the_record(store: Store, record: MakeRecord, entry: Callable[..., StreamEntry]) -> None:
    call = entry()
    await store.accept(call)
    await store.read_entries("c1", count=10, block_ms=0)
    one = record(call.activation_id)
    assert await store.write_records([one]) == [WriteVerdict.WRITTEN]
    assert await store.stream_owners() == {"c1": 0}
    usage = await store.usage()
    assert (usage.records, usage.entries, usage.entry_bytes) == (1, 0, 0)
    assert await store.accept(call) == AlreadyRecorded(record=one)


async def test_unread_entry_goes_with_the_record_too(
    store: Store, record: MakeRecord, entry: Callable[..., StreamEntry]
) -> None:
    call = entry()
    await store.accept(call)
    await store.write_records([record(call.activation_id)])
    assert await store.read_entries("c1", count=10, block_ms=0) == []


async def test_trim_keeps_to_a_model(store: Store, record: MakeRecord) -> None:
    dice = random.Random(7)
    kept: list[tuple[int, str, int]] = []  # end, id, bytes
    now = 1_000_000_000
    for _ in range(30):
        batch = [
            record(
                end_unix_ms=now - dice.randrange(2_000_000),
                result=b"x" * dice.randrange(2_000),
                name=dice.choice(["a", "p/b"]),
                namespace=dice.choice(["guest", "o.t@h-er"]),
                logs=[],
            )
            for _ in range(dice.randrange(30))
        ]
        before = (await store.usage()).record_bytes
        for one in batch:
            await store.write_records([one])
            after = (await store.usage()).record_bytes
            kept.append((one.end_unix_ms, one.activation_id, after - before))
            assert after - before > len(one.result) + RECORD_OVERHEAD_BYTES
            before = after
        age_s, count, size = dice.randrange(100, 3_000), dice.randrange(150), dice.randrange(200_000)
        removed = await store.trim(max_age_s=age_s, max_count=count, max_bytes=size, now_unix_ms=now)
        kept.sort()
        expected = 0
        while kept and (
            kept[0][0] < now - age_s * 1000 or len(kept) > count or sum(bytes_ for _, _, bytes_ in kept) > size
        ):
            kept.pop(0)
            expected += 1
        assert removed == expected
        usage = await store.usage()
        assert (usage.records, usage.record_bytes) == (len(kept), sum(bytes_ for _, _, bytes_ in kept))
        listed = [
            found.activation_id
            for space in ("guest", "o.t@h-er")
            for found in await store.list_records(space, limit=999)
        ]
        assert sorted(listed) == sorted(activation_id for _, activation_id, _ in kept)
    named = [await store.count_records(space, name=name) for space in ("guest", "o.t@h-er") for name in ("a", "p/b")]
    assert sum(named) == len(kept)


async def test_trim_works_in_batches(store: Store, record: MakeRecord) -> None:
    await store.write_records([record(end_unix_ms=i) for i in range(1_000)])
    assert await store.trim(max_age_s=1e6, max_count=123, max_bytes=1 << 40, now_unix_ms=2_000) == 877
    assert (await store.usage()).records == 123


async def test_young_record_trimmed_away_is_not_written_twice(store: Store, record: MakeRecord) -> None:
    young, old = record(end_unix_ms=9_999_000), record(end_unix_ms=9_000_000)
    await store.write_records([young, old])
    assert await store.trim(max_age_s=1e6, max_count=0, max_bytes=1 << 40, now_unix_ms=10_000_000) == 2
    assert await store.write_records([young]) == [WriteVerdict.FENCED]


@pytest.mark.parametrize("durable", [False, True])
async def test_fence_of_a_retried_call_outlives_its_trimmed_record(
    store: Store, record: MakeRecord, entry: Callable[..., StreamEntry], durable: bool
) -> None:
    one = record(attempt=2, end_unix_ms=1)
    if durable:
        await store.accept(entry(one.activation_id, running_attempt=1, controller_id="c1"))
    await store.raise_fence(one.activation_id, expect=1, attempt=2, controller_id="c1")
    ttl_s = await store._connection.call("TTL", keys.run(one.activation_id))
    assert (ttl_s == -1) is durable  # while the entry stands its fence must
    await store.write_records([one])
    await store.trim(max_age_s=1, max_count=0, max_bytes=0, now_unix_ms=10_000_000)
    assert await store.write_records([replace(one, attempt=1)]) == [WriteVerdict.FENCED]
    assert 0 < await store._connection.call("TTL", keys.run(one.activation_id)) <= FENCE_TTL_S


async def test_no_trace_is_left_of_a_trimmed_call(
    store: Store, record: MakeRecord, entry: Callable[..., StreamEntry]
) -> None:
    call = entry(running_attempt=1, controller_id="c1")
    await store.accept(call)
    await store.write_records([record(call.activation_id, end_unix_ms=1)])
    await store.trim(max_age_s=1, max_count=0, max_bytes=0, now_unix_ms=10_000_000)
    left = {key.decode() for key in await store._connection.call("KEYS", "*")}
    assert left == {keys.schema(), keys.stream(), keys.usage()}


async def test_unreadable_record_is_named(store: Store, record: MakeRecord) -> None:
    one = record()
    await store.write_records([one])
    await store._connection.call("HSET", keys.record(one.activation_id), "d", b"\xc1")
    with pytest.raises(StoreError, match=keys.record(one.activation_id)):
        await store.get_record("guest", one.activation_id)
