"""A demo from start to report: cluster up, actions deployed, trace replayed under evictions, everything down again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import click

from fallow.report.run import RunData, RunHeader
from fallow.traces.benchmarks.profiles import BY_NAME, KIND
from fallow.traces.model import TraceFunction
from fallow_cli.client import Client
from fallow_cli.cluster import LocalCluster
from fallow_cli.demo.history import long_functions
from fallow_cli.demo.injector import Injected, inject
from fallow_cli.demo.prepare import DemoOptions, Prepared
from fallow_cli.demo.progress import View, shown
from fallow_cli.errors import CliError
from fallow_cli.state import StateDir
from loadtest.replay import replay

DEPLOY_AT_ONCE = 8
FUNCTIONS = Path(__file__).resolve().parents[2] / "functions"
TRACE_ACTION = FUNCTIONS / "actions" / "trace.py"
BENCHMARK_FOLDER = FUNCTIONS / "benchmarks"


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
        prepared = await _fitted(tenant, prepared)
        plan = prepared.replay
        known = long_functions(plan, options.strategy, prepared.notice_s) if options.history else None
        names = await _deploy(tenant, prepared, retries=options.retries, long=known)
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


async def _fitted(tenant: Client, prepared: Prepared) -> Prepared:
    """Without the benchmark functions, and with a rule that says so, where no VM offers what they need."""
    if prepared.without_benchmarks is None:
        return prepared
    kinds = {runtime["kind"] for runtime in (await tenant.call("GET", "/"))["runtimes"]["python"]}
    if KIND in kinds:
        return prepared
    rule = f"no benchmark functions: no VM offers {KIND} (their libraries come with `make setup`)"
    plain = prepared.without_benchmarks
    return replace(prepared, replay=replace(plain, rules=(rule, *plain.rules)), without_benchmarks=None)


async def _deploy(
    tenant: Client, prepared: Prepared, *, retries: bool, long: Sequence[bool] | None = None
) -> list[str]:
    """One action a function of the trace, with its memory limit; returns their names in the plan's order.

    `long` is what each declares of itself; None = nothing.
    """
    trace_exec = {"kind": "python:default", "code": TRACE_ACTION.read_text()}
    turns = asyncio.Semaphore(DEPLOY_AT_ONCE)

    async def put(number: int, function: TraceFunction) -> None:
        annotations = {"app": function.app, "idempotent": retries} | ({} if long is None else {"long": long[number]})
        document = {
            "exec": trace_exec,
            "limits": {"memory": function.memory_mb, "timeout": 300_000, "logs": 0},
            "annotations": [{"key": key, "value": value} for key, value in annotations.items()],
        }
        if function.benchmark:
            document |= _benchmark(function.benchmark)
        path = f"/api/v1/namespaces/_/actions/{function.name}"
        async with turns:
            await tenant.call("PUT", path, document=document, query={"overwrite": "true"})

    functions = prepared.replay.functions
    await asyncio.gather(*(put(number, f) for number, f in enumerate(functions)))
    return [f.name for f in functions]


def _benchmark(name: str) -> dict[str, Any]:
    """Source, kind and arguments of a benchmark function, as parts of an action's document."""
    source = (BENCHMARK_FOLDER / f"{name}.py").read_text()
    arguments = BY_NAME[name].arguments
    return {
        "exec": {"kind": KIND, "code": source},
        "parameters": [{"key": key, "value": value} for key, value in arguments.items()],
    }


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
