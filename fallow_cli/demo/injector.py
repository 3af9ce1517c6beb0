"""Evictions a demo injects: live harvest VMs, chosen by seed, while invocations run on them."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any

from fallow_cli.client import Client, list_vms
from fallow_cli.errors import CliError


@dataclass(frozen=True, slots=True, kw_only=True)
class Injected:
    """An eviction that was asked for: seconds since the replay began, and what ran on the VM then."""

    at_s: float
    vm_id: str
    running: int


def moments(count: int, duration_s: float, rng: random.Random) -> list[float]:
    """`count` moments in the middle part of the run, one in each equal slice, so that none is near the ends."""
    first, span = 0.2 * duration_s, 0.6 * duration_s
    return [first + span * (i + rng.random()) / count for i in range(count)]


async def inject(
    client: Client, done: list[Injected], *, count: int, duration_s: float, notice_s: float, seed: int
) -> None:
    """Evict `count` harvest VMs at their moments, entering each in `done`; a moment waits for a busy harvest VM."""
    rng = random.Random(f"{seed}/evictions")
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number, moment in enumerate(moments(count, duration_s, rng)):
        await asyncio.sleep(max(0.0, began + moment - loop.time()))
        while loop.time() < began + duration_s:
            vm = choose(await list_vms(client), f"{seed}/evictions/{number}")
            if vm is not None and await _evict(client, vm["id"], notice_s):
                done.append(Injected(at_s=loop.time() - began, vm_id=vm["id"], running=vm["running"]))
                break
            await asyncio.sleep(0.2)


def choose(vms: list[dict[str, Any]], lot: str) -> dict[str, Any] | None:
    """A usable harvest VM with something running, any of them with equal chance; None while there is none.

    Every VM draws by `lot` and its own id, the highest is chosen: so two runs with the same lots evict the same VMs
    where these are busy in both, whatever the others do.
    """
    live = [vm for vm in vms if vm["kind"] == "harvest" and vm["usable"] and vm["running"] > 0]
    return max(live, key=lambda vm: random.Random(f"{lot}/{vm['id']}").random(), default=None)


async def _evict(client: Client, vm_id: str, notice_s: float) -> bool:
    try:
        await client.call("POST", f"/admin/v1/vms/{vm_id}/evict", document={"notice_s": notice_s})
    except CliError:  # the trace evicted it first
        return False
    return True
