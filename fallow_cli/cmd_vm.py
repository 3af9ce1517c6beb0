"""`fallow vm list|resize|evict`: the VMs of a running cluster, changed live where they are emulated."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from fallow_cli.client import Client, list_vms, operator_target, with_client
from fallow_cli.output import show_json
from fallow_cli.vm_table import show_vms

state_dir_option = click.option("--state-dir", type=click.Path(path_type=Path), default=None)


class Duration(click.ParamType[float]):
    """Seconds: `10`, `10s`, `500ms`, `2m`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m)?", str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no duration; write 10s, 500ms or 2m", param, ctx)
        return float(match[1]) * {"ms": 0.001, "m": 60.0}.get(match[2] or "s", 1.0)


@click.group()
def vm() -> None:
    """Show and change VMs."""


@vm.command(name="list")
@click.option("--json", "as_json", is_flag=True)
@state_dir_option
def list_command(as_json: bool, state_dir: Path | None) -> None:
    """List the VMs."""
    vms = with_client(operator_target(state_dir), list_vms)
    if as_json:
        show_json(vms)
    else:
        show_vms(vms)


@vm.command()
@click.argument("vm_id")
@click.argument("cores", type=click.FloatRange(0, min_open=True))
@state_dir_option
def resize(vm_id: str, cores: float, state_dir: Path | None) -> None:
    """Give the emulated VM VM_ID so many CORES, at once."""
    _command(state_dir, vm_id, "resize", {"cores": cores})
    click.echo(f"{vm_id} has {cores:g} cores")


@vm.command()
@click.argument("vm_id")
@click.option(
    "--notice", type=Duration(), default=None, help="Warning before it: 30s, 500ms ... (default: the cluster's)."
)
@state_dir_option
def evict(vm_id: str, notice: float | None, state_dir: Path | None) -> None:
    """Evict the emulated VM VM_ID after a notice."""
    _command(state_dir, vm_id, "evict", {} if notice is None else {"notice_s": notice})
    click.echo(f"{vm_id} will be evicted" + ("" if notice is None else f" in {notice:g} s"))


@vm.command()
@click.argument("vm_id")
@state_dir_option
def withdraw(vm_id: str, state_dir: Path | None) -> None:
    """Withdraw the eviction announced for VM_ID."""
    _command(state_dir, vm_id, "withdraw", {})
    click.echo(f"{vm_id} stays")


def _command(state_dir: Path | None, vm_id: str, verb: str, document: dict[str, Any]) -> None:
    async def work(client: Client) -> Any:
        return await client.call("POST", f"/admin/v1/vms/{vm_id}/{verb}", document=document)

    with_client(operator_target(state_dir), work)
