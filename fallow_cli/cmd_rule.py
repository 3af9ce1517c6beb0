"""`fallow rule ...`: which action runs when a trigger fires."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from fallow_cli.client import Client, tenant_target, with_client
from fallow_cli.entities import (
    OWN,
    annotation_option,
    asked,
    collection_path,
    entity_path,
    full_name,
    json_option,
    key_values,
    overwriting,
    page_options,
    show_done,
    show_list,
)
from fallow_cli.output import show_json

ACTIVE, INACTIVE = "active", "inactive"


@click.group()
def rule() -> None:
    """Create, change, enable, disable and remove rules."""


@rule.command()
@click.argument("name")
@click.argument("trigger")
@click.argument("action")
@annotation_option
@json_option
def create(name: str, trigger: str, action: str, annotation: dict[str, Any], as_json: bool) -> None:
    """Have ACTION run whenever TRIGGER fires: the rule NAME, which is active at once."""
    entity = _put(name, rule_document(trigger, action, annotation), overwrite=False)
    show_done("created", entity, as_json=as_json)


@rule.command()
@click.argument("name")
@click.argument("trigger")
@click.argument("action")
@annotation_option
@json_option
def update(name: str, trigger: str, action: str, annotation: dict[str, Any], as_json: bool) -> None:
    """Change the rule NAME, or create it; an inactive one stays so."""
    entity = _put(name, rule_document(trigger, action, annotation), overwrite=True)
    show_done("updated", entity, as_json=as_json)


def rule_document(trigger: str, action: str, annotation: dict[str, Any]) -> dict[str, Any]:
    """The document to PUT. Raises CliError for what is no name."""
    document: dict[str, Any] = {"trigger": full_name(trigger, "trigger"), "action": full_name(action, "action")}
    if annotation:
        document["annotations"] = key_values(annotation)
    return document


def _put(name: str, document: dict[str, Any], *, overwrite: bool) -> Any:
    return asked("PUT", entity_path(name, "rule"), document=document, query=overwriting(overwrite))


@rule.command()
@click.argument("name")
def enable(name: str) -> None:
    """Have the rule NAME react to its trigger."""
    _set_status(name, ACTIVE)


@rule.command()
@click.argument("name")
def disable(name: str) -> None:
    """Have the rule NAME react to nothing until it is enabled."""
    _set_status(name, INACTIVE)


def _set_status(name: str, status: str) -> None:
    asked("POST", entity_path(name, "rule"), document={"status": status})
    click.echo(f"{name} is {status}")


@rule.command()
@click.argument("name")
def status(name: str) -> None:
    """Tell whether the rule NAME is active or inactive."""
    click.echo(asked("GET", entity_path(name, "rule"))["status"])


@rule.command()
@click.argument("name")
def get(name: str) -> None:
    """Show the rule NAME as JSON."""
    show_json(asked("GET", entity_path(name, "rule")))


@rule.command()
@click.argument("name")
@json_option
def delete(name: str, as_json: bool) -> None:
    """Remove the rule NAME."""
    show_done("deleted", asked("DELETE", entity_path(name, "rule")), as_json=as_json)


@rule.command(name="list")
@click.argument("namespace", default=OWN)
@page_options
def list_rules(namespace: str, limit: int, skip: int, as_json: bool) -> None:
    """List rules with their status, newest first."""
    query = {"limit": str(limit), "skip": str(skip)}

    async def work(client: Client) -> list[dict[str, Any]]:
        rules = await client.call("GET", collection_path("rules", namespace), query=query)
        return await with_status(client, rules)

    show_rules(with_client(tenant_target(), work), as_json=as_json)


async def with_status(client: Client, rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rules of a list, which tells no status, each with its own; "-" for one that is gone meanwhile."""

    async def status_of(rule: dict[str, Any]) -> str:
        answer = await client.request("GET", entity_path(f"/{rule['namespace']}/{rule['name']}", "rule"))
        return str(answer.json()["status"]) if answer.status == 200 else "-"

    found = await asyncio.gather(*map(status_of, rules))
    return [{**rule, "status": status} for rule, status in zip(rules, found, strict=True)]


def show_rules(rules: list[dict[str, Any]], *, as_json: bool = False) -> None:
    columns = {
        "RULE": lambda r: str(r["name"]),
        "VERSION": lambda r: str(r["version"]),
        "STATUS": lambda r: str(r["status"]),
        "TRIGGER": lambda r: _end(r["trigger"]),
        "ACTION": lambda r: _end(r["action"]),
    }
    show_list(rules, columns, as_json=as_json, empty="no rules")


def _end(reference: dict[str, str] | None) -> str:
    """What a rule joins, "-" where it is gone."""
    return f"/{reference['path']}/{reference['name']}" if reference else "-"
