"""A point of figure 13 on a live cluster of ten VMs, and what a Ctrl-C leaves of the command."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from fallow_cli.live_figure import CORE_SCALE, SPEEDUP
from fallow_cli.live_point import Setting, run_point
from simulator.clusters import NORMAL
from support.cluster import processes_with

BIN = Path(sys.executable).parent


@pytest.mark.system
def test_a_short_point_goes_live_as_simulated(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STARTED_BY_TEST", str(short_dir))
    setting = Setting(policy="hash", rate_per_s=2.5, window_s=75.0, speedup=SPEEDUP, core_scale=CORE_SCALE, seed=1)
    point = run_point(setting)
    assert (point.policy, point.rate_per_s) == ("hash", 2.5)
    assert point.calls >= 100
    assert point.live.unended == point.simulated.unended == 0
    assert 0.5 < point.simulated.cold_share < 1, "401 functions, and few of them called twice"
    assert point.live.cold_share == pytest.approx(point.simulated.cold_share, abs=0.1)
    assert point.live.p99_s > 0
    assert point.busy_cores > 0
    assert processes_with(str(short_dir)) == []


@pytest.mark.system
async def test_an_interrupt_leaves_nothing_behind(short_dir: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        str(BIN / "fallow"),
        *("reproduce", "fig13", "--live", "--quick", "--out", str(short_dir / "out")),
        env={**os.environ, "STARTED_BY_TEST": str(short_dir)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        while len(processes_with(str(short_dir))) < 1 + len(NORMAL):  # the VMs are coming up
            await asyncio.sleep(0.05)
    process.send_signal(signal.SIGINT)
    printed, errors = await process.communicate()
    assert process.returncode == 130
    assert printed == b""
    assert b"Traceback" not in errors
    assert processes_with(str(short_dir)) == []
    assert list((short_dir / "out").iterdir()) == []
