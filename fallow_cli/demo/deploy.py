"""The functions of a trace as actions of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fallow.traces.benchmarks.profiles import BY_NAME, KIND
from fallow.traces.model import ReplayPlan, TraceFunction
from fallow_cli.client import Client

DEPLOY_AT_ONCE = 8
FUNCTIONS = Path(__file__).resolve().parents[2] / "functions"
TRACE_ACTION = FUNCTIONS / "actions" / "trace.py"
BENCHMARK_FOLDER = FUNCTIONS / "benchmarks"


async def fitted(tenant: Client, plan: ReplayPlan, without_benchmarks: ReplayPlan | None) -> ReplayPlan:
    """The plan, or where no VM offers what benchmark functions need the one without, with a rule that says so."""
    if without_benchmarks is None:
        return plan
    kinds = {runtime["kind"] for runtime in (await tenant.call("GET", "/"))["runtimes"]["python"]}
    if KIND in kinds:
        return plan
    rule = f"no benchmark functions: no VM offers {KIND} (their libraries come with `make setup`)"
    return replace(without_benchmarks, rules=(rule, *without_benchmarks.rules))


async def deploy(
    tenant: Client, functions: Sequence[TraceFunction], *, retries: bool, long: Sequence[bool] | None = None
) -> list[str]:
    """One action a function of the trace, with its memory limit; returns their names in the same order.

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
