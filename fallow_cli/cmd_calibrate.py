"""`fallow calibrate`: how near the generated traces come to the published figures."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fallow_cli.errors import CliError
from fallow_cli.output import show_json, show_table

if TYPE_CHECKING:
    from fallow.traces.generated.calibration import Calibration, Row

COLUMNS = ("figure", "quantile", "unit", "basis", "published", "ours", "difference", "allowed", "holds")
PAGE_BEGIN = "<!-- table: begin -->"
PAGE_END = "<!-- table: end -->"


@click.command()
@click.option("--seed", default=1, show_default=True, type=int, help="Of the traces that are measured.")
@click.option(
    "--out",
    default=Path("report"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for calibration.png and calibration.csv.",
)
@click.option(
    "--page",
    default=None,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Also renew the table in this Markdown page, between its two marks.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON and nothing else.")
def calibrate(seed: int, out: Path, page: Path | None, as_json: bool) -> None:
    """Measure what the trace generators produce against the published figures.

    Draws two weeks of invocations and years of harvest VMs by --seed. Exits with 1 if any figure is off by more than
    its tolerance.
    """
    from fallow.traces.generated import calibration

    around = None if page is None else _around_table(page)
    try:
        out.mkdir(parents=True, exist_ok=True)
        made = calibration.calibrate(seed)
        png, table = out / "calibration.png", out / "calibration.csv"
        _write_plot(made, png)
        _write_csv(made, table)
        if page is not None and around is not None:
            page.write_text(_markdown(made).join(around), encoding="utf-8")
    except OSError as e:
        raise CliError(f"cannot write {e.filename or out}: {e.strerror}\ngive another folder with --out") from None
    if as_json:
        show_json({"seed": seed, "holds": not made.broken, "rows": [document(row) for row in made.rows]})
    else:
        show_table(COLUMNS, [cells(row) for row in made.rows])
        click.echo(f"\n{verdict(made)}\nplot and table: {png}  {table}")
    if made.broken:
        sys.exit(1)


def verdict(made: Calibration) -> str:
    if not made.broken:
        return f"seed {made.seed}: all {len(made.rows)} figures hold"
    names = ", ".join(f"{row.name} {row.quantile}".strip() for row in made.broken)
    return f"seed {made.seed}: {len(made.broken)} of {len(made.rows)} figures do not hold: {names}"


def document(row: Row) -> dict[str, object]:
    """A row for JSON and CSV; `tolerance` is None where the published value is a bound."""
    return {
        "name": row.name,
        "quantile": row.quantile,
        "unit": row.unit,
        "basis": row.basis,
        "published": float(f"{row.published:.6g}"),
        "ours": float(f"{row.ours:.6g}"),
        "difference": round(row.difference, 5),
        "rule": row.rule,
        "tolerance": row.tolerance if row.rule == "within" else None,
        "holds": row.holds,
    }


def cells(row: Row) -> tuple[str, ...]:
    """A row of the printed table."""
    return (
        row.name,
        row.quantile,
        row.unit,
        row.basis,
        number(row.published),
        number(row.ours),
        f"{row.difference:+.1%}",
        f"{row.tolerance:.0%}" if row.rule == "within" else row.rule,
        "yes" if row.holds else "NO",
    )


def number(value: float) -> str:
    """Four digits that count; whole from ten thousand on."""
    return f"{value:,.0f}" if value >= 1e4 else f"{value:.4g}"


def _write_plot(made: Calibration, path: Path) -> None:
    from fallow.report.calibration_plot import Panel, Share, write_calibration_plot
    from fallow.traces.generated.calibration import BODY, TAIL

    panels = [
        Panel(
            title=curve.name,
            unit=curve.unit,
            basis=curve.basis,
            published=curve.published,
            ours=curve.ours,
            differences=curve.differences,
        )
        for curve in made.curves
    ]
    shares = [
        Share(title=row.name, published=row.published, ours=row.ours, bound=row.rule == "at least")
        for row in made.rows
        if row.quantile == "share"
    ]
    write_calibration_plot(panels, shares, ((0.1, 0.9, BODY), (0.9, 0.99, TAIL)), path)


def _write_csv(made: Calibration, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(document(made.rows[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(document(row) for row in made.rows)


def _around_table(page: Path) -> tuple[str, str]:
    """What stands before and after the page's table, with the marks."""
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise CliError(f"{page}: cannot be read as text: {e}") from None
    before, begin, rest = text.partition(PAGE_BEGIN)
    _, end, after = rest.partition(PAGE_END)
    if not begin or not end:
        raise CliError(f"{page}: holds no table to renew\nput the lines {PAGE_BEGIN} and {PAGE_END} where it belongs")
    return before + begin, end + after


def _markdown(made: Calibration) -> str:
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *map(cells, made.rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"\n{table}\n\n{verdict(made)}.\n"
