"""A cancelled task ends, however far its call to Redis had come: the client library loses cancellations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any, NoReturn

import pytest

from fallow.infra.store import Store

TASKS = 300
TURNS = 25  # of the loop before the cancellation: past the end of a call, so that every place in one is met
LOST_S = 10.0


async def ask(store: Store) -> NoReturn:
    while True:
        await store.live_controllers()


async def follow(store: Store) -> NoReturn:
    while True:
        async with aclosing(store.changes()) as changes:
            await anext(changes)  # its first word: it has subscribed


@pytest.mark.parametrize("work", [ask, follow])
async def test_a_cancellation_is_never_lost(
    store: Store, work: Callable[[Store], Coroutine[Any, Any, NoReturn]]
) -> None:
    tasks = []
    for n in range(TASKS):
        task = asyncio.ensure_future(work(store))
        for _ in range(n % TURNS):
            await asyncio.sleep(0)
        task.cancel()
        tasks.append(task)
        if n % 10 == 9:  # together, so that some wait for a connection
            await asyncio.wait(tasks, timeout=LOST_S)
            assert all(task.cancelled() for task in tasks)
            tasks.clear()
    await store.ping()


async def test_a_cancellation_while_connections_are_made_is_never_lost(store: Store) -> None:
    for n in range(TASKS):
        await store._connection.close()
        call = asyncio.ensure_future(store.live_controllers())
        for _ in range(n % TURNS):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call], timeout=LOST_S)
        assert call.cancelled() or not call.cancelling(), "an answer after a cancellation"
