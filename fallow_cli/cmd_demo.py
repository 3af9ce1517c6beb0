"""`fallow demo`: the main job, from traces to a report."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import click

from fallow_cli.errors import CliError
from fallow_cli.options import (
    AUTO,
    POLICY_HELP,
    RUNTIME_HELP,
    RUNTIMES,
    STRATEGY_HELP,
    CoreScale,
    known_policy,
    known_strategy,
)

DISCOUNTS = ("Lowest", "Typical", "High", "Best")


def _evictions(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if value in ("none", "trace") or (value.isdigit() and int(value) <= 100):
        return value
    raise click.BadParameter(f"{value!r} is not none, trace or a number up to 100")


@click.command()
@click.option(
    "--invocations", type=click.Path(exists=True, path_type=Path), help="Azure 2021 CSV, or folder of Azure 2019 CSVs."
)
@click.option(
    "--vm-traces",
    type=click.Path(exists=True, path_type=Path),
    help="Folder of harvest VM traces (`seconds cores` lines).",
)
@click.option(
    "--duration",
    "duration_s",
    default=60.0,
    show_default=True,
    type=click.FloatRange(1, 86400),
    help="Seconds of sending.",
)
@click.option(
    "--start", "start_s", default=0.0, type=click.FloatRange(0), help="Begin so many seconds into the invocation trace."
)
@click.option(
    "--speedup",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0.01, 10000),
    help="Divides gaps, durations, CPU, notices, keep-alive.",
)
@click.option(
    "--vm-speedup",
    default=None,
    type=click.FloatRange(0.01, 1e6),
    help="Divides when VMs change; else fitted to the duration.",
)
@click.option(
    "--core-scale",
    default=AUTO,
    show_default=True,
    type=CoreScale(),
    help="Real cores an emulated core; auto = this machine's / 20.",
)
@click.option("--policy", default="mws", show_default=True, callback=known_policy, help=f"{POLICY_HELP}.")
@click.option(
    "--strategy", default="prefer-regular", show_default=True, callback=known_strategy, help=f"{STRATEGY_HELP}."
)
@click.option("--runtime", type=click.Choice(RUNTIMES), default="process", show_default=True, help=RUNTIME_HELP)
@click.option("--seed", default=1, show_default=True, type=int)
@click.option(
    "--evictions", default="2", show_default=True, callback=_evictions, help="none, trace, or how many to inject."
)
@click.option(
    "--target-cores", default=None, type=click.FloatRange(0), help="Replace lost harvest VMs below this sum of cores."
)
@click.option(
    "--retries/--no-retries",
    default=True,
    show_default=True,
    help="Start again what an eviction cuts off; else it fails.",
)
@click.option(
    "--history/--no-history",
    default=False,
    show_default=True,
    help="Tell the strategy beforehand which apps of the trace are long, instead of having it learn.",
)
@click.option(
    "--benchmarks/--no-benchmarks",
    default=None,
    help="Run 10 % of the calls on real benchmark functions [default: if the invocations are generated].",
)
@click.option("--discount", default="Typical", show_default=True, type=click.Choice(DISCOUNTS, case_sensitive=False))
@click.option(
    "--out",
    default=Path("report"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for report.html and report.json.",
)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    default=None,
    help="Keep logs and Redis data here; else a temporary folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print report.json and nothing else.")
def demo(out: Path, state_dir: Path | None, as_json: bool, **options: Any) -> None:
    """Replay an invocation trace while harvest VMs shrink, grow and are evicted; then report.

    Without files both traces are generated from published distributions by --seed.
    """
    from fallow.report.html import write_report
    from fallow.report.summary import summarise
    from fallow.report.text import text_report
    from fallow_cli.demo.folder import state_folder
    from fallow_cli.demo.prepare import DemoOptions, prepare
    from fallow_cli.demo.run import run_demo

    chosen = DemoOptions(**options)
    prepared = prepare(chosen)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise CliError(f"cannot write to {out}: {e.strerror}\ngive another folder with --out") from None
    with state_folder(state_dir) as state:
        run = asyncio.run(run_demo(chosen, prepared, state, quiet=as_json))
    summary = summarise(run)
    html_path, json_path = write_report(run, summary, out)
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    click.echo(text_report(summary))
    click.echo(f"\nreport: {html_path}  {json_path}")
    if summary["lost"]:
        sys.exit(1)
