"""Two controllers on one store: what one changes, the other uses at once."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from contextlib import aclosing
from typing import Any

import pytest

from controller.invalidation import Invalidation
from fallow.infra.records import ControllerLease
from fallow.infra.store import Store

ROUNDS = 12
LATE_S = 0.03  # by which a controller hears of a change: longer than a call to it takes to arrive


@pytest.fixture
def slow_channel(monkeypatch) -> None:
    """Controllers that start from here on hear of changes late."""
    changes = Store.changes

    async def late(self: Store):
        async with aclosing(changes(self)) as heard:
            async for change in heard:
                await asyncio.sleep(LATE_S)
                yield change

    monkeypatch.setattr(Store, "changes", late)


def loops() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task.get_name() in ("changes", "lease")}


def code(n: int) -> dict[str, Any]:
    return {
        "exec": {"kind": "python:3", "code": f"def main(args):\n    return {{'n': {n}}}\n"},
        "version": f"0.0.{n}",
    }


async def used(cluster: Any) -> int:
    """The version that a call through this controller runs."""
    answer = await cluster.client.call("POST", "actions/echo?blocking=true")
    assert answer.status == 200, answer.body
    return int(answer.json["version"].rpartition(".")[2])


async def put(cluster: Any, n: int) -> None:
    answer = await cluster.client.call("PUT", "actions/echo?overwrite=true", code(n))
    assert answer.status == 200, answer.body


@pytest.mark.usefixtures("slow_channel")
async def test_an_update_through_one_is_used_by_the_other_once_answered(cluster, boot) -> None:
    async with boot() as second:
        for each in (cluster, second):
            await each.join()
        await put(cluster, 1)
        assert await used(second) == 1
        for n in range(2, ROUNDS):
            here, there = (cluster, second) if n % 2 else (second, cluster)
            await put(here, n)
            assert await used(there) == n
            assert await used(here) == n


@pytest.mark.usefixtures("slow_channel")
async def test_calls_under_way_during_an_update_never_bring_the_old_revision_back(cluster, boot) -> None:
    async with boot() as second:
        await second.join()
        await put(cluster, 1)
        answered = 1

        async def call() -> None:
            for _ in range(ROUNDS):
                at_least = answered
                assert await used(second) >= at_least

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(call())
            for n in range(2, ROUNDS):
                await put(cluster, n)
                answered = n


@pytest.mark.usefixtures("slow_channel")
async def test_a_deleted_action_is_gone_everywhere(cluster, boot) -> None:
    async with boot() as second:
        for each in (cluster, second):
            await each.join()
        await put(cluster, 1)
        assert await used(second) == 1
        assert (await cluster.client.call("DELETE", "actions/echo")).status == 200
        assert (await second.client.call("POST", "actions/echo?blocking=true")).status == 404


async def test_who_loses_the_channel_reads_again(cluster, boot) -> None:
    async with boot() as second:
        await second.join()
        await put(cluster, 1)
        for n in range(2, 12):
            assert await used(second) == n - 1
            await cluster.store._connection.call("CLIENT", "KILL", "TYPE", "pubsub")
            await put(cluster, n)
            assert await used(second) == n


async def test_one_that_stands_still_is_waited_for_until_its_lease_lapses(cluster, boot) -> None:
    before = loops()
    async with boot(lease_s=1.0) as second:
        await second.join()
        await put(cluster, 1)
        assert await used(second) == 1
        frozen = loops() - before
        assert len(frozen) == 2
        for task in frozen:
            task.cancel()
        await asyncio.wait(frozen)
        assert second.controller.id in {lease.controller_id for lease in await cluster.store.live_controllers()}
        await put(cluster, 2)
        assert second.controller.id not in {lease.controller_id for lease in await cluster.store.live_controllers()}
        assert await used(second) == 2, "without a lease it asks the store"


@pytest.fixture
async def store(redis: str):
    opened = await Store.open(redis)
    yield opened
    await opened.close()


async def test_nobody_is_waited_for_beyond_the_margin(store, monkeypatch) -> None:
    monkeypatch.setattr("controller.invalidation.MARGIN_S", 0.05)
    await store.renew_lease(ControllerLease(controller_id="deaf", link_url="", api_url=""), 60.0)
    await store.put_key("guest", "u:" + "s" * 64)
    alone = Invalidation(controller_id="me", store=store, lease_s=0.05)
    number, behind = await store.behind("me")
    assert (number, behind) == (1, ["deaf"])
    await alone.settled()
    assert await store.behind("me") == (1, ["deaf"])
    await store.note_seen("deaf", 1)
    assert await store.behind("me") == (1, [])


async def test_what_was_seen_is_forgotten_with_the_lease(store) -> None:
    lease = ControllerLease(controller_id="c", link_url="", api_url="")
    await store.note_seen("c", 7)
    await store.renew_lease(lease, 60.0)
    await store.put_key("guest", "u:" + "s" * 64)
    assert await store.behind("me") == (1, ["c"]), "nothing is noted of a controller without a lease"
    await store.note_seen("c", 1)
    await store.release_lease("c")
    await store.renew_lease(lease, 60.0)
    assert await store.behind("me") == (1, ["c"])


async def test_warm_calls_survive_the_absence_of_the_store(boot, until) -> None:
    async with boot(lease_s=0.4) as cluster:
        invoker = await cluster.join()
        await put(cluster, 1)
        assert await used(cluster) == 1
        info = (await cluster.store._connection.call("INFO", "server")).decode()
        found = re.search(r"^process_id:(\d+)", info, re.MULTILINE)
        assert found is not None
        invoker.records = False
        os.kill(int(found[1]), signal.SIGKILL)
        lapsed = asyncio.get_running_loop().time() + 0.5

        async def without_a_lease() -> bool:
            assert await used(cluster) == 1
            return asyncio.get_running_loop().time() > lapsed

        await until(without_a_lease)
