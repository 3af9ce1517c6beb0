"""`fallow compare` as a user runs it, on the smallest workload that shows something."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from support.cluster import processes_with

BIN = Path(sys.executable).parent
SHORT = ("--duration", "4", "--speedup", "10", "--evictions", "1")


async def compare(*args: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        str(BIN / "fallow"), "compare", *args, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


@pytest.mark.system
async def test_two_policies_meet_the_same_workload(short_dir: Path) -> None:
    out = short_dir / "out"
    process = await compare("--policies", "jsq,hash", "--seeds", "4", *SHORT, "--json", "--out", str(out))
    printed, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    compared = json.loads(printed)
    assert compared == json.loads((out / "comparison.json").read_text())
    assert [(v["policy"], v["seeds"]) for v in compared["variants"]] == [("jsq", [4]), ("hash", [4])]
    reports = [
        json.loads((out / f"{name}-prefer-regular-seed4" / "report.json").read_text()) for name in ("jsq", "hash")
    ]
    for name in ("invocations", "actions", "offered_cores", "available_cores", "rules", "seed"):
        assert reports[0][name] == reports[1][name], name
    assert all(report["succeeded"] == report["invocations"] > 20 for report in reports)
    assert b"run 2 of 2: policy hash, strategy prefer-regular, seed 4" in errors
    assert processes_with(str(short_dir)) == []


@pytest.mark.system
async def test_an_interrupt_stops_the_run_and_shows_what_has_finished(short_dir: Path) -> None:
    out = short_dir / "out"
    process = await compare("--policies", "mws", "--seeds", "4,5", *SHORT, "--out", str(out))
    assert process.stderr is not None
    seen = b""
    while b"run 2 of 2" not in seen:
        line = await process.stderr.readline()
        assert line, seen.decode()
        seen += line
    # The second run is starting its cluster or sending by now.
    process.send_signal(2)
    printed, errors = await process.communicate()
    assert process.returncode == 130, errors.decode()
    assert b"stopped after 1 of 2 runs" in errors
    assert b"invocations" in printed
    assert b"the same invocations" in printed
