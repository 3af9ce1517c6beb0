"""A demo from start to report: cluster up, actions deployed, trace replayed under evictions, everything down again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import click

from fallow.report.run import RunData, RunHeader
from fallow_cli.client import Client
from fallow_cli.cluster import LocalCluster
from fallow_cli.demo.deploy import deploy, fitted
from fallow_cli.demo.history import long_functions
from fallow_cli.demo.injector import Injected, inject
from fallow_cli.demo.prepare import DemoOptions, Prepared
from fallow_cli.demo.progress import View, shown
from fallow_cli.errors import CliError
from fallow_cli.state import StateDir
from loadtest.replay import replay


async def run_demo(options: DemoOptions, prepared: Prepared, state: StateDir, *, quiet: bool) -> RunData:
    """Raises CliError where the cluster cannot be had, KeyboardInterrupt on Ctrl-C; leaves nothing behind."""
    cluster = LocalCluster(prepared.cluster, state)
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        await cluster.start()
        return await _on_cluster(options, prepared, cluster, state, quiet=quiet)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        await cluster.stop()


async def _on_cluster(
    options: DemoOptions, prepared: Prepared, cluster: LocalCluster, state: StateDir, *, quiet: bool
) -> RunData:
    async with Client(cluster.operator) as operator, Client(cluster.tenant) as tenant:
        plan = await fitted(tenant, prepared.replay, prepared.without_benchmarks)
        prepared = replace(prepared, replay=plan)
        known = long_functions(plan, options.strategy, prepared.notice_s) if options.history else None
        names = await deploy(tenant, plan.functions, retries=options.retries, long=known)
        vms = (await operator.call("GET", "/admin/v1/vms"))["vms"]
        if not quiet:
            click.echo(f"{len(names)} actions deployed, {len(plan.arrivals)} invocations to send", err=True)
        view = View()
        began_unix_ms = time.time_ns() // 1_000_000
        await _play(cluster.fleet_socket)
        async with shown(view, operator, total=len(plan.arrivals), quiet=quiet):
            injected: list[Injected] = []
            injecting = asyncio.create_task(
                inject(
                    operator,
                    injected,
                    count=prepared.injected,
                    duration_s=plan.duration_s,
                    notice_s=prepared.notice_s,
                    seed=options.seed,
                )
            )
            try:
                calls = await replay(
                    plan,
                    urls=cluster.urls,
                    key=cluster.key,
                    action_names=names,
                    on_progress=lambda p: setattr(view, "replay", p),
                )
            finally:
                injecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await injecting
        ended_unix_ms = time.time_ns() // 1_000_000
        counters = await operator.call("GET", "/admin/v1/status")
    return RunData(
        header=_header(options, prepared, vms),
        calls=tuple(calls),
        vm_events=tuple(read_events(state.path / "vms")),
        counters=counters,
        injected=len(injected),
        began_unix_ms=began_unix_ms,
        ended_unix_ms=ended_unix_ms,
    )


def _header(options: DemoOptions, prepared: Prepared, vms: list[dict[str, Any]]) -> RunHeader:
    plan = prepared.replay
    return RunHeader(
        policy=options.policy,
        strategy=options.strategy,
        runtime=options.runtime,
        seed=options.seed,
        speedup=options.speedup,
        vm_speedup=prepared.vm_speedup,
        core_scale=plan.core_scale,
        discount=options.discount,
        duration_s=plan.duration_s,
        notice_s=prepared.notice_s,
        invocation_source=plan.trace.source,
        vm_source=prepared.vm_source,
        actions=len(plan.functions),
        offered_cores=plan.offered_cores,
        available_cores=plan.available_cores,
        thinned_calls=plan.thinned_calls,
        cut_calls=plan.cut_calls,
        rules=plan.rules,
        retries=options.retries,
        history=options.history,
        cpu_enforced=all(vm["cpu_enforced"] for vm in vms),
        benchmarks={f.name: f.benchmark for f in plan.functions if f.benchmark},
        cpu_note="; ".join(sorted({vm["cpu_note"] for vm in vms if not vm["cpu_enforced"]})),
    )


async def _play(fleet_socket: Path) -> None:
    connector = aiohttp.UnixConnector(path=str(fleet_socket))
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=10)) as session:
        try:
            async with session.post("http://fleet/v1/play", json={}) as r:
                if r.status >= 300:
                    raise CliError(f"the fleet did not start the traces: HTTP {r.status}")
        except (aiohttp.ClientError, OSError, TimeoutError) as e:
            raise CliError(f"the fleet did not start the traces: {e}") from None


def read_events(folder: Path) -> list[dict[str, Any]]:
    """What the agents wrote of their VMs, in order of time."""
    events: list[dict[str, Any]] = []
    for path in sorted(folder.glob("**/*.jsonl")):
        events.extend(json.loads(line) for line in path.read_text().splitlines() if line.strip())
    return sorted(events, key=lambda event: event["t_unix_ms"])
