"""`fallow compare`: the demo under several policies or strategies, side by side."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fallow_cli.cmd_demo import demo
from fallow_cli.errors import CliError
from fallow_cli.options import known_policy, known_strategy

_OWN = {"policy", "strategy", "seed", "out", "state_dir", "as_json"}  # of the demo's options, those that differ here
Callback = Callable[[click.Context, click.Parameter, str], Any]


def each(check: Callable[[click.Context, click.Parameter, str], object]) -> Callback:
    """A callback for a list with commas: every item by itself is checked, empty and doubled ones are refused."""

    def callback(ctx: click.Context, param: click.Parameter, value: str) -> tuple[Any, ...]:
        items = [item.strip() for item in value.split(",")]
        if not all(items):
            raise click.BadParameter(f"{value!r} has an empty item: give names with commas between them")
        checked = tuple(check(ctx, param, item) for item in items)
        if twice := [item for item, one in zip(items, checked, strict=True) if checked.count(one) > 1]:
            raise click.BadParameter(f"{twice[-1]!r} is named twice")
        return checked

    return callback


def _seed(ctx: click.Context, param: click.Parameter, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no whole number") from None


@click.command()
@click.option(
    "--policies",
    "--policy",
    "policies",
    default="mws,jsq,hash",
    show_default=True,
    callback=each(known_policy),
    help="Placement policies, with commas.",
)
@click.option(
    "--strategies",
    "--strategy",
    "strategies",
    default="prefer-regular",
    show_default=True,
    callback=each(known_strategy),
    help="Eviction strategies, with commas: each policy runs under each.",
)
@click.option(
    "--seeds", "--seed", "seeds", default="1,2,3", show_default=True, callback=each(_seed), help="Runs of each."
)
@click.option(
    "--out",
    default=Path("comparison"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for comparison.json, and a folder with the report of each run.",
)
@click.option("--markdown", "as_markdown", is_flag=True, help="Print a Markdown table.")
@click.option("--json", "as_json", is_flag=True, help="Print comparison.json and nothing else.")
def compare(
    policies: tuple[str, ...],
    strategies: tuple[str, ...],
    seeds: tuple[int, ...],
    out: Path,
    as_markdown: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Run the demo once for each policy, strategy and seed, and print what came of it side by side.

    Runs of one seed share everything but policy and strategy: invocations, VM traces, and the moments of injected
    evictions. They take turns seed by seed, each about --duration and ten seconds more. Ctrl-C stops the present one
    and shows those that have finished. The other options are those of `fallow demo`.
    """
    from fallow.report.comparison import document
    from fallow_cli.compare.runs import Run, carry_out, carry_out_all, in_turns, prepare_all
    from fallow_cli.demo.prepare import DemoOptions

    if as_json and as_markdown:
        raise click.UsageError("--json and --markdown exclude each other")
    chosen = DemoOptions(policy=policies[0], strategy=strategies[0], seed=seeds[0], **options)
    prepared = prepare_all(chosen, seeds)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise CliError(f"cannot write to {out}: {e.strerror}\ngive another folder with --out") from None

    def make(run: Run) -> dict[str, Any]:
        return carry_out(run, chosen, prepared[run.seed], out, quiet=not sys.stderr.isatty())

    turns = in_turns(policies, strategies, seeds)
    summaries, ended_by = carry_out_all(turns, make, lambda line: click.echo(line, err=True))
    if summaries:
        compared = document(summaries)
        (out / "comparison.json").write_text(json.dumps(compared, indent=2) + "\n", encoding="utf-8")
        _show(summaries, compared, as_markdown=as_markdown, as_json=as_json)
        click.echo(f"reports: {out}", err=True)
    if ended_by is not None:
        click.echo(f"stopped after {len(summaries)} of {len(turns)} runs", err=True)
        raise ended_by
    if any(summary["lost"] for summary in summaries):
        sys.exit(1)


def _show(summaries: list[dict[str, Any]], compared: dict[str, Any], *, as_markdown: bool, as_json: bool) -> None:
    from fallow.report.comparison import columns, markdown, plain, rows

    if as_json:
        click.echo(json.dumps(compared, indent=2))
        return
    table = rows(columns(summaries))
    click.echo((markdown if as_markdown else plain)(table) + "\n")
    for line in compared["conditions"]:
        click.echo(f"{'- ' if as_markdown else '  '}{line}")


compare.params.extend(param for param in demo.params if param.name not in _OWN)
