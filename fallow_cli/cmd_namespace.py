"""`fallow namespace ...` and `fallow list`: what there is in a namespace."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from fallow_cli.client import Client, tenant_target, with_client
from fallow_cli.cmd_action import show_actions
from fallow_cli.cmd_package import show_packages
from fallow_cli.cmd_rule import show_rules, with_status
from fallow_cli.cmd_trigger import show_triggers
from fallow_cli.entities import NAMESPACES, OWN, asked, collection_path, json_option
from fallow_cli.output import show_json

_ALL = {"limit": "0"}  # the most that a list gives


@click.group()
def namespace() -> None:
    """Show namespaces."""


@namespace.command(name="list")
@json_option
def list_namespaces(as_json: bool) -> None:
    """List the namespaces that the key opens."""
    names = asked("GET", NAMESPACES)
    if as_json:
        show_json(names)
        return
    for name in names:
        click.echo(name)


@namespace.command()
@click.argument("name", metavar="NAMESPACE", default=OWN)
@json_option
def get(name: str, as_json: bool) -> None:
    """Show what there is in NAMESPACE, or in one's own."""
    _show_contents(name, as_json=as_json)


@click.command(name="list")
@click.argument("name", metavar="NAMESPACE", default=OWN)
@json_option
def list_all(name: str, as_json: bool) -> None:
    """List the packages, actions, triggers and rules of NAMESPACE, or of one's own."""
    _show_contents(name, as_json=as_json)


def _show_contents(name: str, *, as_json: bool) -> None:
    async def work(client: Client) -> dict[str, Any]:
        collections = ("packages", "actions", "triggers", "rules")
        paths = (collection_path(collection, name) for collection in collections)
        lists = await asyncio.gather(*(client.call("GET", path, query=_ALL) for path in paths))
        contents = dict(zip(collections, lists, strict=True))
        return contents | {"rules": await with_status(client, contents["rules"])}

    contents = with_client(tenant_target(), work)
    if as_json:
        show_json(contents)
        return
    show_packages(contents["packages"])
    for show, collection in ((show_actions, "actions"), (show_triggers, "triggers"), (show_rules, "rules")):
        click.echo()
        show(contents[collection])
