"""`fallow trigger ...`: what rules react to, fired by hand or by a feed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from fallow_cli import feeds
from fallow_cli.client import Client, tenant_target, with_client
from fallow_cli.entities import (
    OWN,
    annotation_option,
    arguments,
    asked,
    collection_path,
    entity_path,
    full_name,
    json_option,
    key_values,
    listed,
    overwriting,
    page_options,
    param_file_option,
    param_option,
    show_done,
    show_list,
)
from fallow_cli.errors import CliError
from fallow_cli.output import show_json


@click.group()
def trigger() -> None:
    """Create, change, fire and remove triggers."""


@trigger.command()
@click.argument("name")
@click.option("--feed", help="The feed action that fires it; parameters are the feed's then.")
@param_option()
@param_file_option
@annotation_option
@json_option
def create(
    name: str,
    feed: str | None,
    param: dict[str, Any],
    param_file: Path | None,
    annotation: dict[str, Any],
    as_json: bool,
) -> None:
    """Create the trigger NAME, and have a feed fire it where one is given."""
    given = arguments(param, param_file)
    document = trigger_document(feed, given, annotation)

    async def work(client: Client) -> Any:
        entity = await client.call("PUT", entity_path(name, "trigger"), document=document)
        if feed is not None:
            try:
                await feeds.tell(client, feed, "CREATE", entity, given)
            except CliError:
                await client.request("DELETE", entity_path(name, "trigger"))
                raise
        return entity

    show_done("created", with_client(tenant_target(), work), as_json=as_json)


@trigger.command()
@click.argument("name")
@param_option()
@param_file_option
@annotation_option
@json_option
def update(
    name: str, param: dict[str, Any], param_file: Path | None, annotation: dict[str, Any], as_json: bool
) -> None:
    """Change the trigger NAME, or create it; what is not given stays. Parameters of a feed's trigger are the feed's."""
    given = arguments(param, param_file)

    async def work(client: Client) -> Any:
        path = entity_path(name, "trigger")
        before = await client.request("GET", path)
        feed = feeds.feed_of(before.json()) if before.status == 200 else None
        document = trigger_document(None, {} if feed else given, annotation)
        entity = await client.call("PUT", path, document=document, query=overwriting(True))
        if feed is not None:
            await feeds.tell(client, feed, "UPDATE", entity, given)
        return entity

    show_done("updated", with_client(tenant_target(), work), as_json=as_json)


def trigger_document(feed: str | None, given: Mapping[str, Any], annotation: Mapping[str, Any]) -> dict[str, Any]:
    """The document to PUT: only what was given. Raises CliError for what is no name of a feed."""
    annotations = dict(annotation)
    document: dict[str, Any] = {}
    if feed is not None:
        annotations[feeds.FEED] = full_name(feed, "feed")
    elif given:
        document["parameters"] = key_values(given)
    if annotations:
        document["annotations"] = key_values(annotations)
    return document


@trigger.command()
@click.argument("name")
def get(name: str) -> None:
    """Show the trigger NAME as JSON; that of a feed with what the feed tells of it."""

    async def work(client: Client) -> Any:
        entity = await client.call("GET", entity_path(name, "trigger"))
        feed = feeds.feed_of(entity)
        return entity if feed is None else {**entity, "feed": await feeds.tell(client, feed, "READ", entity, {})}

    show_json(with_client(tenant_target(), work))


@trigger.command()
@click.argument("name")
@json_option
def delete(name: str, as_json: bool) -> None:
    """Remove the trigger NAME; its feed is told first, and one that refuses keeps it."""

    async def work(client: Client) -> Any:
        path = entity_path(name, "trigger")
        feed = feeds.feed_of(entity := await client.call("GET", path))
        if feed is not None and await feeds.exists(client, feed):
            await feeds.tell(client, feed, "DELETE", entity, {})
        return await client.call("DELETE", path)

    show_done("deleted", with_client(tenant_target(), work), as_json=as_json)


@trigger.command(name="list")
@click.argument("namespace", default=OWN)
@page_options
def list_triggers(namespace: str, limit: int, skip: int, as_json: bool) -> None:
    """List triggers, newest first."""
    show_triggers(listed(collection_path("triggers", namespace), limit, skip), as_json=as_json)


def show_triggers(triggers: list[dict[str, Any]], *, as_json: bool = False) -> None:
    columns = {
        "TRIGGER": lambda t: str(t["name"]),
        "VERSION": lambda t: str(t["version"]),
        "FEED": lambda t: feeds.feed_of(t) or "-",
    }
    show_list(triggers, columns, as_json=as_json, empty="no triggers")


@trigger.command()
@click.argument("name")
@param_option("Parameter KEY VALUE of the event (VALUE as JSON or text).")
@param_file_option
@json_option
def fire(name: str, param: dict[str, Any], param_file: Path | None, as_json: bool) -> None:
    """Fire the trigger NAME: every active rule of it runs its action."""
    fired = asked("POST", entity_path(name, "trigger"), document=arguments(param, param_file))
    if as_json:
        show_json(fired or {})
    elif fired is None:
        click.echo(f"fired {name}; it has no active rule, so nothing runs")
    else:
        click.echo(f"fired {name}, activation {fired['activationId']}")
