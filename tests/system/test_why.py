"""`fallow why` on a real cluster: a shrink and an eviction that happened are told, with what they cost."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from support.cluster import Up, cluster_up

FALLOW = str(Path(sys.executable).parent / "fallow")
SCALE = 0.1  # real cores of a VM core: four calls use up a VM of four cores on any machine


async def why(up: Up, activation_id: str, *flags: str) -> str:
    """What the command prints, run as a user runs it."""
    process = await asyncio.create_subprocess_exec(
        *(FALLOW, "why", activation_id, "--state-dir", str(up.state_dir), *flags),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    return out.decode()


async def story(up: Up, activation_id: str) -> dict[str, Any]:
    return dict(json.loads(await why(up, activation_id, "--json")))


async def accepted(up: Up, cpu_s: float) -> str:
    """A call that takes so long while four share their VM's four cores."""
    enforced = up.ready["cpu_enforced"]
    share = SCALE if enforced else min(1.0, (os.cpu_count() or 1) / 4)
    status, body = await up.invoke("busy", {"cpu_ms": 1000 * cpu_s * share}, blocking=False)
    assert status == 202, body
    return str(body["activationId"])


def steps(told: dict[str, Any], what: str) -> list[dict[str, Any]]:
    return [step for step in told["steps"] if step["what"] == what]


def check_sums(told: dict[str, Any]) -> None:
    """The waits by cause are the time from acceptance to answer."""
    assert abs(sum(told["waits"].values()) - told["total_s"]) < 1e-5
    (end,) = steps(told, "finished")
    assert abs(told["total_s"] - end["after_s"]) < 0.002, "stamps are whole milliseconds"


async def test_a_shrink_and_an_eviction_are_told(short_dir: Path) -> None:
    args = ("--vms", "1", "--vm-cores", "4", "--core-scale", str(SCALE), "--memory-mb", "1024")
    async with cluster_up(short_dir, *args) as up:
        await up.deploy("busy", limits={"memory": 128})
        await up.admin("POST", "/admin/v1/vms/r1/resize", {"cores": 0.5})  # no call fits there

        async def h1() -> dict[str, Any]:
            return (await up.vms())["h1"]

        async def r1_shrank() -> bool:
            return bool((await up.vms())["r1"]["cores"] == 0.5)

        async def saturated() -> bool:
            return bool((await h1())["cpu_used"] > 3.7)

        async def queued() -> bool:
            return bool((await h1())["queued"] == 1)

        await up.until(r1_shrank)
        running = [await accepted(up, 8), *[await accepted(up, 11) for _ in range(3)]]
        await up.until(saturated)
        waiting = await accepted(up, 0.1)
        await up.until(queued)
        await up.admin("POST", "/admin/v1/vms/h1/resize", {"cores": 2})
        await asyncio.gather(*(up.record(one, within_s=90) for one in [*running, waiting]))

        told = await story(up, waiting)
        check_sums(told)
        assert told["waits"]["vm_queue_cpu_s"] > 0, "until the first of the four was over it waited for the CPU"
        assert told["waits"]["vm_queue_shrink_s"] > 0, "then three ran: on four cores it would have started"
        text = " ".join((await why(up, waiting)).split())
        assert "h1 shrank from 4 to 2 cores." in text
        assert "in the VM's queue because it shrank" in text

        slowed = await story(up, running[-1])
        check_sums(slowed)
        (end,) = steps(slowed, "finished")
        cores = end["outcome"]["vm_waits"]
        assert (cores["cores_first"], cores["cores_last"]) == (4, 2)
        assert 0 < cores["shrunk_run_s"] < end["outcome"]["run_s"]
        if up.ready["cpu_enforced"]:
            assert cores["throttled_s"] > 0
        else:
            assert "CPU is not enforced" in cores["throttled_note"]

        async def idle() -> bool:
            vm = await h1()
            return bool(vm["running"] == 0 and vm["cores"] == 4)

        await up.admin("POST", "/admin/v1/vms/h1/resize", {"cores": 4})
        await up.until(idle)  # so that what runs there next is this call
        evicted = await accepted(up, 30)  # alone on four cores it takes a quarter of that: longer than the notice

        async def runs() -> bool:
            return bool((await h1())["running"] == 1)

        await up.until(runs)
        await up.admin("POST", "/admin/v1/vms/r1/resize", {"cores": 4})
        await up.admin("POST", "/admin/v1/vms/h1/evict", {"notice_s": 2.5})
        await up.record(evicted, within_s=60)
        told = await story(up, evicted)
        check_sums(told)
        assert told["attempts"] == 2
        assert [step["vm"] for step in steps(told, "placed")] == ["h1", "r1"]
        assert len(steps(told, "notice")) == len(steps(told, "cut off")) == 1
        wasted, useful = told["costs"]
        assert (wasted["vm"], wasted["wasted"], useful["vm"], useful["wasted"]) == ("h1", True, "r1", False)
        assert wasted["cpu_core_s"] > 0, "its VM told under the notice what it had used"
        assert wasted["cost_regular_core_s"] == wasted["cpu_core_s"] * wasted["price"]
        assert told["waits"]["cut_off_s"] > 0
        assert told["unknown"] == []
        text = " ".join((await why(up, evicted)).split())
        assert "Attempt 1 was cut off: h1 was evicted while it ran." in text
        assert "wasted (at least: as told" in text
