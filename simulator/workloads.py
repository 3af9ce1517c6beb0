"""Workloads: the evaluation's mix of benchmark functions, and the calls of traces."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate

from fallow.core.model import ActionSpec
from fallow.traces.benchmarks.profiles import BENCHMARKS, Profile, measured_profile
from fallow.traces.generated.invocations import draw_calls, functions_of
from fallow.traces.model import InvocationTrace, ReplayPlan, TraceFunction
from simulator.model import SimAction, SimCall, Workload

COPIES = 50  # of each benchmark function but float_op, as the published evaluation deployed them
RUNTIME = "python:3"
# A trace tells nothing of what loading a function's code costs: as the mean of the nine benchmark functions.
TRACE_INIT_CPU_S = 0.05
TRACE_RESIDENT_MB = 32.0
PLAN_INIT_CPU_S = 0.001  # of the replay's action, real: bench, "of the cold call: init"
_CHUNK = 100_000  # calls of a generated workload that are objects at once


def mix(
    *,
    rate_per_s: float,
    window_s: float,
    seed: int,
    work: float = 1.0,
    init_work: float = 1.0,
    profile: Profile | None = None,
) -> Workload:
    """The evaluation's mix: 8 functions in 50 copies and float_op, Poisson arrivals.

    `work` multiplies the measured CPU time of every call, as larger arguments do; `init_work` that of loading code and
    libraries into a new container.
    """
    profile = profile or measured_profile()
    actions: list[SimAction] = []
    cpu_s: list[float] = []
    weights: list[float] = []
    for benchmark in BENCHMARKS:
        cost = profile.costs[benchmark.name]
        copies = 1 if benchmark.name == "float_op" else COPIES
        for copy in range(copies):
            actions.append(
                SimAction(
                    spec=_spec(benchmark.name if copies == 1 else f"{benchmark.name}-{copy}", benchmark.memory_mb),
                    init_cpu_s=init_work * max(0.0, cost.cold_cpu_ms - cost.cpu_ms) / 1e3,
                    resident_mb=cost.peak_mb,
                )
            )
            cpu_s.append(work * cost.cpu_ms / 1e3)
            weights.append(benchmark.weight / copies)

    def calls() -> Iterator[SimCall]:
        dice = random.Random(f"{seed}:mix")
        cumulative, indices = list(accumulate(weights)), range(len(weights))
        at_s = dice.expovariate(rate_per_s)
        while at_s < window_s:
            (index,) = dice.choices(indices, cum_weights=cumulative)
            yield SimCall(at_s=at_s, action=index, cpu_s=cpu_s[index])
            at_s += dice.expovariate(rate_per_s)

    expected = round(rate_per_s * window_s)
    return Workload(name=f"mix at {rate_per_s:g}/s", actions=actions, calls=calls, window_s=window_s, expected=expected)


def mean_cpu_s(work: float = 1.0, profile: Profile | None = None) -> float:
    """CPU seconds of a warm call of the mix, on average."""
    profile = profile or measured_profile()
    total = sum(benchmark.weight for benchmark in BENCHMARKS)
    return work * sum(b.weight * profile.costs[b.name].cpu_ms for b in BENCHMARKS) / total / 1e3


def traced(trace: InvocationTrace, *, speedup: float = 1.0) -> Workload:
    """The calls of a trace; `speedup` divides the gaps between them, and not how long they take."""

    def calls() -> Iterator[SimCall]:
        for call in trace.calls:
            yield _call(call.at_s / speedup, call.function, call.duration_s, trace.functions[call.function].cpu_share)

    return Workload(
        name=trace.source,
        actions=[_action(function) for function in trace.functions],
        calls=calls,
        window_s=trace.window_s / speedup,
        expected=len(trace.calls),
    )


def planned(plan: ReplayPlan) -> Workload:
    """What a live replay sends, with CPU in the VMs' own (emulated) cores. Raises ValueError for benchmark functions,
    which cost what their real work costs."""
    if any(function.benchmark for function in plan.functions):
        raise ValueError("a plan with benchmark functions cannot be simulated as the live replay runs it")

    def calls() -> Iterator[SimCall]:
        for arrival in plan.arrivals:
            cpu_s = arrival.cpu_ms / 1e3 / plan.core_scale
            idle_s = max(0.0, arrival.duration_ms / 1e3 - cpu_s)
            yield SimCall(at_s=arrival.at_s, action=arrival.function, cpu_s=cpu_s, idle_s=idle_s)

    actions = [replace(_action(function), init_cpu_s=PLAN_INIT_CPU_S / plan.core_scale) for function in plan.functions]
    return Workload(
        name=plan.trace.source,
        actions=actions,
        calls=calls,
        window_s=plan.duration_s,
        expected=len(plan.arrivals),
    )


def generated(*, rate_per_s: float, window_s: float, seed: int, functions: int = 424) -> Workload:
    """Calls drawn from the published distributions, of as many functions as the published trace has."""
    listed = functions_of(seed=seed, functions=functions)

    def calls() -> Iterator[SimCall]:
        drawn = draw_calls(seed=seed, window_s=window_s, rate_per_s=rate_per_s, functions=functions)
        for start in range(0, len(drawn.at_s), _CHUNK):
            part = slice(start, start + _CHUNK)
            columns = (drawn.at_s[part].tolist(), drawn.function[part].tolist(), drawn.duration_s[part].tolist())
            for at_s, function, duration_s in zip(*columns, strict=True):
                yield _call(at_s, function, duration_s, listed[function].cpu_share)

    expected = round(rate_per_s * window_s)
    return Workload(
        name=f"generated at {rate_per_s:g}/s",
        actions=[_action(function) for function in listed],
        calls=calls,
        window_s=window_s,
        expected=expected,
    )


def _call(at_s: float, function: int, duration_s: float, cpu_share: float) -> SimCall:
    return SimCall(at_s=at_s, action=function, cpu_s=duration_s * cpu_share, idle_s=duration_s * (1 - cpu_share))


def _action(function: TraceFunction) -> SimAction:
    resident_mb = min(TRACE_RESIDENT_MB, float(function.memory_mb))
    spec = _spec(function.name, function.memory_mb, app=function.app)
    return SimAction(spec=spec, init_cpu_s=TRACE_INIT_CPU_S, resident_mb=resident_mb)


def _spec(name: str, memory_mb: int, app: str = "") -> ActionSpec:
    return ActionSpec(
        namespace="guest",
        name=name,
        version="0.0.1",
        revision="1",
        kind=RUNTIME,
        memory_mb=memory_mb,
        timeout_s=300.0,
        app=app,
    )
