"""`fallow limits get|set|unset NAMESPACE`: how much a namespace of a running cluster may call."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from fallow_cli.client import Client, operator_target, with_client
from fallow_cli.output import show_json

NAMES = ("invocations_per_minute", "concurrent_invocations", "fires_per_minute")
state_dir_option = click.option("--state-dir", type=click.Path(path_type=Path), default=None)
json_option = click.option("--json", "as_json", is_flag=True)


@click.group()
def limits() -> None:
    """Show and set limits of namespaces."""


@limits.command(name="get")
@click.argument("namespace")
@json_option
@state_dir_option
def get(namespace: str, as_json: bool, state_dir: Path | None) -> None:
    """Show what holds for NAMESPACE."""
    _show(_call(state_dir, "GET", namespace), as_json=as_json)


@limits.command(name="set")
@click.argument("namespace")
@click.option("--invocations-per-minute", type=click.IntRange(0))
@click.option("--concurrent-invocations", type=click.IntRange(0))
@click.option("--fires-per-minute", type=click.IntRange(0))
@json_option
@state_dir_option
def set_command(namespace: str, as_json: bool, state_dir: Path | None, **given: int | None) -> None:
    """Set limits of NAMESPACE; those not given stay as they are. 0 lets nothing pass."""
    document = {name: limit for name, limit in given.items() if limit is not None}
    if not document:
        raise click.UsageError("give at least one limit")
    _show(_call(state_dir, "PUT", namespace, document), as_json=as_json)


@limits.command()
@click.argument("namespace")
@click.argument("names", nargs=-1, type=click.Choice([name.replace("_", "-") for name in NAMES]))
@json_option
@state_dir_option
def unset(namespace: str, names: tuple[str, ...], as_json: bool, state_dir: Path | None) -> None:
    """Have the cluster's defaults hold for NAMESPACE again: for the limits NAMES, or for all of them."""
    document = dict.fromkeys(name.replace("-", "_") for name in names) if names else None
    shown = _call(state_dir, "PUT" if document else "DELETE", namespace, document)
    _show(shown, as_json=as_json)


def _show(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(document)
        return
    for name in NAMES:
        origin = "set" if name in document["set"] else "default"
        click.echo(f"{name.replace('_', '-'):24}{document[name]:>10}  {origin}")


def _call(state_dir: Path | None, method: str, namespace: str, document: object = None) -> Any:
    async def work(client: Client) -> Any:
        return await client.call(method, f"/admin/v1/limits/{quote(namespace, safe='')}", document=document)

    return with_client(operator_target(state_dir), work)
