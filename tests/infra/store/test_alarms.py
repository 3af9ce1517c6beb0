"""Alarms in the store: claimed by one, written only over what was read."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from fallow.core.alarms import Alarm
from fallow.infra.store import Store


def alarm(trigger: str = "t", **fields) -> Alarm:
    return Alarm(**{"namespace": "guest", "trigger": trigger, "subject": "s", "payload": {}, "shown": {}, **fields})


async def claim(store: Store, now: int, *, until: int = 1_000, count: int = 100) -> list[str]:
    return [it.alarm.trigger for it in await store.claim_alarms(now_unix_ms=now, until_unix_ms=until, count=count)]


async def test_an_alarm_comes_back_as_put(store: Store) -> None:
    deep = {"deep": [1, None, 2**70, "ü"]}
    wish = alarm(payload=deep, shown=deep, minutes=3, start_unix_ms=7, fires_left=2, active=False, reason="r")
    assert await store.get_alarm("guest", "t") is None
    await store.put_alarm(wish, None)
    assert (await store.get_alarm("guest", "t")).alarm == wish
    assert await claim(store, 10**15) == [], "one that is not due again is nobody's to claim"
    await store.delete_alarm("guest", "t")
    assert await store.get_alarm("guest", "t") is None


async def test_what_is_due_is_claimed_earliest_first_and_due_again_later(store: Store) -> None:
    for trigger, due in (("c", 30), ("a", 10), ("b", 20), ("later", 500)):
        await store.put_alarm(alarm(trigger), due)
    assert await claim(store, 9) == []
    assert await claim(store, 30, count=2) == ["a", "b"]
    assert await claim(store, 30) == ["c"]
    assert await claim(store, 30) == []
    assert await claim(store, 999) == ["later"]
    assert sorted(await claim(store, 1_000)) == ["a", "b", "c", "later"], "nobody wrote them"


async def test_of_two_claimers_each_alarm_is_one_s(store: Store) -> None:
    names = [f"t{i}" for i in range(60)]
    for name in names:
        await store.put_alarm(alarm(name), 1)
    found = await asyncio.gather(*(claim(store, 5, count=10) for _ in range(8)))
    assert sorted(name for part in found for name in part) == sorted(names)


async def test_a_write_that_expects_what_was_read_does_not_undo_a_change(store: Store) -> None:
    await store.put_alarm(alarm(), 1)
    (read,) = await store.claim_alarms(now_unix_ms=1, until_unix_ms=100, count=1)
    await store.put_alarm(alarm(minutes=5), 50)
    assert not await store.put_alarm(replace(read.alarm, missed=1), 2, expect=read)
    assert not await store.delete_alarm("guest", "t", expect=read)
    assert await claim(store, 49) == []
    assert await claim(store, 50) == ["t"]
    standing = await store.get_alarm("guest", "t")
    assert await store.put_alarm(replace(standing.alarm, missed=1), None, expect=standing)
    await store.delete_alarm("guest", "t")
    assert not await store.put_alarm(alarm(), 1, expect=standing), "a deleted one does not come back"


async def test_a_deleted_alarm_is_not_claimed(store: Store) -> None:
    await store.put_alarm(alarm(), 1)
    await store.delete_alarm("guest", "t")
    assert await claim(store, 5) == []
