"""`fallow package ...`: actions that share a name and parameters, and bindings to those of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from fallow_cli.entities import (
    OWN,
    annotation_option,
    asked,
    collection_path,
    entity_path,
    full_name,
    json_option,
    key_values,
    listed,
    overwriting,
    page_options,
    param_option,
    show_done,
    show_list,
)
from fallow_cli.output import show_json

SHARED = {"yes": True, "no": False}
shared_option = click.option(
    "--shared", type=click.Choice(list(SHARED)), help="May other namespaces see and use it? [default: no]"
)


@click.group()
def package() -> None:
    """Create, change, bind, list and remove packages."""


@package.command()
@click.argument("name")
@shared_option
@param_option()
@annotation_option
@json_option
def create(name: str, as_json: bool, **given: Any) -> None:
    """Create the package NAME."""
    _put(name, package_document(**given), done="created", as_json=as_json)


@package.command()
@click.argument("name")
@shared_option
@param_option()
@annotation_option
@json_option
def update(name: str, as_json: bool, **given: Any) -> None:
    """Change the package NAME, or create it; what is not given stays."""
    _put(name, package_document(**given), done="updated", as_json=as_json, overwrite=True)


@package.command()
@click.argument("provider", metavar="PACKAGE")
@click.argument("name")
@param_option()
@annotation_option
@json_option
def bind(provider: str, name: str, as_json: bool, **given: Any) -> None:
    """Make NAME stand for PACKAGE, which may be /NAMESPACE/NAME, with parameters of one's own."""
    namespace, bound = full_name(provider, "package")[1:].split("/")
    document = {"binding": {"namespace": namespace, "name": bound}, **package_document(shared=None, **given)}
    _put(name, document, done="bound", as_json=as_json)


def package_document(*, shared: str | None, param: Mapping[str, Any], annotation: Mapping[str, Any]) -> dict[str, Any]:
    """The document to PUT: only what was given."""
    document: dict[str, Any] = {}
    if shared is not None:
        document["publish"] = SHARED[shared]
    if param:
        document["parameters"] = key_values(param)
    if annotation:
        document["annotations"] = key_values(annotation)
    return document


def _put(name: str, document: dict[str, Any], *, done: str, as_json: bool, overwrite: bool = False) -> None:
    entity = asked("PUT", entity_path(name, "package"), document=document, query=overwriting(overwrite))
    show_done(done, entity, as_json=as_json)


@package.command()
@click.argument("name")
def get(name: str) -> None:
    """Show the package NAME, its actions and its feeds as JSON."""
    show_json(asked("GET", entity_path(name, "package")))


@package.command()
@click.argument("name")
@click.option("--force", "-f", is_flag=True, help="With the actions in it.")
@json_option
def delete(name: str, force: bool, as_json: bool) -> None:
    """Remove the package NAME, which must be empty."""
    query = {"force": "true"} if force else {}
    entity = asked("DELETE", entity_path(name, "package"), query=query)
    show_done("deleted", entity, as_json=as_json)


@package.command(name="list")
@click.argument("namespace", default=OWN)
@page_options
def list_packages(namespace: str, limit: int, skip: int, as_json: bool) -> None:
    """List packages, newest first; of another NAMESPACE those that it shares."""
    show_packages(listed(collection_path("packages", namespace), limit, skip), as_json=as_json)


def show_packages(packages: list[dict[str, Any]], *, as_json: bool = False) -> None:
    columns = {
        "PACKAGE": lambda p: str(p["name"]),
        "VERSION": lambda p: str(p["version"]),
        "SHARED": lambda p: "yes" if p["publish"] else "no",
        "BOUND TO": lambda p: "/{namespace}/{name}".format(**p["binding"]) if p["binding"] else "-",
    }
    show_list(packages, columns, as_json=as_json, empty="no packages")
