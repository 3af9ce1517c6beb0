"""`fallow up`, `down`, `status`: a local cluster."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import click

from fallow.core.throttle import QUOTAS
from fallow_cli.client import Client, list_vms, operator_target, with_client
from fallow_cli.cluster import LocalCluster
from fallow_cli.cluster_plan import ClusterPlan, VmPlan, vms_at_once
from fallow_cli.errors import CliError
from fallow_cli.machine import real_cores, vm_memory_mb
from fallow_cli.options import (
    POLICY_HELP,
    RUNTIME_HELP,
    RUNTIMES,
    STRATEGY_HELP,
    harvest_price,
    known_policy,
    known_strategy,
)
from fallow_cli.output import show_json
from fallow_cli.state import StateDir, default_state_dir
from fallow_cli.vm_table import show_vms

DEFAULT_VMS = 4  # harvest VMs
SPARE_VMS = 2  # harvest VMs that the resource monitor may have beside those of the start, while some are leaving
KEEP_ALIVE_S = 600.0  # idle containers, at speedup 1
MONITOR_PERIOD_S = 30.0  # of the resource monitor, at speedup 1

state_dir_option = click.option(
    "--state-dir", type=click.Path(path_type=Path), default=None, help="Folder for keys, logs and Redis data."
)


@click.command()
@click.option("--port", default=3233, show_default=True, type=click.IntRange(0, 65535), help="API port; 0 picks one.")
@click.option("--vms", default=None, type=click.IntRange(0, 64), help="Harvest VMs beside one regular VM [default: 4].")
@click.option("--vm-cores", default=0.0, type=click.FloatRange(0, 1024), help="Cores of each VM; 0 = this machine's.")
@click.option(
    "--vm-traces", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Play these VM traces."
)
@click.option("--vm-speedup", default=1.0, type=click.FloatRange(0.001, 1e6), help="Play the VM traces so much faster.")
@click.option(
    "--core-scale", default=1.0, show_default=True, type=click.FloatRange(0.001, 64), help="Real cores a VM core."
)
@click.option(
    "--memory-mb", default=0, type=click.IntRange(0), help="Memory of each VM; 0 = 60 % of what is free, shared."
)
@click.option("--controllers", default=1, show_default=True, type=click.IntRange(1, 8))
@click.option("--policy", default=None, callback=known_policy, help=f"{POLICY_HELP} [default: mws].")
@click.option("--strategy", default=None, callback=known_strategy, help=f"{STRATEGY_HELP} [default: prefer-regular].")
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="TOML settings file.")
@click.option(
    "--target-cores", default=None, type=click.FloatRange(0), help="Replace harvest VMs below this sum of cores."
)
@click.option(
    "--notice",
    "notice_s",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Seconds before an eviction.",
)
@click.option(
    "--speedup",
    default=1.0,
    type=click.FloatRange(0.001, 1e4),
    help="Divides notices, keep-alive and the resource monitor's period.",
)
@click.option("--runtime", type=click.Choice(RUNTIMES), default="process", show_default=True, help=RUNTIME_HELP)
@click.option("--durability", type=click.Choice(["everysec", "always"]), default="everysec", show_default=True)
@click.option("--redis-url", default="", help="Use this Redis instead of starting one.")
@click.option("--limits", default=None, type=click.Choice(list(QUOTAS)), help="Of namespaces [default: wide].")
@click.option(
    "--openwhisk-guest-key", is_flag=True, help="Give guest the key that OpenWhisk's clients know: it is public."
)
@click.option("--seed", default=None, type=int)
@click.option("--log-level", default=None, type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--json", "as_json", is_flag=True, help="One JSON line when ready.")
@state_dir_option
def up(state_dir: Path | None, as_json: bool, **options: Any) -> None:
    """Start a local cluster and stay until Ctrl-C."""
    state = StateDir(state_dir or default_state_dir())
    asyncio.run(_up(LocalCluster(_plan(options), state), as_json=as_json))


def _plan(options: dict[str, Any]) -> ClusterPlan:
    vms = _vms(options)
    return ClusterPlan(
        vms=vms,
        runtime=options["runtime"],
        port=options["port"],
        controllers=options["controllers"],
        policy=options["policy"],
        strategy=options["strategy"],
        seed=options["seed"],
        target_cores=options["target_cores"],
        core_scale=options["core_scale"],
        notice_s=options["notice_s"] / options["speedup"],
        keep_alive_s=KEEP_ALIVE_S / options["speedup"],
        monitor_period_s=MONITOR_PERIOD_S / options["speedup"],
        vm_speedup=options["vm_speedup"],
        provider_memory_mb=min(vm.memory_mb for vm in vms),
        durability=options["durability"],
        provider_max_vms=vms_at_once(vm.id for vm in vms) - 1 + SPARE_VMS,
        redis_url=options["redis_url"],
        limits=options["limits"],
        openwhisk_guest_key=options["openwhisk_guest_key"],
        log_level=options["log_level"],
        config=options["config"],
    )


def _vms(options: dict[str, Any]) -> tuple[VmPlan, ...]:
    cores = options["vm_cores"] or float(real_cores())
    if options["vm_traces"] is not None:
        if options["vms"] is not None:
            raise click.UsageError("--vms and --vm-traces exclude each other: the traces say how many VMs there are")
        from fallow_cli.vm_plan import plan_from_traces  # reads files; not needed by a static cluster

        return plan_from_traces(options["vm_traces"], regular_cores=cores, memory_mb=options["memory_mb"])
    count = DEFAULT_VMS if options["vms"] is None else options["vms"]
    at_once = 1 + count + (SPARE_VMS if options["target_cores"] else 0)
    memory = options["memory_mb"] or vm_memory_mb(at_once)
    regular = VmPlan(id="r1", kind="regular", cores=cores, memory_mb=memory)
    price = harvest_price(cores)
    harvest = (VmPlan(id=f"h{n + 1}", kind="harvest", cores=cores, memory_mb=memory, price=price) for n in range(count))
    return (regular, *harvest)


async def _up(cluster: LocalCluster, *, as_json: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    started = time.monotonic()
    try:
        ready = asyncio.create_task(cluster.start())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({ready, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ready
            stopped.cancel()
            return
        await ready
        await _announce(cluster, as_json=as_json, took_s=time.monotonic() - started)
        died = asyncio.create_task(cluster.watch(lambda words: click.echo(f"fallow: started again: {words}", err=True)))
        await asyncio.wait({died, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if died.done() and not stop.is_set():
            raise CliError(died.result())
        died.cancel()
        if not as_json:
            click.echo("stopping", err=True)
    finally:
        await cluster.stop()


async def _announce(cluster: LocalCluster, *, as_json: bool, took_s: float) -> None:
    assert cluster.redis is not None
    async with Client(cluster.operator) as client:
        vms = await list_vms(client)
    unenforced = sorted({vm["cpu_note"] for vm in vms if not vm["cpu_enforced"]})
    if as_json:
        document = {
            "url": cluster.urls[0],
            "urls": cluster.urls,
            "key": cluster.key,
            "state_dir": str(cluster.state.path),
            "redis": f"{cluster.redis.source} {cluster.redis.version}",
            "durability": cluster.plan.durability,
            "runtime": cluster.plan.runtime,
            "cpu_enforced": not unenforced,
            "vms": [vm["id"] for vm in vms],
            "processes": cluster.processes(),
            "ready_s": round(took_s, 3),
        }
        click.echo(json.dumps(document))
        return
    for url in cluster.urls:
        click.echo(f"fallow ready {url}")
    click.echo(f"  key        {cluster.key}{' (everybody knows it)' if cluster.plan.openwhisk_guest_key else ''}")
    click.echo(f"  wsk        wsk property set --apihost {cluster.urls[0]}")
    click.echo(f"             wsk property set --auth {cluster.key}")
    names = (f"{vm['id']} ({vm['kind']}, {vm['cores']:g} cores)" for vm in vms)
    click.echo(f"  VMs        {', '.join(names)}")
    enforced = "enforced by cgroups" if not unenforced else f"not enforced ({'; '.join(unenforced)})"
    click.echo(f"  containers {cluster.plan.runtime}")
    click.echo(f"  CPU        {enforced}; {cluster.plan.core_scale:g} real cores a VM core")
    redis = f"{cluster.redis.version} ({cluster.redis.source})"
    click.echo(f"  Redis      {redis}, append-only file, fsync {cluster.plan.durability}")
    click.echo(f"  state      {cluster.state.path}")
    click.echo("  try        fallow action create hello FILE.py; fallow action invoke hello -r     (Ctrl-C stops all)")


@click.command()
@state_dir_option
def down(state_dir: Path | None) -> None:
    """Stop the cluster that `fallow up` started."""
    state = StateDir(state_dir or default_state_dir())
    running = state.read_cluster()
    if running is None or not state.in_use():
        state.clear_cluster()
        click.echo("no cluster is running")
        return
    os.kill(running.pid, signal.SIGTERM)
    deadline = time.monotonic() + 40
    while state.in_use():
        if time.monotonic() > deadline:
            raise CliError(f"process {running.pid} has not ended after 40 s\nlook into {state.path / 'logs'}")
        time.sleep(0.05)
    click.echo("stopped")


@click.command()
@click.option("--json", "as_json", is_flag=True)
@state_dir_option
def status(state_dir: Path | None, as_json: bool) -> None:
    """Show the running cluster: controllers, VMs, what is queued and running."""

    async def work(client: Client) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        controllers = {url: await client.call("GET", "/admin/v1/status", url=url) for url in client.target.urls}
        return controllers, await list_vms(client)

    controllers, vms = with_client(operator_target(state_dir), work)
    if as_json:
        show_json({"controllers": controllers, "vms": vms})
        return
    for url, document in controllers.items():
        click.echo(
            f"{url}  policy {document['policy']}, strategy {document['strategy']}, "
            f"{document['waiting']} waiting, {document['in_flight']} in flight"
        )
    show_vms(vms)
