"""The locust file as a user runs it, and the demo as a user runs it."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import sys
from pathlib import Path

from fallow.traces.benchmarks.profiles import BY_NAME
from support.cluster import cluster_up, processes_with

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


async def test_locust_runs_headless_without_failures(short_dir: Path) -> None:
    async with cluster_up(short_dir, "--vms", "1") as up:
        process = await asyncio.create_subprocess_exec(
            str(BIN / "locust"),
            *("-f", str(ROOT / "loadtest" / "locustfile.py"), "--headless", "--users", "4", "--spawn-rate", "4"),
            *("--run-time", "10s", "--csv", str(short_dir / "load"), "--exit-code-on-error", "1"),
            env={**os.environ, "FALLOW_URL": up.url, "FALLOW_AUTH": up.ready["key"]},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()[-2000:]
    rows = list(csv.DictReader((short_dir / "load_stats.csv").read_text().splitlines()))
    total = next(row for row in rows if row["Name"] == "Aggregated")
    assert int(total["Request Count"]) > 20
    assert int(total["Failure Count"]) == 0


async def test_a_demo_on_own_traces_reports_and_leaves_nothing(short_dir: Path) -> None:
    calls = short_dir / "calls.csv"
    rows = [f"app{n % 3},func{n % 5},{n * 1.0 + 0.4},0.4" for n in range(80)]
    calls.write_text("app,func,end_timestamp,duration\n" + "\n".join(rows) + "\n")
    vms = short_dir / "vms"
    vms.mkdir()
    (vms / "1.txt").write_text("0 8\n40 4\n")
    (vms / "2.txt").write_text("0 6\n20 12\n60 0\n")
    state, out = short_dir / "state", short_dir / "out"
    process = await asyncio.create_subprocess_exec(
        str(BIN / "fallow"),
        *("demo", "--invocations", str(calls), "--vm-traces", str(vms), "--duration", "10", "--speedup", "10"),
        *("--vm-speedup", "10", "--evictions", "trace", "--seed", "3", "--json"),
        *("--state-dir", str(state), "--out", str(out)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    summary = json.loads(printed)
    assert summary == json.loads((out / "report.json").read_text())
    assert (summary["invocations"], summary["succeeded"], summary["lost"]) == (80, 80, 0)
    assert summary["evictions"] == 1
    assert summary["injected"] == 0
    assert summary["actions"] == 15
    assert summary["seed"] == 3
    wanted = {
        "failed",
        "cold_starts",
        "latency_ms",
        "evicted_with_loss",
        "replaced",
        "harvested_core_s",
        "cost",
        "policy",
    }
    assert wanted | {"core_scale", "speedup", "placements", "strategy", "cpu_enforced"} <= set(summary)
    assert set(summary["latency_ms"]) >= {"p50", "p95", "p99"}
    assert set(summary["cost"]) >= {"harvest", "regular"}
    html = (out / "report.html").read_text()
    assert "<svg" in html or "data:image/" in html
    assert processes_with(str(state)) == []


async def test_a_generated_demo_runs_real_functions_too(short_dir: Path) -> None:
    out = short_dir / "out"
    process = await asyncio.create_subprocess_exec(
        str(BIN / "fallow"),
        *("demo", "--duration", "10", "--evictions", "none", "--out", str(out), "--json"),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 100)
    assert process.returncode == 0
    report = json.loads(said)
    assert report == json.loads((out / "report.json").read_text())
    ran = report["benchmarks"]
    assert (report["succeeded"], ran["succeeded"]) == (report["invocations"], ran["calls"])
    assert ran["calls"] == round(0.1 * (report["invocations"] + report["thinned"]))
    assert sum(f["calls"] for f in ran["functions"]) == ran["calls"]
    assert {f["name"] for f in ran["functions"]} <= set(BY_NAME)
    assert all(f["run_p50_ms"] > 1 for f in ran["functions"]), "none of them is an empty call"
    assert "<h2>Benchmark functions</h2>" in (out / "report.html").read_text()
