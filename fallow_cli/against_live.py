"""`fallow simulate --against-live`: the run of `fallow_cli.fidelity`, from options to a table."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import click

from fallow_cli.demo.prepare import DemoOptions
from fallow_cli.demo.run import run_demo
from fallow_cli.fidelity import compare, live_calls, prepare_both, scenario_of, simulated_calls
from fallow_cli.output import show_table
from fallow_cli.state import StateDir

SPEEDUP = 10.0
ROUNDS = 4  # of the part where calls come one at a time


def against_live(
    *,
    policy: str,
    strategy: str,
    seed: int,
    invocations: Path | None,
    vm_traces: Path | None,
    start_s: float,
    duration_s: float,
    quiet: bool,
) -> dict[str, Any]:
    """The same trace on both. Raises CliError where the cluster or the trace cannot be had."""
    options = DemoOptions(
        invocations=invocations,
        vm_traces=vm_traces,
        duration_s=duration_s,
        speedup=SPEEDUP,
        vm_speedup=None,
        core_scale=None,
        start_s=start_s,
        policy=policy,
        strategy=strategy,
        seed=seed,
        evictions="none",
        target_cores=0.0,
        discount="Typical",
        benchmarks=False,
    )
    prepared, first = prepare_both(options, rounds=ROUNDS)
    with tempfile.TemporaryDirectory(prefix="fallow-live-", dir="/tmp") as state:
        run = asyncio.run(run_demo(options, prepared, StateDir(Path(state)), quiet=quiet))
    scenario = scenario_of(options, prepared, prepared.replay)
    head = {
        "policy": policy,
        "strategy": strategy,
        "seed": seed,
        "vms": len(scenario.vms),
        "core_scale": prepared.replay.core_scale,
        "invocation_source": prepared.replay.trace.source,
    }
    return head | compare(live_calls(run), simulated_calls(scenario), first)


def show(found: dict[str, Any]) -> None:
    """For a terminal."""
    one, many = found["sequential"], found["overlapping"]
    click.echo(f"{found['policy']} on {found['vms']} VMs, one emulated core = {found['core_scale']:g} real ones")
    click.echo(f"one call at a time: the same VM for {one['same_vm']} of {one['calls']} calls, ", nl=False)
    click.echo(f"warm or cold alike for {one['same_start']}")
    click.echo(f"overlapping calls: the same VM for {many['same_vm']} of {many['calls']}\n")
    cells = [[_cell(row[name]) for name in ("live", "simulated", "difference")] for row in found["figures"]]
    show_table(
        ("FIGURE", "LIVE", "SIMULATED", "DIFFERENCE"),
        [(row["figure"], *three) for row, three in zip(found["figures"], cells, strict=True)],
    )


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
