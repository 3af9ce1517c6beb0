"""What commands about entities share: names as people write them, options, lists, what is said when done."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import click

from fallow_cli.client import Client, tenant_target, with_client
from fallow_cli.errors import CliError
from fallow_cli.output import show_json, show_table

NAMESPACES = "/api/v1/namespaces"
OWN = "_"  # the namespace of whoever asks
_PACKAGED = ("action", "feed")

Command = TypeVar("Command", bound=Callable[..., Any])


def full_name(name: str, what: str) -> str:
    """ "/ns/[pkg/]name" of what may leave out the namespace; only actions and feeds may be in packages.

    `what` is what the name stands for, such as "action". Raises CliError for what is no name.
    """
    parts = name.lstrip("/").split("/")
    namespace = parts.pop(0) if name.startswith("/") else OWN
    most = 2 if what in _PACKAGED else 1
    if not 1 <= len(parts) <= most or not all(parts) or not namespace:
        forms = "NAME, PACKAGE/NAME or /NAMESPACE/NAME" if most == 2 else "NAME or /NAMESPACE/NAME"
        article = "an" if what[0] in "aeiou" else "a"
        raise CliError(f"{name!r} is no {what} name\nthe name of {article} {what} is {forms}")
    return "/" + "/".join([namespace, *parts])


def entity_path(name: str, what: str) -> str:
    """The API path of the entity. Raises CliError for what is no name."""
    namespace, *parts = full_name(name, what)[1:].split("/")
    collection = "action" if what in _PACKAGED else what
    return "/".join([collection_path(f"{collection}s", namespace), *(quote(part, safe="") for part in parts)])


def collection_path(collection: str, namespace: str = OWN) -> str:
    """The API path of a list. `namespace` may have a slash in front, as names of namespaces often have."""
    return f"{NAMESPACES}/{quote(namespace.lstrip('/') or OWN, safe='')}/{collection}"


def shown_name(entity: Mapping[str, Any]) -> str:
    """ "[pkg/]name", as a person would name the entity."""
    package = str(entity["namespace"]).partition("/")[2]
    return f"{package}/{entity['name']}" if package else str(entity["name"])


def pairs(ctx: click.Context, param: click.Parameter, values: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """Of options KEY VALUE: values are JSON where they can be read so, else text."""
    return {key: _value(text) for key, text in values}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def key_values(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Parameters or annotations as the API writes them."""
    return [{"key": key, "value": value} for key, value in given.items()]


def annotation(entity: Mapping[str, Any], key: str) -> Any:
    """The value of an entity's annotation; None where it has none."""
    return next((item["value"] for item in entity["annotations"] if item["key"] == key), None)


def arguments(given: Mapping[str, Any], file: Path | None) -> dict[str, Any]:
    """Parameters from a JSON file ("-" is standard input), overlaid by those given singly. Raises CliError."""
    if file is None:
        return dict(given)
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
        document = json.loads(text)
    except OSError as e:
        raise CliError(f"cannot read {file}: {e.strerror}") from None
    except ValueError as e:
        raise CliError(f"{file} is no JSON: {e}") from None
    if not isinstance(document, dict):
        raise CliError(f"{file} must hold a JSON object")
    return document | dict(given)


json_option = click.option("--json", "as_json", is_flag=True)
annotation_option = click.option(
    "--annotation", "-a", type=(str, str), multiple=True, callback=pairs, help="Annotation KEY VALUE."
)
param_file_option = click.option(
    "--param-file", "-P", type=click.Path(path_type=Path), help="Parameters from a JSON file; - for standard input."
)


def param_option(text: str = "Default parameter KEY VALUE (VALUE as JSON or text).") -> Callable[[Command], Command]:
    return click.option("--param", "-p", type=(str, str), multiple=True, callback=pairs, help=text)


def page_options(command: Command) -> Command:
    """--limit, --skip and --json of a list."""
    for option in (
        json_option,
        click.option("--skip", "-s", default=0, type=click.IntRange(0)),
        click.option("--limit", "-l", default=30, show_default=True, type=click.IntRange(0, 200)),
    ):
        command = option(command)
    return command


def asked(method: str, path: str, *, document: object = None, query: Mapping[str, str] | None = None) -> Any:
    """The answer to one request of the tenant's. Raises CliError with the server's words."""

    async def work(client: Client) -> Any:
        return await client.call(method, path, document=document, query=query)

    return with_client(tenant_target(), work)


def listed(path: str, limit: int, skip: int) -> list[dict[str, Any]]:
    """One page of a list."""
    page: list[dict[str, Any]] = asked("GET", path, query={"limit": str(limit), "skip": str(skip)})
    return page


def overwriting(overwrite: bool) -> dict[str, str]:
    """The query of a PUT."""
    return {"overwrite": "true"} if overwrite else {}


def show_done(done: str, entity: Mapping[str, Any], *, as_json: bool) -> None:
    """What a command did, and to which version of what."""
    if as_json:
        show_json(entity)
    else:
        click.echo(f"{done} {entity['namespace']}/{entity['name']} {entity['version']}")


def show_list(
    entities: Sequence[Mapping[str, Any]],
    columns: Mapping[str, Callable[[Mapping[str, Any]], str]],
    *,
    as_json: bool,
    empty: str,
) -> None:
    """A table of entities with one column for each of `columns`, or the server's list as it is."""
    if as_json:
        show_json(entities)
        return
    rows = [[show(entity) for show in columns.values()] for entity in entities]
    show_table(tuple(columns), rows, empty=empty)
