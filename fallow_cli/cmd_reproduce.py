"""`fallow reproduce`: the published figures, ours beside them, and which claims hold."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fallow_cli.cmd_compare import each
from fallow_cli.errors import CliError
from fallow_cli.options import known_policy, python_option
from fallow_cli.output import show_json, show_table

if TYPE_CHECKING:
    from simulator.reproduce.frame import Made

HELD = {True: "yes", False: "NO", None: "-"}
NAMES = ("fig1", "fig2", "fig3", "fig6", "fig12", "fig13", "fig15", "budget", "savings", "evictions")


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(NAMES), metavar="[NAME]...")
@click.option("--quick", is_flag=True, help="Fewer and shorter points: under two minutes in all.")
@click.option("--live", is_flag=True, help="With fig13: on a cluster of emulated VMs, in a quarter of an hour.")
@click.option("--seed", default=1, show_default=True, type=int)
@click.option(
    "--out",
    default=Path("reproduction"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the figures, claims.json and claims.csv.",
)
@click.option(
    "--policy", "policies", default="mws,jsq,hash", show_default=True, callback=each(known_policy), help="More curves."
)
@click.option("--invocations", type=click.Path(exists=True, path_type=Path), help="Your own calls: see below.")
@click.option("--vm-traces", type=click.Path(exists=True, path_type=Path), help="Your own VMs.")
@click.option("--start", default=0.0, type=click.FloatRange(0), help="Seconds into your invocations.")
@click.option("--duration", default=1200.0, show_default=True, type=click.FloatRange(1), help="Seconds of them.")
@python_option
@click.option("--json", "as_json", is_flag=True, help="Print the claims as a list, and nothing else.")
def reproduce(
    names: tuple[str, ...],
    quick: bool,
    live: bool,
    seed: int,
    out: Path,
    policies: tuple[str, ...],
    invocations: Path | None,
    vm_traces: Path | None,
    start: float,
    duration: float,
    python: str | None,
    as_json: bool,
) -> None:
    """Run the published evaluation again (all of it, or the NAMES given), and hold its claims against ours.

    What decides is the code that runs live; VMs, containers and time are simulated. A claim is a trend or a ratio: the
    seconds of another machine are shown beside ours, and are none. A claim that does not hold is a result: the exit
    status is 0 all the same.

    The names are fig1, fig2, fig3, fig6, fig12, fig13, fig15, budget, savings and evictions.

    With --live figure 13 is made by the platform itself: the mix on ten emulated VMs, at three rates under every
    policy, 15 times faster than published (9 points, 13 minutes; with --quick 3 points, 2 minutes). The same calls
    are simulated, and the claim is that live and simulated agree. Nothing else should keep this machine busy
    meanwhile: where it was the limit, the claims say so.

    With --invocations or --vm-traces the claims that can be are run on those instead: cold starts and tails of the
    policies.
    """
    from fallow.core.policies.guarded import WrongPolicyError
    from fallow.traces.errors import TraceError
    from simulator.reproduce.figures import FIGURES
    from simulator.reproduce.frame import Context
    from simulator.reproduce.load import own

    figures = FIGURES
    if live:
        from fallow_cli.live_figure import live_fig13

        if names != ("fig13",):
            raise click.UsageError("--live makes figure 13 and no other: fallow reproduce fig13 --live")
        if invocations or vm_traces:
            raise click.UsageError("--live runs the published mix and VMs: leave out --invocations and --vm-traces")
        figures = {"fig13": live_fig13}
    elif invocations or vm_traces:
        if names:
            raise click.UsageError("figures of the paper cannot be made of your own data: leave out the names")
        figures = {"own": own}
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise CliError(f"cannot write to {out}: {e.strerror}\ngive another folder with --out") from None
    made: list[Made] = []
    for name in names or figures:
        started_s = time.monotonic()
        told = _teller(name)
        context = Context(
            quick=quick,
            seed=seed,
            policies=policies,
            invocations=invocations,
            vm_traces=vm_traces,
            start_s=start,
            duration_s=duration,
            python=python,
            tell=told,
        )
        try:
            figure = figures[name](context)
        except (TraceError, ValueError, WrongPolicyError) as e:
            raise CliError(str(e)) from None
        told(f"{time.monotonic() - started_s:.0f} s\n")
        made.append(figure)
        _plot(figure, out)
        if not as_json:
            _show(figure)
    claims = [claim.as_json() for figure in made for claim in figure.claims]
    _write(claims, out)
    if as_json:
        show_json(claims)
    else:
        held = [claim["holds"] for claim in claims if claim["holds"] is not None]
        click.echo(f"\n{sum(held)} of {len(held)} claims hold. Figures and claims: {out}")


def _teller(name: str) -> Any:
    """Says on standard error how far a figure has come: in one line of a terminal, elsewhere when it has ended."""

    def tell(text: str) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{name}: {text}", nl=False, err=True)
        elif text.endswith("\n"):
            click.echo(f"{name}: {text}", nl=False, err=True)

    return tell


def _plot(figure: Made, out: Path) -> None:
    """The figure as PNG, and its curves as tidy CSV: one row a point."""
    from fallow.report.reproduction_plot import write_reproduction_plot

    with (out / f"{figure.name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("panel", "curve", "source", "x", "y"))
        for panel in figure.panels:
            sources = ((panel.source, panel.ours), ("simulated", panel.simulated), ("published", panel.paper))
            for source, curves in sources:
                for curve, points in curves.items():
                    writer.writerows((panel.title, curve, source, x, y) for x, y in points)

    if figure.panels:
        write_reproduction_plot(figure.title, figure.panels, out / f"{figure.name}.png")


def _show(figure: Made) -> None:
    click.echo(f"\n{figure.title}")
    for condition in figure.conditions:
        click.echo(f"  {condition}")
    if figure.table:
        show_table(figure.table[0], figure.table[1:])
        click.echo()
    show_table(
        ("CLAIM", "PAPER", "OURS", "TOLERANCE", "HOLDS", "NOTE"),
        [(c.claim, number(c.paper), number(c.ours), c.tolerance, HELD[c.holds], c.note) for c in figure.claims],
    )


def number(value: float | None) -> str:
    """Four digits that count; all of a share that is nearly one."""
    if value is None:
        return "-"
    return f"{value:.7f}" if 0.999 < value < 1 else f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _write(claims: Sequence[dict[str, Any]], out: Path) -> None:
    (out / "claims.json").write_text(json.dumps(claims, indent=2) + "\n", encoding="utf-8")
    with (out / "claims.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["name", "claim", "paper", "ours", "tolerance", "holds", "note"])
        writer.writeheader()
        writer.writerows(claims)
