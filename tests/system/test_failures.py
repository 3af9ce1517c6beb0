"""Parts that stop answering for a while: what was accepted is done, and nobody is told what is not so."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from support.cluster import Up, cluster_up, processes_with

CALLS_S = 0.05  # pause of each caller between two calls


class Load:
    """Callers of every sort, and what each was told."""

    def __init__(self, up: Up) -> None:
        self._up = up
        self.told: Counter[tuple[str, int]] = Counter()
        self.accepted: list[str] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Calls until the end of the block, then waits for the answers under way."""
        stop = asyncio.Event()
        urls = self._up.ready["urls"]

        async def caller(name: str, args: dict[str, Any], *, blocking: bool, url: str, **query: str) -> None:
            while not stop.is_set():
                status, body = await self._up.invoke(name, args, blocking=blocking, url=url, **query)
                self.told[name, status] += 1
                if status in (200, 202):
                    self.accepted.append(body["activationId"])
                await asyncio.sleep(CALLS_S)

        async with asyncio.TaskGroup() as group:
            for url in urls:
                group.create_task(caller("echo", {"n": 1}, blocking=True, url=url))
                group.create_task(caller("sleep", {"seconds": 0.3}, blocking=False, url=url))
                group.create_task(caller("sleep", {"seconds": 1}, blocking=True, url=url, timeout="300"))
            yield
            stop.set()

    def count(self) -> int:
        return sum(self.told.values())


async def paused(up: Up, load: Load, pid: int, pause_s: float) -> None:
    """Stops a process for a while in the middle of the load."""

    async def begun() -> bool:
        return load.count() >= 20

    await up.until(begun)
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(pause_s)
    finally:
        os.kill(pid, signal.SIGCONT)
    before = load.count()

    async def goes_on() -> bool:
        return load.count() >= before + 20

    await up.until(goes_on, within_s=40)


def redis_pid(up: Up) -> int:
    [pid] = [
        pid
        for pid in processes_with(str(up.state_dir / "redis"))
        if b"server" in Path(f"/proc/{pid}/cmdline").read_bytes().partition(b" ")[0]
    ]
    return pid


async def settled(up: Up, load: Load) -> None:
    """Every accepted call has its one record, a success, and no controller holds on to anything."""
    records = [await up.record(activation_id, within_s=60) for activation_id in load.accepted]
    assert Counter(record["response"]["status"] for record in records) == {"success": len(records)}
    for url in up.ready["urls"]:

        async def empty(url: str = url) -> bool:
            status = await up.admin("GET", "/admin/v1/status", url=url)
            return not any(status[name] for name in ("held_calls", "held_bytes", "waiting", "errands", "in_flight"))

        await up.until(empty)


@pytest.mark.parametrize("pause_s", [2.0, 7.0], ids=["within the store's deadline", "beyond it and the leases"])
async def test_an_absence_of_redis_loses_no_accepted_call(short_dir: Path, pause_s: float) -> None:
    async with cluster_up(short_dir, "--vms", "1", "--controllers", "2", "--memory-mb", "2048") as up:
        await up.deploy("echo")
        await up.deploy("sleep")
        load = Load(up)
        async with load.running():
            await paused(up, load, redis_pid(up), pause_s)
        assert {status for name, status in load.told if name == "echo"} == {200}
        assert {status for _, status in load.told} <= {200, 202, 503}
        await settled(up, load)


async def test_a_controller_that_stands_still_takes_nothing_with_it(short_dir: Path) -> None:
    """Its lease lapses, the other claims its calls; when it goes on, its view of them is fenced off."""
    async with cluster_up(short_dir, "--vms", "1", "--controllers", "2", "--memory-mb", "2048") as up:
        await up.deploy("echo")
        await up.deploy("sleep")
        load = Load(up)
        async with load.running():
            await paused(up, load, up.ready["processes"]["controller-1"], 8.0)
        assert {status for _, status in load.told} <= {200, 202}
        await settled(up, load)
