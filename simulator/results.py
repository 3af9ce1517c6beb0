"""The figures of a simulated run, under the names that the report of a live one has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fallow.core.model import VmKind
from fallow.report.price import cost_core_h, discount_named
from fallow.report.summary import PLACEMENTS, QUANTILE_METHOD, QUANTILES
from fallow.report.timeline import VmLife
from simulator.model import Scenario, SimVm
from simulator.world import Result

Floats = npt.NDArray[np.float32]
SUBJECTS = {
    "latency_ms": "from arrival to answer, over all calls that ended with a result",
    "wait_ms": "in the VM where it ended, before its container ran it",
    "init_ms": "of cold starts only: loading the action's code into a new container",
    "run_ms": "the run itself",
}


def quantile(values: Floats, q: float) -> float | None:
    """By nearest rank, as in the live report; None of nothing."""
    if not len(values):
        return None
    rank = max(0, int(np.ceil(q * len(values))) - 1)
    return float(np.partition(values, rank)[rank])


def summarise(scenario: Scenario, result: Result, *, discount: str = "Typical") -> dict[str, Any]:
    """The fields of report.json that a simulation has; units are in the names. Raises ValueError for the discount."""
    succeeded = len(result.latency_s)
    cold = sum(result.cold)
    refused = result.refused.total()
    return {
        "simulated": True,
        "policy": scenario.policy,
        "strategy": scenario.strategy,
        "seed": scenario.seed,
        "controllers": scenario.controllers,
        "invocation_source": scenario.workload.name,
        "duration_s": scenario.workload.window_s,
        "took_s": round(result.virtual_s, 3),
        "notice_s": scenario.notice_s,
        "retries": scenario.retries,
        "actions": len(scenario.workload.actions),
        "invocations": result.arrived,
        "succeeded": succeeded,
        "failed": result.failed + refused,
        "lost": result.unfinished,
        "refused": refused,
        "unanswered": 0,
        "success_rate": succeeded / result.arrived if result.arrived else None,
        "cold_starts": cold,
        "cold_start_share": cold / succeeded if succeeded else None,
        "warm_starts": succeeded - cold,
        "errors": _errors(result),
        **_times(result),
        "quantile_method": QUANTILE_METHOD,
        **_vms(scenario, result, discount),
        **_scheduling(result.counters),
        "digest": result.digest,
        "events": result.events,
        "definitions": dict(SUBJECTS),
    }


def _times(result: Result) -> dict[str, Any]:
    columns = {
        "latency_ms": np.frombuffer(result.latency_s, dtype=np.float32),
        "wait_ms": np.frombuffer(result.wait_s, dtype=np.float32),
        "init_ms": np.frombuffer(result.init_s, dtype=np.float32),
        "run_ms": np.frombuffer(result.run_s, dtype=np.float32),
    }
    return {name: _quantiles(values) for name, values in columns.items()}


def _quantiles(values: Floats) -> dict[str, float | None]:
    found = {name: quantile(values, q) for name, q in QUANTILES.items()}
    return {name: None if value is None else round(value * 1e3, 3) for name, value in found.items()}


def _errors(result: Result) -> list[dict[str, Any]]:
    rows = [(f"refused: {reason.value}", count) for reason, count in result.refused.items()]
    rows.append(("whisk internal error: cut off by an eviction", result.evicted))
    rows.append(("whisk internal error: other", result.failed - result.evicted))
    return [{"error": text, "count": count} for text, count in sorted(rows, key=lambda r: -r[1]) if count]


def _vms(scenario: Scenario, result: Result, discount_name: str) -> dict[str, Any]:
    discount = discount_named(discount_name)
    lives = [
        life
        for life in (life_of(sim, result.virtual_s) for sim in [*scenario.vms, *result.ordered])
        if life is not None
    ]
    evictable = [life for life in lives if life.kind.evictable]
    core_s = sum(life.core_s for life in evictable)
    paid, full = sum(cost_core_h(life, discount) for life in evictable), core_s / 3600
    regular = [life for life in lives if life.kind is VmKind.REGULAR]
    return {
        "vms": len(lives),
        "ordered_vms": len(result.ordered),
        "evictions": sum(life.evicted for life in lives),
        "resizes": sum(len(life.steps) - 1 for life in lives),
        "harvested_core_s": round(core_s, 3),
        "used_core_s": round(result.used_core_s, 3),
        "offered_core_s": round(result.offered_core_s, 3),
        "cost": {
            "harvest": round(paid, 6),
            "regular": round(full, 6),
            "saved_share": 1 - paid / full if full else None,
            "regular_vms": round(sum(cost_core_h(life, discount) for life in regular), 6),
            "unit": "regular core-hours",
            "discount": discount_name,
        },
    }


def life_of(sim: SimVm, span_s: float) -> VmLife | None:
    """A VM's life within the run, for the price model; None = it came later."""
    if sim.life.join_s >= span_s:
        return None
    ended = sim.life.end_s is not None and sim.life.join_s + sim.life.end_s < span_s
    end_s = sim.life.join_s + sim.life.end_s if ended and sim.life.end_s is not None else span_s
    steps: Sequence[tuple[float, float]] = [(sim.life.join_s + at_s, cores) for at_s, cores in sim.life.steps]
    return VmLife(
        vm=sim.life.vm_id,
        kind=sim.kind,
        steps=tuple(step for step in steps if step[0] < end_s),
        end_s=end_s,
        evicted=ended,
        evicted_by="trace" if ended else "",
        notices=(),
    )


def _scheduling(counters: Mapping[str, int]) -> dict[str, Any]:
    counted = Counter(counters)
    failed = counted["evicted_not_idempotent"] + counted["evicted_used_up"]
    return {
        "evicted_with_loss": counted["evictions_with_loss"],
        "cut_off": {
            "calls": counted["evicted_calls"],
            "unforeseen": counted["evicted_unforeseen"],
            "succeeded": counted["evicted_succeeded"],
            "failed": failed,
            "not_idempotent": counted["evicted_not_idempotent"],
            "out_of_attempts": counted["evicted_used_up"],
            "own_error": counted["evicted_errored"],
            "other": counted["evicted_calls"] - counted["evicted_succeeded"] - counted["evicted_errored"] - failed,
        },
        "replaced": counted["replaced"],
        "placements": {name: counted[f"placed_{name}"] for name in PLACEMENTS},
    }
