"""`fallow simulate`: the live scheduler in virtual time, at any scale."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from fallow.report.price import DISCOUNTS
from fallow_cli.cmd_compare import each
from fallow_cli.errors import CliError
from fallow_cli.options import STRATEGY_HELP, known_policy, known_strategy, python_option
from fallow_cli.output import show_json, show_table

if TYPE_CHECKING:
    from simulator.sweep import Point

LIVE_DURATION_S = 20.0  # of --against-live, real
LIVE_OPTIONS = frozenset(
    {"policies", "strategy", "seed", "invocations", "vm_traces", "start", "duration", "against_live", "as_json"}
)
COLUMNS = ("POLICY", "CALLS", "SUCCESS", "COLD", "P50 MS", "P95 MS", "P99 MS", "WAIT P95 MS", "CPU USED", "EVICTIONS")


def _cores(ctx: click.Context, param: click.Parameter, value: str) -> tuple[float, ...]:
    try:
        cores = tuple(float(item) for item in value.split(",") if item.strip())
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of numbers") from None
    if any(not 0 < count <= 1024 for count in cores):
        raise click.BadParameter("cores are between 0 and 1024")
    return cores


@click.command()
@click.option(
    "--policy", "policies", default="mws,jsq,hash", show_default=True, callback=each(known_policy), help="With commas."
)
@click.option("--strategy", default="prefer-regular", show_default=True, callback=known_strategy, help=STRATEGY_HELP)
@click.option(
    "--invocations",
    type=click.Path(exists=True, path_type=Path),
    help="Azure trace (2019 or 2021), instead of --workload.",
)
@click.option(
    "--workload",
    type=click.Choice(["mix", "generated"]),
    default="mix",
    show_default=True,
    help="mix: the benchmark functions; generated: drawn from the published distributions.",
)
@click.option("--rate", default=10.0, show_default=True, type=click.FloatRange(0.001, 1e6), help="Calls a second.")
@click.option(
    "--work",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.001, 1e6),
    help="The mix: times the measured CPU time of each call.",
)
@click.option("--vm-traces", type=click.Path(exists=True, path_type=Path), help="Folder, instead of --cluster.")
@click.option(
    "--cluster", default="normal", show_default=True, help="normal, active, dedicated, or generated:N for N VMs."
)
@click.option("--regular", default="", callback=_cores, help="Cores of regular VMs beside it, with commas.")
@click.option(
    "--memory-mb", default=16384, show_default=True, type=click.IntRange(128, 1 << 24), help="Memory of each VM."
)
@click.option("--start", default=0.0, type=click.FloatRange(0), help="Seconds into the invocations.")
@click.option("--duration", default=1200.0, show_default=True, type=click.FloatRange(1), help="Seconds of arrivals.")
@click.option(
    "--target-cores",
    default=0.0,
    type=click.FloatRange(0),
    help="Order harvest VMs below this sum of cores; 0 = never.",
)
@click.option("--controllers", default=1, show_default=True, type=click.IntRange(1, 100))
@click.option("--retries/--no-retries", default=True, help="May a call that an eviction cut off be started again?")
@click.option("--discount", default="Typical", show_default=True, type=click.Choice(list(DISCOUNTS)))
@click.option("--seed", default=1, show_default=True, type=int)
@python_option
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for simulation.json, .csv, .png.")
@click.option(
    "--against-live",
    is_flag=True,
    help="Play a short trace on a live local cluster too, under one policy, and show what differs [--duration: 20].",
)
@click.option("--json", "as_json", is_flag=True, help="Print a list with one object a policy, and nothing else.")
@click.pass_context
def simulate(
    ctx: click.Context,
    policies: tuple[str, ...],
    strategy: str,
    invocations: Path | None,
    workload: str,
    rate: float,
    work: float,
    vm_traces: Path | None,
    cluster: str,
    regular: tuple[float, ...],
    memory_mb: int,
    start: float,
    duration: float,
    target_cores: float,
    controllers: int,
    retries: bool,
    discount: str,
    seed: int,
    python: str | None,
    out: Path | None,
    against_live: bool,
    as_json: bool,
) -> None:
    """Run a workload through the live scheduler in virtual time, once a policy.

    What decides is the code that runs live; time, VMs and containers are simulated. The same options and seed give the
    same result, call by call. Several policies run side by side, one a core.
    """
    from fallow.core.policies.guarded import WrongPolicyError

    if against_live:
        _against_live(ctx, as_json)
        return
    from fallow.traces.errors import TraceError
    from simulator.sweep import Point

    points = [
        Point(
            policy=policy,
            strategy=strategy,
            seed=seed,
            cluster=cluster,
            vm_traces=vm_traces,
            regular=regular,
            vm_memory_mb=float(memory_mb),
            workload=workload,
            invocations=invocations,
            rate_per_s=rate,
            work=work,
            start_s=start,
            duration_s=duration,
            target_cores=target_cores,
            controllers=controllers,
            retries=retries,
            discount=discount,
        )
        for policy in policies
    ]
    try:
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
        summaries = _run(points, python, quiet=as_json or not sys.stderr.isatty())
    except (TraceError, ValueError, WrongPolicyError) as e:
        raise CliError(str(e)) from None
    except OSError as e:
        raise CliError(f"cannot write to {out}: {e.strerror}\ngive another folder with --out") from None
    if out is not None:
        _write(summaries, out)
    if as_json:
        show_json(summaries)
    else:
        show_table(COLUMNS, [_row(summary) for summary in summaries])
        if out is not None:
            click.echo(f"\nfigures: {out / 'simulation.json'}  {out / 'simulation.csv'}  {out / 'simulation.png'}")


def _against_live(ctx: click.Context, as_json: bool) -> None:
    from fallow.core.policies.guarded import WrongPolicyError
    from fallow_cli.against_live import against_live, show

    given = {name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if left := sorted(given - LIVE_OPTIONS):
        raise click.UsageError(f"--against-live has no use for --{left[0].replace('_', '-')}")
    policies = ctx.params["policies"] if "policies" in given else ("mws",)
    if len(policies) > 1:
        raise click.UsageError("--against-live takes one policy")
    try:
        found = against_live(
            policy=policies[0],
            strategy=ctx.params["strategy"],
            seed=ctx.params["seed"],
            invocations=ctx.params["invocations"],
            vm_traces=ctx.params["vm_traces"],
            start_s=ctx.params["start"],
            duration_s=ctx.params["duration"] if "duration" in given else LIVE_DURATION_S,
            quiet=as_json or not sys.stderr.isatty(),
        )
    except WrongPolicyError as e:
        raise CliError(str(e)) from None
    if as_json:
        show_json(found)
    else:
        show(found)


def _run(points: Sequence[Point], python: str | None, *, quiet: bool) -> list[dict[str, Any]]:
    from simulator.sweep import scenario_of, sweep

    if quiet:
        return sweep(points, python=python)
    with _bars([point.policy for point in points], scenario_of(points[0]).workload.window_s) as progress:
        return sweep(points, progress=progress, python=python)


@contextmanager
def _bars(names: Sequence[str], window_s: float) -> Iterator[Callable[[int, float, int], None]]:
    """A bar each on standard error: simulated time, rate, and what is left."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
        tasks = [progress.add_task(name, total=window_s, text="waiting", start=False) for name in names]

        def show(index: int, now_s: float, ended: int) -> None:
            task = progress.tasks[index]
            if task.start_time is None:
                progress.start_task(tasks[index])
            rate = ended / task.elapsed if task.elapsed else 0.0
            text = f"{now_s:,.0f} s simulated, {ended:,} calls, {rate:,.0f}/s"
            progress.update(tasks[index], completed=min(now_s, window_s), text=text)

        yield show


