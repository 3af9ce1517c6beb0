"""`fallow key create|list|revoke`: who may call a running cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from fallow.infra.records import RIGHTS
from fallow_cli.client import Client, operator_target, with_client
from fallow_cli.output import show_json

state_dir_option = click.option("--state-dir", type=click.Path(path_type=Path), default=None)


@click.group()
def key() -> None:
    """Make, list and revoke keys."""


@key.command()
@click.argument("namespace")
@click.option("--subject", default=None, help="Whom it is for [default: the namespace's name].")
@click.option(
    "--right", "rights", multiple=True, type=click.Choice(RIGHTS, case_sensitive=False), help="Only these; repeatable."
)
@click.option("--json", "as_json", is_flag=True)
@state_dir_option
def create(namespace: str, subject: str | None, rights: tuple[str, ...], as_json: bool, state_dir: Path | None) -> None:
    """Make a random key of NAMESPACE and print it. It is shown this once: the cluster keeps only a hash."""
    document: dict[str, Any] = {"namespace": namespace}
    if subject is not None:
        document["subject"] = subject
    if rights:
        document["rights"] = list(rights)
    made = _call(state_dir, "POST", "/admin/v1/keys", document)
    if as_json:
        show_json(made)
    else:
        click.echo(made["key"])


@key.command(name="list")
@click.option("--json", "as_json", is_flag=True)
@state_dir_option
def list_command(as_json: bool, state_dir: Path | None) -> None:
    """List the keys by namespace. Secrets are not shown: the cluster does not know them."""
    keys = _call(state_dir, "GET", "/admin/v1/keys")["keys"]
    if as_json:
        show_json(keys)
        return
    for each in keys:
        rights = f"  only {', '.join(each['rights'])}" if "rights" in each else ""
        click.echo(f"{each['uuid']}  {each['namespace']}  {each['subject']}{rights}")


@key.command()
@click.argument("uuid")
@state_dir_option
def revoke(uuid: str, state_dir: Path | None) -> None:
    """Revoke the key with this UUID, the part before the colon. It opens nothing from then on."""
    _call(state_dir, "DELETE", f"/admin/v1/keys/{quote(uuid, safe='')}")
    click.echo(f"{uuid} is revoked")


def _call(state_dir: Path | None, method: str, path: str, document: object = None) -> Any:
    async def work(client: Client) -> Any:
        return await client.call(method, path, document=document)

    return with_client(operator_target(state_dir), work)
