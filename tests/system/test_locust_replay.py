"""The same trace sent by Locust and by `fallow replay`: what the two say of it agrees."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import sys
from pathlib import Path

import pytest

from support.cluster import cluster_up

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SECONDS, SPEEDUP = 5, 10


async def run(env: dict[str, str], *args: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *args, env={**os.environ, **env}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    printed, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()[-2000:]
    return printed


@pytest.mark.system
async def test_locusts_figures_agree_with_our_report(short_dir: Path) -> None:
    calls = short_dir / "calls.csv"
    rows = [f"app{n % 2},func{n % 4},{n * 0.5 + 1.0},0.8" for n in range(90)]
    calls.write_text("app,func,end_timestamp,duration\n" + "\n".join(rows) + "\n")
    async with cluster_up(short_dir, "--vms", "1") as up:
        env = {
            "FALLOW_URL": up.url,
            "FALLOW_AUTH": up.ready["key"],
            "FALLOW_TRACE": str(calls),
            "FALLOW_DURATION": str(SECONDS),
            "FALLOW_SPEEDUP": str(SPEEDUP),
        }
        file = str(ROOT / "loadtest" / "locust_replay.py")
        await run(
            env, str(BIN / "locust"), "-f", file, *("--headless", "--users", "1"), "--csv", str(short_dir / "load")
        )
        options = ("--duration", str(SECONDS), "--speedup", str(SPEEDUP), "--core-scale", "0.1", "--json")
        state = {"FALLOW_STATE_DIR": str(up.state_dir)}
        ours = json.loads(await run(env | state, str(BIN / "fallow"), "replay", str(calls), *options))
    table = list(csv.DictReader((short_dir / "load_stats.csv").read_text().splitlines()))
    total = next(row for row in table if row["Name"] == "Aggregated")
    assert int(total["Request Count"]) == ours["invocations"] == 90
    assert int(total["Failure Count"]) == ours["failed"] == 0
    by_action = {row["Name"]: int(row["Request Count"]) for row in table if row["Name"] != "Aggregated"}
    assert len(by_action) == ours["actions"] == 4
    # Each call sleeps 80 ms; what is on top of it is the platform's, the same for both senders.
    assert float(total["Median Response Time"]) == pytest.approx(ours["latency_ms"]["p50"], rel=0.3)
