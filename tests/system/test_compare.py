"""`fallow compare` as a user runs it, on the smallest workload that shows something."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from support.cluster import processes_with

BIN = Path(sys.executable).parent
SHORT = ("--duration", "4", "--speedup", "10", "--evictions", "1")


async def compare(folder: Path, *args: str) -> asyncio.subprocess.Process:
    """Started with `folder` in its environment, by which what it leaves behind can be found."""
    return await asyncio.create_subprocess_exec(
        str(BIN / "fallow"),
        "compare",
        *args,
        *("--out", str(folder / "out")),
        env={**os.environ, "STARTED_BY_TEST": str(folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.system
async def test_two_policies_meet_the_same_workload(short_dir: Path) -> None:
    out = short_dir / "out"
    process = await compare(short_dir, "--policies", "jsq,hash", "--seeds", "4", *SHORT, "--json")
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
    process = await compare(short_dir, "--policies", "mws", "--seeds", "4,5", *SHORT)
    assert process.stderr is not None
    seen = b""
    while b"run 2 of 2" not in seen:
        line = await process.stderr.readline()
        assert line, seen.decode()
        seen += line
    while len(processes_with(str(short_dir))) < 5:
        await asyncio.sleep(0.05)  # until the second run's processes are there
    process.send_signal(signal.SIGINT)
    printed, errors = await process.communicate()
    assert process.returncode == 130, errors.decode()
    assert b"stopped after 1 of 2 runs" in errors
    assert b"invocations" in printed
    assert b"the same invocations" in printed
    assert processes_with(str(short_dir)) == []
