"""How far the simulator is from the platform: one trace, on a live local cluster and in virtual time, call by call.

The trace has two parts. In the first, calls come one at a time to idle VMs: there a policy without dice has nothing to
go by but the VMs, so both must choose the same VM for every call. In the second the calls of a trace overlap, and what
happens first on a live machine is not determined: there the share of cold starts and the quantiles are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from fallow.core.model import VmId, VmKind
from fallow.report.run import CallRecord, RunData
from fallow.report.summary import quantile
from fallow.traces.model import Arrival, ReplayPlan
from fallow.traces.vms import Life
from fallow_cli.cluster_plan import VmPlan
from fallow_cli.demo.prepare import DemoOptions, Prepared, prepare
from simulator.controller import Flight
from simulator.model import Scenario, SimVm, Workload, process_times
from simulator.workloads import planned
from simulator.world import World

FUNCTIONS = 8  # of the first part, called in turn
GAP_S = 0.25  # between its calls: ten times what one takes
CALL_MS = 20.0
CALL_CPU_MS = 2.0  # real
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """One call as either side saw it end, in ms."""

    vm: str
    cold: bool
    latency_ms: float
    wait_ms: float


def prepare_both(options: DemoOptions, *, rounds: int) -> tuple[Prepared, int]:
    """What the live cluster plays, and how many of its calls are the first part. Raises CliError."""
    prepared = prepare(options)
    plan = prepared.replay
    turns = min(FUNCTIONS, len(plan.functions))
    count = turns * rounds
    first = tuple(
        Arrival(
            at_s=GAP_S * (n + 1),
            function=n % turns,
            cpu_ms=CALL_CPU_MS,
            duration_ms=CALL_MS,
            trace_duration_s=CALL_MS / 1e3 * plan.speedup,
        )
        for n in range(count)
    )
    begins_s = GAP_S * (count + 2)
    then = tuple(replace(arrival, at_s=begins_s + arrival.at_s) for arrival in plan.arrivals)
    both = replace(plan, arrivals=first + then, duration_s=begins_s + plan.duration_s)
    return replace(prepared, replay=both, without_benchmarks=None), count


def scenario_of(options: DemoOptions, prepared: Prepared, plan: ReplayPlan) -> Scenario:
    """The same VMs, calls, policy and seed, and the times of the process runtime."""
    workload: Workload = planned(plan)
    cluster = prepared.cluster
    return Scenario(
        workload=workload,
        vms=[_vm(vm, cluster.vm_speedup) for vm in cluster.vms],
        policy=options.policy,
        strategy=options.strategy,
        seed=options.seed,
        notice_s=prepared.notice_s,
        keep_alive_s=cluster.keep_alive_s,
        times=process_times(plan.core_scale),
    )


def _vm(vm: VmPlan, speedup: float) -> SimVm:
    """Its life in real seconds, as its agent plays it."""
    if vm.life is None:
        life = Life(vm_id=VmId(vm.id), join_s=0.0, steps=((0.0, vm.cores),), end_s=None)
    else:
        told = Life.from_json(vm.life)
        life = replace(
            told,
            join_s=told.join_s / speedup,
            steps=tuple((at_s / speedup, cores) for at_s, cores in told.steps),
            end_s=None if told.end_s is None else told.end_s / speedup,
        )
    return SimVm(kind=VmKind(vm.kind), memory_mb=vm.memory_mb, life=life, speed=vm.speed, price=vm.price)


def simulated_calls(scenario: Scenario) -> list[Ended | None]:
    """How each call ended in virtual time, in order of arrival; None = without a result. Raises WrongPolicyError."""
    flights: dict[int, Flight] = {}
    result = World(scenario, lambda flight: flights.__setitem__(flight.number, flight)).run()
    return [_simulated(flights.get(number)) for number in range(1, result.arrived + 1)]


def _simulated(flight: Flight | None) -> Ended | None:
    if flight is None or flight.outcome is None or flight.vm_id is None:
        return None
    outcome = flight.outcome
    return Ended(
        vm=flight.vm_id,
        cold=outcome.init_s is not None,
        latency_ms=1e3 * (flight.ended_s - flight.arrived_s),
        wait_ms=1e3 * outcome.wait_s,
    )


def live_calls(run: RunData) -> list[Ended | None]:
    """The same of the live run."""
    return [_live(call) for call in run.calls]


def _live(call: CallRecord) -> Ended | None:
    if not call.succeeded or call.latency_ms is None:
        return None
    return Ended(vm=call.vm, cold=call.cold, latency_ms=call.latency_ms, wait_ms=call.wait_ms or 0.0)


def compare(live: Sequence[Ended | None], simulated: Sequence[Ended | None], first: int) -> dict[str, Any]:
    """What differs: `sequential` of the first part, `figures` of the rest as {figure, live, simulated, difference}."""
    pairs = list(zip(live, simulated, strict=True))
    alike = [_same_vm(pair) for pair in pairs]
    return {
        "sequential": {
            "calls": first,
            "same_vm": sum(alike[:first]),
            "same_start": sum(a is not None and b is not None and a.cold == b.cold for a, b in pairs[:first]),
            "first_difference": next((n for n, same in enumerate(alike[:first]) if not same), None),
            "live": [None if a is None else a.vm for a in live[:first]],
            "simulated": [None if b is None else b.vm for b in simulated[:first]],
        },
        "overlapping": {"calls": len(pairs) - first, "same_vm": sum(alike[first:])},
        "figures": _figures(live[first:], simulated[first:]),
    }


def _same_vm(pair: tuple[Ended | None, Ended | None]) -> bool:
    live, simulated = pair
    return live is not None and simulated is not None and live.vm == simulated.vm


def _figures(live: Sequence[Ended | None], simulated: Sequence[Ended | None]) -> list[dict[str, Any]]:
    a, b = ([call for call in side if call is not None] for side in (live, simulated))
    rows: list[tuple[str, float | None, float | None]] = [
        ("succeeded", len(a), len(b)),
        ("cold_start_share", _cold_share(a), _cold_share(b)),
    ]
    for name, times in (("wait_ms", attrgetter("wait_ms")), ("latency_ms", attrgetter("latency_ms"))):
        sides = [[times(call) for call in side] for side in (a, b)]
        rows += [(f"{name}.{label}", quantile(sides[0], q), quantile(sides[1], q)) for label, q in QUANTILES.items()]
    return [
        {"figure": name, "live": _round(x), "simulated": _round(y), "difference": _round(_less(y, x))}
        for name, x, y in rows
    ]


def _cold_share(side: Sequence[Ended]) -> float | None:
    return sum(call.cold for call in side) / len(side) if side else None


def _less(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
