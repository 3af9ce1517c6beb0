"""`fallow action ...`: deployed functions."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from fallow_cli.client import Answer, Client, server_words, tenant_target, with_client
from fallow_cli.errors import CliError
from fallow_cli.output import show_json, show_table

KIND_OF_SUFFIX = {".py": "python:default"} | dict.fromkeys((".js", ".cjs", ".mjs"), "nodejs:default")
BLACKBOX = "blackbox"
ACTIONS = "/api/v1/namespaces/{ns}/actions"


def action_path(name: str) -> str:
    """The API path of `name`, `pkg/name` or `/ns/[pkg/]name`. Raises CliError for anything else."""
    parts = name.lstrip("/").split("/")
    namespace = parts.pop(0) if name.startswith("/") else "_"
    if not 1 <= len(parts) <= 2 or not all(parts) or not namespace:
        raise CliError(f"{name!r} is no action name\nuse NAME, PACKAGE/NAME or /NAMESPACE/NAME")
    return ACTIONS.format(ns=quote(namespace, safe="")) + "/" + "/".join(quote(p, safe="") for p in parts)


@click.group()
def action() -> None:
    """Create, change, list, invoke and remove actions."""


def _pairs(ctx: click.Context, param: click.Parameter, values: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    return {key: _value(text) for key, text in values}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _definition_options(command: Any) -> Any:
    options = [
        click.argument("file", type=click.Path(path_type=Path), required=False),
        click.option("--kind", default=None, help="Runtime, such as python:3; else by the file's ending."),
        click.option("--docker", "image", default=None, help="Image of the container (a blackbox); FILE is optional."),
        click.option("--main", default=None, help="Function to call, if not main."),
        click.option("--memory", type=int, help="Limit in MB."),
        click.option("--timeout", type=int, help="Limit in ms."),
        click.option("--logsize", type=int, help="Limit in MB."),
        click.option("--concurrency", type=int, help="Calls at once in one container."),
        click.option(
            "--param", "-p", type=(str, str), multiple=True, callback=_pairs, help="Default parameter KEY VALUE."
        ),
        click.option(
            "--annotation", "-a", type=(str, str), multiple=True, callback=_pairs, help="Annotation KEY VALUE."
        ),
        click.option("--json", "as_json", is_flag=True),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@action.command()
@click.argument("name")
@_definition_options
def create(name: str, **options: Any) -> None:
    """Create the action NAME from FILE (source text or a zip)."""
    if options["file"] is None and options["image"] is None:
        raise CliError("an action needs a FILE with its code, or --docker IMAGE\nfallow action create NAME FILE.py")
    _put(name, options, overwrite=False, done="created")


@action.command()
@click.argument("name")
@_definition_options
def update(name: str, **options: Any) -> None:
    """Change the action NAME, or create it; what is not given stays."""
    _put(name, options, overwrite=True, done="updated")


def _put(name: str, options: dict[str, Any], *, overwrite: bool, done: str) -> None:
    document = definition(**options)
    query = {"overwrite": "true"} if overwrite else None

    async def work(client: Client) -> Any:
        return await client.call("PUT", action_path(name), document=document, query=query)

    entity = with_client(tenant_target(), work)
    if options["as_json"]:
        show_json(entity)
    else:
        click.echo(f"{done} {entity['namespace']}/{entity['name']} {entity['version']}")


def definition(
    *, file: Path | None, kind: str | None, main: str | None, image: str | None = None, **options: Any
) -> dict[str, Any]:
    """The document to PUT: only what was given."""
    document: dict[str, Any] = {}
    if image is not None:
        if kind not in (None, BLACKBOX):
            raise CliError(f"--docker and --kind {kind} contradict each other\ngive one of them")
        code = {} if file is None else _exec(file, BLACKBOX, main)
        document["exec"] = {"kind": BLACKBOX, "image": image, **code} | ({"main": main} if main else {})
    elif file is not None:
        document["exec"] = _exec(file, kind, main)
    wanted = {"memory": "memory", "timeout": "timeout", "logs": "logsize", "concurrency": "concurrency"}
    limits = {key: options[name] for key, name in wanted.items() if options[name] is not None}
    if limits:
        document["limits"] = limits
    if options["param"]:
        document["parameters"] = [{"key": k, "value": v} for k, v in options["param"].items()]
    if options["annotation"]:
        document["annotations"] = [{"key": k, "value": v} for k, v in options["annotation"].items()]
    return document


def _exec(file: Path, kind: str | None, main: str | None) -> dict[str, Any]:
    try:
        raw = file.read_bytes()
    except OSError as e:
        raise CliError(f"cannot read {file}: {e.strerror}") from None
    chosen = kind or KIND_OF_SUFFIX.get(file.suffix)
    if chosen is None:
        names = "--kind python:default or --kind nodejs:default"
        raise CliError(f"cannot tell the runtime of {file.name}\nname one, such as {names}")
    if raw[:4] == b"PK\x03\x04":
        code = base64.b64encode(raw).decode()
    else:
        try:
            code = raw.decode()
        except UnicodeDecodeError:
            raise CliError(f"{file} is neither text in UTF-8 nor a zip") from None
    return {"kind": chosen, "code": code} | ({"main": main} if main else {})


@action.command()
@click.argument("name")
@click.option("--code", is_flag=True, help="With its code.")
def get(name: str, code: bool) -> None:
    """Show the action NAME as JSON."""

    async def work(client: Client) -> Any:
        return await client.call("GET", action_path(name), query={"code": "true" if code else "false"})

    show_json(with_client(tenant_target(), work))


@action.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True)
def delete(name: str, as_json: bool) -> None:
    """Remove the action NAME."""

    async def work(client: Client) -> Any:
        return await client.call("DELETE", action_path(name))

    entity = with_client(tenant_target(), work)
    if as_json:
        show_json(entity)
    else:
        click.echo(f"deleted {entity['namespace']}/{entity['name']}")


@action.command(name="list")
@click.option("--limit", "-l", default=30, show_default=True, type=click.IntRange(0, 200))
@click.option("--skip", "-s", default=0, type=click.IntRange(0))
@click.option("--json", "as_json", is_flag=True)
def list_actions(limit: int, skip: int, as_json: bool) -> None:
    """List actions, newest first."""

    async def work(client: Client) -> Any:
        path = ACTIONS.format(ns="_")
        return await client.call("GET", path, query={"limit": str(limit), "skip": str(skip)})

    actions = with_client(tenant_target(), work)
    if as_json:
        show_json(actions)
        return
    kinds = {a["name"]: next((x["value"] for x in a["annotations"] if x["key"] == "exec"), "-") for a in actions}
    show_table(
        ("ACTION", "VERSION", "KIND", "MEMORY MB", "TIMEOUT MS"),
        [
            (a["name"], a["version"], str(kinds[a["name"]]), str(a["limits"]["memory"]), str(a["limits"]["timeout"]))
            for a in actions
        ],
        empty="no actions",
    )


@action.command()
@click.argument("name")
@click.option(
    "--param", "-p", type=(str, str), multiple=True, callback=_pairs, help="Argument KEY VALUE (VALUE as JSON or text)."
)
@click.option(
    "--param-file", "-P", type=click.Path(path_type=Path), help="Arguments from a JSON file; - for standard input."
)
@click.option("--blocking", "-b", is_flag=True, help="Wait for the activation.")
@click.option("--result", "-r", is_flag=True, help="Wait and show only the result.")
@click.option("--json", "as_json", is_flag=True, help="JSON in every case.")
def invoke(
    name: str, param: dict[str, Any], param_file: Path | None, blocking: bool, result: bool, as_json: bool
) -> None:
    """Invoke the action NAME. Exit status 1 where the activation did not succeed."""
    body = json.dumps(_arguments(param, param_file)).encode()
    wait = blocking or result
    query = {"blocking": "true", "result": "true" if result else "false"} if wait else {}

    async def work(client: Client) -> Answer:
        return await client.request("POST", action_path(name), body=body, query=query)

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


def _arguments(param: dict[str, Any], param_file: Path | None) -> dict[str, Any]:
    if param_file is None:
        return param
    try:
        text = sys.stdin.read() if str(param_file) == "-" else param_file.read_text()
        document = json.loads(text)
    except OSError as e:
        raise CliError(f"cannot read {param_file}: {e.strerror}") from None
    except ValueError as e:
        raise CliError(f"{param_file} is no JSON: {e}") from None
    if not isinstance(document, dict):
        raise CliError(f"{param_file} must hold a JSON object")
    return document | param