def _row(s: dict[str, Any]) -> tuple[str, ...]:
    used = s["used_core_s"] / s["offered_core_s"] if s["offered_core_s"] else 0.0
    return (
        s["policy"],
        f"{s['invocations']:,}",
        _share(s["success_rate"]),
        _share(s["cold_start_share"]),
        *(_number(s["latency_ms"][q]) for q in ("p50", "p95", "p99")),
        _number(s["wait_ms"]["p95"]),
        f"{used:.1%}",
        str(s["evictions"]),
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _write(summaries: Sequence[dict[str, Any]], out: Path) -> None:
    """The figures as JSON, tidy CSV (one row a policy and figure) and a plot."""
    from fallow.report.simulation_plot import write_simulation_plot

    (out / "simulation.json").write_text(json.dumps(summaries, indent=2) + "\n", encoding="utf-8")
    with (out / "simulation.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("policy", "strategy", "cluster", "rate_per_s", "figure", "value"))
        for summary in summaries:
            head = [summary[name] for name in ("policy", "strategy", "cluster", "rate_per_s")]
            writer.writerows([*head, name, value] for name, value in flat(summary))
    write_simulation_plot(summaries, out / "simulation.png")


def flat(summary: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float | None]]:
    """Every number of a summary by its dotted name."""
    for name, value in summary.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        elif value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            yield f"{prefix}{name}", value
