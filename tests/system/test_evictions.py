"""Notices, evictions and lost VMs, seen from a client: what it is promised holds."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.cluster import Up, cluster_up, processes_with


def annotation(record: dict[str, Any], key: str) -> Any:
    return next((a["value"] for a in record["annotations"] if a["key"] == key), None)


async def final_records(up: Up, ids: Sequence[str], *, within_s: float = 90.0) -> list[dict[str, Any]]:
    return list(await asyncio.gather(*(up.record(i, within_s=within_s) for i in ids)))


async def blocking_id(up: Up, name: str, args: dict[str, Any]) -> tuple[int, str]:
    status, body = await up.invoke(name, args)
    assert "activationId" in body, (status, body)
    return status, body["activationId"]


async def accepted_id(up: Up, name: str, args: dict[str, Any]) -> str:
    status, body = await up.invoke(name, args, blocking=False)
    assert status == 202, (status, body)
    return str(body["activationId"])


def invoker_pid(vm_id: str, state_dir: Path) -> int:
    """The invoker process of a VM of this cluster."""
    run_dir = next(
        line for line in (state_dir / "cluster.json").read_text().split('"') if line.startswith("/tmp/fallow-")
    )
    ours = set(processes_with(run_dir))
    found = [
        pid
        for pid in ours & set(processes_with(f"FALLOW_VM_ID={vm_id}\0"))
        if b"invoker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert len(found) == 1, found
    return found[0]


async def test_an_eviction_under_a_mix_of_calls_is_no_client_error(short_dir: Path) -> None:
    """Some calls fit into the notice, some are cut off, some queue: only those that may not be repeated fail, once."""
    args = ("--vms", "1", "--vm-cores", "4", "--memory-mb", "2048")
    async with cluster_up(short_dir, *args) as up:
        await up.deploy("echo")
        await up.deploy("sleep")
        await up.deploy("sleep", as_name="once", annotations={"idempotent": False})
        short = [asyncio.create_task(blocking_id(up, "sleep", {"seconds": 1.5})) for _ in range(4)]
        long = [asyncio.create_task(blocking_id(up, "sleep", {"seconds": 10})) for _ in range(3)]
        once = [asyncio.create_task(blocking_id(up, "once", {"seconds": 10})) for _ in range(2)]
        long_async = [await accepted_id(up, "sleep", {"seconds": 10}) for _ in range(6)]
        once_async = [await accepted_id(up, "once", {"seconds": 10}) for _ in range(6)]

        async def busy() -> bool:
            vms = await up.vms()
            return bool(vms["h1"]["running"] >= 6 and vms["h1"]["queued"] >= 1)

        await up.until(busy)
        await up.admin("POST", "/admin/v1/vms/h1/evict", {"notice_s": 4})
        seen_unix_ms = time.time_ns() // 1_000_000
        echoes = [await up.invoke("echo", {"n": n}) for n in range(20)]
        assert all(status == 200 and body["response"]["result"] == {"n": n} for n, (status, body) in enumerate(echoes))

        for status, _ in await asyncio.gather(*short, *long):
            assert status == 200
        assert {status for status, _ in await asyncio.gather(*once)} <= {200, 500, 502}
        repeatable = await final_records(up, [i for _, i in await asyncio.gather(*short, *long)] + long_async)
        assert all(r["response"]["success"] for r in repeatable), [r["response"] for r in repeatable]
        assert any((annotation(r, "attempt") or 1) > 1 for r in repeatable), "nothing was cut off and placed again"
        single = await final_records(up, [i for _, i in await asyncio.gather(*once)] + once_async)
        failed = [r for r in single if not r["response"]["success"]]
        assert all((annotation(r, "attempt") or 1) == 1 for r in single)
        assert len(failed) >= 1, "no call that may not be repeated was cut off"
        for record in repeatable + single:
            if annotation(record, "vm") == "h1" and record["response"]["success"]:
                assert record["start"] <= seen_unix_ms + 500, "started on h1 after the notice was seen"
        moved = next(r for r in repeatable if (annotation(r, "attempt") or 1) > 1)
        story = await up.admin("GET", f"/admin/v1/why/{moved['activationId']}")
        assert "cut off" in [step["what"] for step in story["steps"]]


async def test_a_resize_under_load_costs_no_call(short_dir: Path) -> None:
    async with cluster_up(short_dir, "--vms", "2", "--vm-cores", "4") as up:
        await up.deploy("busy")
        stop = asyncio.Event()
        statuses: list[int] = []

        async def load() -> None:
            while not stop.is_set():
                status, _ = await up.invoke("busy", {"ms": 20})
                statuses.append(status)

        tasks = [asyncio.create_task(load()) for _ in range(4)]
        await asyncio.sleep(2)
        for vm_id in ("h1", "h2"):
            await up.admin("POST", f"/admin/v1/vms/{vm_id}/resize", {"cores": 1})

        async def shrunk() -> bool:
            vms = await up.vms()
            return all(vms[v]["cores"] == 1 for v in ("h1", "h2"))

        await up.until(shrunk, within_s=2)
        await asyncio.sleep(2)
        stop.set()
        await asyncio.gather(*tasks)
        assert statuses
        assert set(statuses) == {200}


async def test_an_invoker_killed_under_load_loses_nothing(short_dir: Path) -> None:
    async with cluster_up(short_dir, "--vms", "2", "--memory-mb", "2048") as up:
        await up.deploy("sleep")
        asynchronous = [await accepted_id(up, "sleep", {"seconds": 3}) for _ in range(8)]
        blocking = [asyncio.create_task(blocking_id(up, "sleep", {"seconds": 3})) for _ in range(4)]

        async def someone_runs() -> str:
            vms = (await up.vms()).values()
            return next((vm["id"] for vm in vms if vm["kind"] == "harvest" and vm["running"] >= 2), "")

        victim = await up.until(someone_runs)
        os.kill(invoker_pid(victim, up.state_dir), signal.SIGKILL)
        assert all(status == 200 for status, _ in await asyncio.gather(*blocking))
        records = await final_records(up, asynchronous)
        assert all(r["response"]["success"] for r in records)

        async def back() -> bool:
            return bool((await up.vms())[victim]["usable"])

        await up.until(back, within_s=15)


async def test_a_stopped_invoker_is_noticed_replaced_and_fenced(short_dir: Path) -> None:
    async with cluster_up(short_dir, "--vms", "2", "--memory-mb", "2048") as up:
        await up.deploy("sleep")
        ids = [await accepted_id(up, "sleep", {"seconds": 4}) for _ in range(4)]

        async def someone_runs() -> str:
            vms = (await up.vms()).values()
            return next((vm["id"] for vm in vms if vm["kind"] == "harvest" and vm["running"] >= 1), "")

        victim = await up.until(someone_runs)
        pid = invoker_pid(victim, up.state_dir)
        os.kill(pid, signal.SIGSTOP)
        try:

            async def noticed() -> bool:
                return not (await up.vms())[victim]["usable"]

            await up.until(noticed, within_s=6)
            records = await final_records(up, ids)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert all(r["response"]["success"] for r in records)
        assert any(annotation(r, "attempt") > 1 for r in records)

        async def rejoined() -> bool:
            vm = (await up.vms())[victim]
            return bool(vm["usable"] and vm["running"] == 0)

        await up.until(rejoined, within_s=15)
        again = await final_records(up, ids)
        assert again == records, "a record changed after the stopped VM came back"


async def test_a_dead_controllers_asynchronous_calls_are_claimed(short_dir: Path) -> None:
    async with cluster_up(short_dir, "--vms", "2", "--controllers", "2", "--memory-mb", "2048") as up:
        await up.deploy("sleep")
        other = up.ready["urls"][1]
        ids = [await accepted_id(up, "sleep", {"seconds": 2}) for _ in range(10)]
        os.kill(up.ready["processes"]["controller-0"], signal.SIGKILL)
        began = time.monotonic()
        records = await asyncio.gather(*(up.record(i, within_s=40, url=other) for i in ids))
        assert all(r["response"]["success"] for r in records)
        assert time.monotonic() - began < 30
        status, body = await up.invoke("sleep", {"ms": 1}, url=other)
        assert (status, body["response"]["success"]) == (200, True)


async def test_the_resource_monitor_replaces_an_evicted_vm(short_dir: Path) -> None:
    args = ("--vms", "2", "--vm-cores", "4", "--target-cores", "8", "--speedup", "15", "--memory-mb", "1024")
    async with cluster_up(short_dir, *args) as up:
        await up.admin("POST", "/admin/v1/vms/h2/evict", {"notice_s": 0.5})

        async def replaced() -> bool:
            vms = (await up.vms()).values()
            live = [vm["id"] for vm in vms if vm["kind"] == "harvest" and vm["usable"]]
            return len(live) >= 2 and "h2" not in live

        await up.until(replaced, within_s=40)


async def test_learned_long_calls_go_to_the_regular_vm(short_dir: Path) -> None:
    async with cluster_up(short_dir, "--vms", "2", "--notice", "1", "--memory-mb", "2048") as up:
        await up.deploy("sleep")
        _, first = await up.invoke("sleep", {"seconds": 1.5})
        _, second = await up.invoke("sleep", {"seconds": 1.5})
        assert annotation(first, "vmKind") == "harvest"
        assert annotation(second, "vmKind") == "regular"
        placements = (await up.admin("GET", "/admin/v1/status"))["placements"]
        assert placements["short_harvest"] >= 1
        assert placements["long_regular"] >= 1
