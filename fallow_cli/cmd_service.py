"""`fallow setup` and `fallow env`: keys and plans of a cluster whose parts are services (compose.yaml, stack.yaml)."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

import click

from fallow_cli.client import operator_target, tenant_target
from fallow_cli.errors import CliError
from fallow_cli.options import AUTO, CoreScale
from fallow_cli.service_plan import GENERATED, MAX_HARVEST_VMS, STATIC, make_plans
from fallow_cli.state import StateDir, guest_key

PUBLIC_URL = "http://127.0.0.1:3233"


@click.command()
@click.option("--dir", "folder", type=click.Path(path_type=Path), required=True, help="Folder that the services share")
@click.option("--harvest-vms", type=click.IntRange(0, MAX_HARVEST_VMS), default=3, help="Plans to make")
@click.option("--traces", default=GENERATED, help=f"{GENERATED}, {STATIC}, or a folder of VM traces")
@click.option(
    "--round", "round_s", type=click.FloatRange(30, 86_400), default=180.0, help="Seconds a trace is played in"
)
@click.option("--seed", type=int, default=1, help="Of the generated traces")
@click.option(
    "--core-scale", default=AUTO, type=CoreScale(), show_default=True, help="Real cores an emulated one, or auto"
)
def setup(folder: Path, harvest_vms: int, traces: str, round_s: float, seed: int, core_scale: float | None) -> None:
    """Make the keys of a cluster, where there are none, and the plans that its VMs play.

    Keys that are there stay; plans are made anew. Prints the key of the namespace guest.
    """
    state = StateDir(folder)
    state.prepare()
    key = guest_key(state)
    state.secret("operator")
    state.private("join.secret", lambda: secrets.token_urlsafe(32))
    cluster = state.private("cluster", lambda: secrets.token_hex(4))
    made = make_plans(harvest_vms=harvest_vms, traces=traces, round_s=round_s, seed=seed, core_scale=core_scale)
    for name, plan in made.plans.items():
        (folder / "vms" / f"{name}.json").write_text(json.dumps(plan), encoding="utf-8")
    scale = made.plans["regular-1"]["core_scale"]
    url = os.environ.get("FALLOW_PUBLIC_URL") or PUBLIC_URL
    click.echo(f"cluster {cluster}: 1 regular and {harvest_vms} harvest VMs; {made.told}")
    click.echo(f"an emulated core is {scale:g} real ones")
    click.echo(f"key of the namespace guest: {key}")
    click.echo(f"  wsk property set --apihost {url}")
    click.echo(f"  wsk property set --auth {key}")
    click.echo(f"  curl -u {key} {url}/api/v1/namespaces/_/actions")


@click.command()
@click.option("--url", default=None, help="Where the cluster is reached from where this is used")
def env(url: str | None) -> None:
    """Print the variables that point `fallow` at this cluster: eval "$(fallow env)".

    Of a cluster of services: eval "$(docker compose exec -T controller fallow env)".
    """
    tenant = tenant_target()
    lines = {"FALLOW_URL": url or os.environ.get("FALLOW_PUBLIC_URL") or tenant.url, "FALLOW_AUTH": tenant.key}
    try:
        lines["FALLOW_OPERATOR_AUTH"] = operator_target().key
    except CliError:
        click.echo("no operator key is known here: `fallow vm` will not work", err=True)
    for name, value in lines.items():
        click.echo(f"export {name}={value}")
