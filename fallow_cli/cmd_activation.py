"""`fallow activation ...` and `fallow why`: what ran, and why there."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click

from fallow_cli.client import Client, operator_target, tenant_target, with_client
from fallow_cli.errors import CliError
from fallow_cli.output import show_json, show_table
from fallow_cli.story import story_lines

ACTIVATIONS = "/api/v1/namespaces/_/activations"
STATUS_WORDS = ("success", "application error", "developer error", "internal error")


@click.group()
def activation() -> None:
    """List and show activations."""


@activation.command(name="list")
@click.argument("name", required=False)
@click.option("--limit", "-l", default=30, show_default=True, type=click.IntRange(0, 200))
@click.option("--skip", "-s", default=0, type=click.IntRange(0))
@click.option("--since", type=int, help="Epoch ms, inclusive.")
@click.option("--upto", type=int, help="Epoch ms, inclusive.")
@click.option("--json", "as_json", is_flag=True)
def list_activations(
    name: str | None, limit: int, skip: int, since: int | None, upto: int | None, as_json: bool
) -> None:
    """List activations (of the action NAME), newest first."""
    wanted = {"limit": limit, "skip": skip, "since": since, "upto": upto, "name": name}
    query = {k: str(v) for k, v in wanted.items() if v is not None}

    async def work(client: Client) -> Any:
        return await client.call("GET", ACTIVATIONS, query=query)

    activations = with_client(tenant_target(), work)
    if as_json:
        show_json(activations)
        return
    show_table(
        ("START", "ACTIVATION", "ACTION", "DURATION MS", "STATUS"),
        [
            (_moment(a["start"]), a["activationId"], a["name"], str(a["duration"]), STATUS_WORDS[a["statusCode"]])
            for a in activations
        ],
        empty="no activations",
    )


def _moment(unix_ms: int) -> str:
    return datetime.datetime.fromtimestamp(unix_ms / 1000, tz=datetime.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


@activation.command()
@click.argument("activation_id")
def get(activation_id: str) -> None:
    """Show the record as JSON."""
    show_json(_fetch(activation_id))


@activation.command()
@click.argument("activation_id")
def result(activation_id: str) -> None:
    """Show the result as JSON."""
    show_json(_fetch(activation_id, "/result"))


@activation.command()
@click.argument("activation_id")
def logs(activation_id: str) -> None:
    """Show what the action wrote."""
    for line in _fetch(activation_id, "/logs")["logs"]:
        click.echo(line)


def _fetch(activation_id: str, part: str = "") -> Any:
    async def work(client: Client) -> Any:
        return await client.call("GET", f"{ACTIVATIONS}/{activation_id}{part}")

    return with_client(tenant_target(), work)


@click.command()
@click.argument("activation_id")
@click.option("--json", "as_json", is_flag=True)
@click.option("--state-dir", type=click.Path(path_type=Path), default=None)
def why(activation_id: str, as_json: bool, state_dir: Path | None) -> None:
    """Tell where a recent activation was placed, and why there."""
    story = with_client(operator_target(state_dir), _story_of(activation_id))
    if as_json:
        show_json(story)
        return
    for line in story_lines(story):
        click.echo(line)


def _story_of(activation_id: str) -> Callable[[Client], Awaitable[Any]]:
    async def work(client: Client) -> Any:
        stories = []
        for url in client.target.urls:  # each controller remembers its own decisions
            answer = await client.request("GET", f"/admin/v1/why/{activation_id}", url=url)
            if answer.status == 200:
                stories.append(answer.json())
            elif answer.status != 404:
                raise CliError(f"{url} answered HTTP {answer.status}")
        if not stories:
            raise CliError(
                f"no controller remembers the activation {activation_id}\n"
                "only recent ones are kept; `fallow activation get` shows the record"
            )
        return max(stories, key=lambda story: len(story["steps"]))

    return work
