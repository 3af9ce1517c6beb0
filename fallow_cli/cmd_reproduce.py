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

from fallow_cli.errors import CliError
from fallow_cli.output import show_json, show_table

if TYPE_CHECKING:
    from simulator.reproduce.frame import Made

NAMES = ("fig1", "fig2", "fig3", "fig6", "fig12", "fig13", "fig15", "budget", "savings", "evictions")


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option("--quick", is_flag=True, help="Fewer and shorter points: under two minutes in all.")
@click.option("--seed", default=1, show_default=True, type=int)
@click.option(
    "--out",
    default=Path("reproduction"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the figures, claims.json and claims.csv.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the claims as a list, and nothing else.")
def reproduce(names: tuple[str, ...], quick: bool, seed: int, out: Path, as_json: bool) -> None:
    """Run the published evaluation again (all of it, or the NAMES given), and hold its claims against ours.

    What decides is the code that runs live; VMs, containers and time are simulated. A claim is a trend or a ratio: the
    seconds of another machine are shown beside ours, and are none. A claim that does not hold is a result: the exit
    status is 0 all the same.
    """
    from simulator.reproduce.figures import FIGURES
    from simulator.reproduce.frame import Context

    assert set(FIGURES) == set(NAMES)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise CliError(f"cannot write to {out}: {e.strerror}\ngive another folder with --out") from None
    made: list[Made] = []
    for name in names or NAMES:
        started_s = time.monotonic()
        told = _teller(name)
        figure = FIGURES[name](Context(quick=quick, seed=seed, tell=told))
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
        held = sum(claim["holds"] for claim in claims)
        click.echo(f"\n{held} of {len(claims)} claims hold. Figures and claims: {out}")


def _teller(name: str) -> Any:
    """Says on standard error how far a figure has come, where that is a terminal."""

    def tell(text: str) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{name}: {text}", nl=False, err=True)

    return tell


def _plot(figure: Made, out: Path) -> None:
    from fallow.report.reproduction_plot import write_reproduction_plot

    if figure.panels:
        write_reproduction_plot(figure.title, figure.panels, out / f"{figure.name}.png")


def _show(figure: Made) -> None:
    click.echo(f"\n{figure.title}")
    for condition in figure.conditions:
        click.echo(f"  {condition}")
    show_table(
        ("CLAIM", "PAPER", "OURS", "TOLERANCE", "HOLDS", "NOTE"),
        [
            (c.claim, number(c.paper), number(c.ours), c.tolerance, "yes" if c.holds else "NO", c.note)
            for c in figure.claims
        ],
    )


def number(value: float | None) -> str:
    """Four digits that count; all of a share that is nearly one."""
    if value is None:
        return "-"
    return f"{value:.6f}" if 0.999 < value < 1 else f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _write(claims: Sequence[dict[str, Any]], out: Path) -> None:
    (out / "claims.json").write_text(json.dumps(claims, indent=2) + "\n", encoding="utf-8")
    with (out / "claims.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["name", "claim", "paper", "ours", "tolerance", "holds", "note"])
        writer.writeheader()
        writer.writerows(claims)
