"""`fallow activation ...` and `fallow why`: what ran, and why there."""

from __future__ import annotations

import asyncio
import datetime
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click

from fallow.infra.clock import mono_s, unix_ms
from fallow_cli.client import Client, Target, operator_target, server_words, tenant_target, with_client
from fallow_cli.errors import CliError
from fallow_cli.output import show_json, show_table
from fallow_cli.story import story_lines
from fallow_cli.story_merge import merge

ACTIVATIONS = "/api/v1/namespaces/_/activations"
POLL_PERIOD_S = 1.0
POLL_BACK_MS = 60_000
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
            (
                _moment(a["start"]),
                a["activationId"],
                a["name"],
                str(a.get("duration", "-")),
                STATUS_WORDS[a["statusCode"]],
            )
            for a in activations
        ],
        empty="no activations",
    )


@activation.command()
@click.argument("name", required=False)
@click.option("--since", type=int, help="Epoch ms, inclusive [default: now].")
@click.option("--exit", "exit_s", type=click.FloatRange(0), help="Stop after so many seconds [default: at Ctrl-C].")
def poll(name: str | None, since: int | None, exit_s: float | None) -> None:
    """Show activations (of the action NAME) as they end, with what they wrote."""
    with_client(tenant_target(), lambda client: _poll(client, name, since, exit_s))


async def _poll(client: Client, name: str | None, since: int | None, exit_s: float | None) -> None:
    """A record may come a while after its start, so each look goes back some seconds behind the one before it."""
    shown: dict[str, int] = {}  # id to start
    from_ms = unix_ms() if since is None else since
    stop_s = None if exit_s is None else mono_s() + exit_s
    while True:
        query = {"limit": "0", "docs": "true", "since": str(from_ms)} | ({"name": name} if name else {})
        for record in reversed(await client.call("GET", ACTIVATIONS, query=query)):
            if record["activationId"] not in shown:
                shown[record["activationId"]] = record["start"]
                for line in poll_lines(record):
                    click.echo(line)
        from_ms = max(from_ms, max(shown.values(), default=0) - POLL_BACK_MS)
        shown = {activation_id: start for activation_id, start in shown.items() if start >= from_ms}
        if stop_s is not None and mono_s() >= stop_s:
            return
        await asyncio.sleep(POLL_PERIOD_S)


def poll_lines(record: dict[str, Any]) -> list[str]:
    """An activation and its log, as `poll` shows them."""
    head = f"{_moment(record['start'])} {record['activationId']} {record['name']}: {record['response']['status']}"
    return [head, *(f"  {line}" for line in record["logs"])]


def _moment(at_unix_ms: int) -> str:
    return datetime.datetime.fromtimestamp(at_unix_ms / 1000, tz=datetime.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


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
@click.option("--json", "as_json", is_flag=True, help="The same facts for a program; keys end in their unit.")
@click.option("--state-dir", type=click.Path(path_type=Path), default=None)
def why(activation_id: str, as_json: bool, state_dir: Path | None) -> None:
    """Tell the story of an activation: attempts, VMs considered, waits by cause, notices and shrinks, cost.

    With the operator's key any activation, with FALLOW_AUTH those of its own namespace.
    """
    wanted = activation_id.strip().lower()
    if not re.fullmatch("[0-9a-f]{32}", wanted):
        raise CliError(
            f"{activation_id!r} is no activation id: one has 32 hexadecimal digits\n"
            "`fallow activation list` shows the latest"
        )
    target, path = _who_asks(state_dir)
    story = with_client(target, _story_of(wanted, path))
    if as_json:
        show_json(story)
        return
    for line in story_lines(story):
        click.echo(line)


def _who_asks(state_dir: Path | None) -> tuple[Target, str]:
    """Whose key is there, and the route for it: the operator's unless FALLOW_AUTH or FALLOW_URL names a tenant."""
    tenant = os.environ.get("FALLOW_AUTH") or os.environ.get("FALLOW_URL")
    if os.environ.get("FALLOW_OPERATOR_AUTH") or not tenant:
        try:
            return operator_target(state_dir), "/admin/v1/why/{id}"
        except CliError:
            if state_dir is not None:
                raise
    return tenant_target(state_dir), ACTIVATIONS + "/{id}/why"


def _story_of(activation_id: str, path: str) -> Callable[[Client], Awaitable[Any]]:
    async def work(client: Client) -> Any:
        parts, missing = [], []
        for url in client.target.urls:  # each controller remembers its own steps
            try:
                answer = await client.request("GET", path.format(id=activation_id), url=url)
            except CliError as e:
                missing.append(f"The controller at {url} did not tell its part: {e.lines()[0]}.")
                continue
            if answer.status == 200:
                parts.append(answer.json())
            elif answer.status != 404:
                missing.append(f"The controller at {url} did not tell its part: {server_words(answer)}.")
        if not parts and missing:
            raise CliError("\n".join(missing))
        if not parts:
            raise CliError(
                f"nothing is known of activation {activation_id}: no controller remembers it, and it has no record\n"
                "a refused call leaves none; another namespace's is not shown; `fallow activation list` shows yours"
            )
        return merge(parts, missing, asked=len(client.target.urls))

    return work
