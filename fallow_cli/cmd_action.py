"""`fallow action ...`: deployed functions."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from fallow_cli.action_document import SECURE, WEB_MODES, copied, definition
from fallow_cli.client import Answer, Client, server_words, tenant_target, with_client
from fallow_cli.entities import (
    annotation,
    annotation_option,
    arguments,
    asked,
    collection_path,
    entity_path,
    full_name,
    json_option,
    listed,
    overwriting,
    page_options,
    param_file_option,
    param_option,
    show_done,
    show_list,
    shown_name,
)
from fallow_cli.errors import CliError
from fallow_cli.output import show_json


@click.group()
def action() -> None:
    """Create, change, list, invoke and remove actions."""


def _definition_options(command: Any) -> Any:
    options = [
        click.argument("file", type=click.Path(path_type=Path), required=False),
        click.option("--kind", default=None, help="Runtime, such as python:3; else by the file's ending."),
        click.option("--docker", "image", default=None, help="Image of the container (a blackbox); FILE is optional."),
        click.option("--sequence", default=None, help="Actions that run one after the other: A,B,..."),
        click.option("--copy", "copy", is_flag=True, help="FILE is the name of an action to copy."),
        click.option("--main", default=None, help="Function to call, if not main."),
        click.option("--web", type=click.Choice(WEB_MODES, case_sensitive=False), help="Callable from the web?"),
        click.option("--web-secure", default=None, help="What web callers show: true (a new secret), false, TEXT."),
        click.option("--memory", type=int, help="Limit in MB."),
        click.option("--timeout", type=int, help="Limit in ms."),
        click.option("--logsize", type=int, help="Limit in MB."),
        click.option("--concurrency", type=int, help="Calls at once in one container."),
        param_option("Default parameter KEY VALUE."),
        annotation_option,
        json_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command


@action.command()
@click.argument("name")
@_definition_options
def create(name: str, as_json: bool, **options: Any) -> None:
    """Create the action NAME from FILE (source text or a zip), an image, a sequence or another action."""
    if all(options[source] is None for source in ("file", "image", "sequence")):
        raise CliError(
            "an action needs a FILE with its code, --docker IMAGE or --sequence A,B\nfallow action create NAME FILE.py"
        )
    show_done("created", _put(name, options, overwrite=False), as_json=as_json)


@action.command()
@click.argument("name")
@_definition_options
def update(name: str, as_json: bool, **options: Any) -> None:
    """Change the action NAME, or create it; what is not given stays."""
    show_done("updated", _put(name, options, overwrite=True), as_json=as_json)


def _put(name: str, options: dict[str, Any], *, overwrite: bool) -> Any:
    source = _source(options)
    document = definition(**options)

    async def work(client: Client) -> Any:
        whole = document
        if source is not None:
            whole = copied(await client.call("GET", source, query={"code": "true"}), document)
        return await client.call("PUT", entity_path(name, "action"), document=whole, query=overwriting(overwrite))

    entity = with_client(tenant_target(), work)
    if options["web_secure"] == "true":
        click.echo(f"callers show X-Require-Whisk-Auth: {annotation(entity, SECURE)}", err=True)
    return entity


def _source(options: dict[str, Any]) -> str | None:
    """The path of the action to copy; its name is no FILE any more. Raises CliError where none is named."""
    if not options.pop("copy"):
        return None
    if options["file"] is None or options["image"] is not None or options["sequence"] is not None:
        raise CliError("--copy needs the name of an action instead of FILE\nfallow action create NAME --copy OTHER")
    name, options["file"] = str(options["file"]), None
    return entity_path(name, "action")


@action.command()
@click.argument("name")
@click.option("--code", is_flag=True, help="With its code.")
@click.option("--url", "as_url", is_flag=True, help="Only the address under which it is called.")
def get(name: str, code: bool, as_url: bool) -> None:
    """Show the action NAME as JSON."""
    entity = asked("GET", entity_path(name, "action"), query={"code": "true" if code else "false"})
    if as_url:
        click.echo(tenant_target().url + url_path(entity))
    else:
        show_json(entity)


def url_path(entity: Mapping[str, Any]) -> str:
    """Where the action is called: a web action by anybody, another one with a key."""
    namespace, _, package = str(entity["namespace"]).partition("/")
    if annotation(entity, "web-export") is True:
        parts = (namespace, package or "default", str(entity["name"]))
        return "/api/v1/web/" + "/".join(quote(part, safe="") for part in parts)
    return entity_path(f"/{namespace}/{shown_name(entity)}", "action")


@action.command()
@click.argument("name")
@json_option
def delete(name: str, as_json: bool) -> None:
    """Remove the action NAME."""
    show_done("deleted", asked("DELETE", entity_path(name, "action")), as_json=as_json)


@action.command(name="list")
@click.argument("package", required=False)
@page_options
def list_actions(package: str | None, limit: int, skip: int, as_json: bool) -> None:
    """List actions, newest first: all, or those of PACKAGE (of another namespace: /NAMESPACE/PACKAGE)."""
    path = collection_path("actions")
    if package is not None:
        namespace, name = full_name(package.rstrip("/"), "package")[1:].split("/")
        path = f"{collection_path('actions', namespace)}/{quote(name, safe='')}/"
    show_actions(listed(path, limit, skip), as_json=as_json)


def show_actions(actions: list[dict[str, Any]], *, as_json: bool = False) -> None:
    columns = {
        "ACTION": shown_name,
        "VERSION": lambda a: str(a["version"]),
        "KIND": lambda a: str(annotation(a, "exec") or "-"),
        "MEMORY MB": lambda a: str(a["limits"]["memory"]),
        "TIMEOUT MS": lambda a: str(a["limits"]["timeout"]),
    }
    show_list(actions, columns, as_json=as_json, empty="no actions")


@action.command()
@click.argument("name")
@param_option("Argument KEY VALUE (VALUE as JSON or text).")
@param_file_option
@click.option("--blocking", "-b", is_flag=True, help="Wait for the activation.")
@click.option("--result", "-r", is_flag=True, help="Wait and show only the result.")
@click.option("--json", "as_json", is_flag=True, help="JSON in every case.")
def invoke(
    name: str, param: dict[str, Any], param_file: Path | None, blocking: bool, result: bool, as_json: bool
) -> None:
    """Invoke the action NAME. Exit status 1 where the activation did not succeed."""
    body = json.dumps(arguments(param, param_file)).encode()
    wait = blocking or result
    query = {"blocking": "true", "result": "true" if result else "false"} if wait else {}

    async def work(client: Client) -> Answer:
        return await client.request("POST", entity_path(name, "action"), body=body, query=query)

    answer = with_client(tenant_target(), work)
    activation_id = answer.headers.get("X-Openwhisk-Activation-Id", "")
    if answer.status == 202:
        document = answer.json()
        if as_json:
            show_json(document)
        else:
            click.echo(f"accepted, activation {document['activationId']}")
        return
    if answer.status in (200, 502, 500) and activation_id:
        show_json(answer.json())
        if answer.status != 200:
            click.echo(f"fallow: the activation {activation_id} did not succeed", err=True)
            sys.exit(1)
        return
    raise CliError(server_words(answer))
