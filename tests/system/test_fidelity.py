"""The simulator against the live platform: the same short trace on both."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from support.cluster import processes_with

BIN = Path(sys.executable).parent


@pytest.mark.system
async def test_a_short_trace_goes_the_same_way_live_and_simulated(short_dir: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        str(BIN / "fallow"),
        *("simulate", "--against-live", "--policy", "hash", "--duration", "4", "--seed", "3", "--json"),
        env={**os.environ, "STARTED_BY_TEST": str(short_dir)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    found = json.loads(printed)
    one, many = found["sequential"], found["overlapping"]
    assert one["simulated"] == one["live"]
    assert len(set(one["live"])) > 1, "a single VM would show nothing"
    assert one["same_vm"] == one["same_start"] == one["calls"] >= 16
    figures = {row["figure"]: row for row in found["figures"]}
    assert figures["succeeded"]["live"] == figures["succeeded"]["simulated"] == many["calls"] >= 20
    assert many["same_vm"] >= 0.9 * many["calls"]
    assert abs(figures["cold_start_share"]["difference"]) <= 0.1
    assert processes_with(str(short_dir)) == []
