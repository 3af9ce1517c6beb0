"""A sequence on a real cluster: one of its actions is cut off by an eviction and runs again elsewhere."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from support.cluster import Up, cluster_up

SLOW = """
import time

def main(args):
    time.sleep(args.get("seconds", 0))
    return {**args, "steps": args.get("steps", 0) + 1}
"""


def notes(record: dict[str, Any]) -> dict[str, Any]:
    return {item["key"]: item["value"] for item in record["annotations"]}


async def put_sequence(up: Up, name: str, *components: str) -> None:
    body = {"exec": {"kind": "sequence", "components": [f"/_/{c}" for c in components]}}
    async with up.session.put(f"{up.url}/api/v1/namespaces/_/actions/{name}", json=body) as r:
        assert r.status == 200, await r.text()


async def test_an_eviction_in_the_middle_of_a_sequence(short_dir: Path) -> None:
    async with cluster_up(short_dir, "--vms", "1", "--vm-cores", "4") as up:
        await up.deploy("slow", SLOW)
        await put_sequence(up, "two", "slow", "slow")
        await put_sequence(up, "s", "slow", "two")
        calls = [asyncio.create_task(up.invoke("s", {"seconds": 1.5})) for _ in range(3)]
        accepted = await up.invoke("s", {"seconds": 1.5}, blocking=False)

        async def busy() -> bool:
            return bool((await up.vms())["h1"]["running"] >= 2)

        await up.until(busy)
        await up.admin("POST", "/admin/v1/vms/h1/evict", {"notice_s": 0.2})
        answers = [await call for call in calls]
        assert [status for status, _ in answers] == [200] * 3
        records = [body for _, body in answers] + [await up.record(accepted[1]["activationId"])]
        attempts: list[int] = []
        for record in records:
            assert record["response"]["result"] == {"seconds": 1.5, "steps": 3}
            assert {"kind": "sequence", "topmost": True}.items() <= notes(record).items()
            first, inner = [await up.record(part) for part in record["logs"]]
            assert first["cause"] == inner["cause"] == record["activationId"]
            assert {"kind": "sequence", "topmost": False, "causedBy": "sequence"}.items() <= notes(inner).items()
            leaves = [first, *[await up.record(part) for part in inner["logs"]]]
            assert [leaf["cause"] for leaf in leaves[1:]] == [inner["activationId"]] * 2
            assert record["duration"] == sum(leaf["duration"] for leaf in leaves)
            attempts += [notes(leaf)["attempt"] for leaf in leaves]
        assert max(attempts) > 1, "nothing was cut off"
        assert len(attempts) == 12
