"""The figures of a run: pure functions from its raw data to the dictionary that is written as report.json."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fallow.core.model import VmKind
from fallow.report.benchmarks import benchmark_figures
from fallow.report.price import cost_core_h, discount_named
from fallow.report.run import CallRecord, Ending, RunData
from fallow.report.timeline import VmLife, vm_lives

QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
PLACEMENTS = ("short_harvest", "short_regular", "long_harvest", "long_regular")
QUANTILE_METHOD = "nearest rank: the smallest measured value that at least the share q of all values does not exceed"

DEFINITIONS = {
    "succeeded": "the final record is a success",
    "failed": "any other final record, a refused call, or a connection that broke before an answer",
    "lost": "taken by the server, and no final record 30 s after the last arrival",
    "latency_ms": "from the moment a call was due to its final record, over all calls that have one",
    "wait_ms": "from acceptance to the start of the run, waiting for a VM, a turn and a container",
    "init_ms": "of cold starts only: loading the action's code into a new container",
    "run_ms": "the run itself",
    "late_ms": "how much later than due the load generator sent",
    "cold_starts": "records with an initTime, the prewarmed ones among them",
    "benchmarks": "calls that did the real work of a benchmark function instead of burning and sleeping",
    "replaced": "activations placed more than once",
    "evicted_with_loss": "evictions that cut off a running call",
    "cut_off": "calls that evictions cut off while they ran, each once, and how they ended; failed for good = no "
    "further attempt was allowed; unforeseen = the strategy took them for short when they were placed",
    "placements": "dispatches, those of calls placed again among them; long = taken for long by the strategy then",
    "harvested_core_s": "cores of the evictable VMs over time, in their own (emulated) cores and real seconds",
    "cost": "of the evictable VMs, in regular core-hours; regular = the same core-seconds at full price",
}


def quantile(values: Sequence[float], q: float) -> float | None:
    """By nearest rank, so always a value that was measured; None of nothing. `values` need not be sorted."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)]


def lives_of(run: RunData) -> list[VmLife]:
    return vm_lives(run.vm_events, began_unix_ms=run.began_unix_ms, ended_unix_ms=run.ended_unix_ms)


def summarise(run: RunData) -> dict[str, Any]:
    """Every figure of the report; units are in the names, the words in `definitions`.

    Raises ValueError for an event of a VM that is none, or an unknown discount.
    """
    return {
        **_outcomes(run.calls),
        **_latencies(run.calls),
        **benchmark_figures(run),
        **_vms(run),
        **_scheduling(run),
        **_conditions(run),
    }


def summarise_calls(run: RunData) -> dict[str, Any]:
    """The figures of the calls alone, of a run on a cluster whose VMs are not this program's to know."""
    return {**_outcomes(run.calls), **_latencies(run.calls), **benchmark_figures(run), **_conditions(run)}


def _outcomes(calls: Sequence[CallRecord]) -> dict[str, Any]:
    succeeded = sum(call.succeeded for call in calls)
    recorded = [call for call in calls if call.ending is Ending.RECORDED]
    cold = sum(call.cold for call in recorded)
    return {
        "invocations": len(calls),
        "succeeded": succeeded,
        "failed": sum(call.failed for call in calls),
        "lost": sum(call.lost for call in calls),
        "refused": sum(call.ending is Ending.REFUSED for call in calls),
        "unanswered": sum(call.ending is Ending.UNANSWERED for call in calls),
        "success_rate": succeeded / len(calls) if calls else None,
        "cold_starts": cold,
        "cold_start_share": cold / len(recorded) if recorded else None,
        "prewarmed": sum(call.prewarmed for call in recorded),
        "warm_starts": len(recorded) - cold,
        "errors": _errors(calls),
    }


def _errors(calls: Iterable[CallRecord]) -> list[dict[str, Any]]:
    """What went wrong, the most frequent first; at most ten kinds."""
    counts: dict[str, int] = {}
    for call in calls:
        if not call.succeeded:
            text = f"{call.status.text}: {call.error}" if call.status is not None else call.error
            counts[text] = counts.get(text, 0) + 1
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [{"error": text, "count": count} for text, count in ranked[:10]]


def _latencies(calls: Sequence[CallRecord]) -> dict[str, Any]:
    recorded = [call for call in calls if call.ending is Ending.RECORDED]
    columns: dict[str, list[float | None]] = {
        "latency_ms": [call.latency_ms for call in recorded],
        "wait_ms": [call.wait_ms for call in recorded],
        "init_ms": [call.init_ms for call in recorded],
        "run_ms": [call.run_ms for call in recorded],
        "late_ms": [(call.sent_s - call.intended_s) * 1e3 for call in calls],
    }
    return {name: _quantiles(values) for name, values in columns.items()} | {"quantile_method": QUANTILE_METHOD}


def _quantiles(values: Iterable[float | None]) -> dict[str, float | None]:
    measured = sorted(value for value in values if value is not None)
    found = {name: quantile(measured, q) for name, q in QUANTILES.items()}
    return {name: None if value is None else round(value, 3) for name, value in found.items()}


def _vms(run: RunData) -> dict[str, Any]:
    lives = lives_of(run)
    discount = discount_named(run.header.discount)
    evictable = [life for life in lives if life.kind.evictable]
    core_s = sum(life.core_s for life in evictable)
    paid, full = sum(cost_core_h(life, discount) for life in evictable), core_s / 3600
    regular_vms = sum(cost_core_h(life, discount) for life in lives if not life.kind.evictable)
    used_ms = sum(call.cpu_ms or 0.0 for call in run.calls if call.vm_kind in (VmKind.HARVEST, VmKind.SPOT))
    return {
        "vms": len(lives),
        "evictions": sum(life.evicted for life in lives),
        "injected": sum(life.injected for life in lives),
        "injections_asked": run.injected,
        "notices": sum(len(life.notices) for life in lives),
        "resizes": sum(len(life.steps) - 1 for life in lives),
        "harvested_core_s": round(core_s, 3),
        "harvested_used_core_s": round(used_ms / 1e3, 3),
        "cost": {
            "harvest": round(paid, 6),
            "regular": round(full, 6),
            "saved_share": 1 - paid / full if full else None,
            "regular_vms": round(regular_vms, 6),
            "unit": "regular core-hours",
            "discount": run.header.discount,
        },
    }


def _scheduling(run: RunData) -> dict[str, Any]:
    placements = dict.fromkeys(PLACEMENTS, 0) | dict(run.counters["placements"])
    decisions = run.counters["decisions"]
    return {
        "evicted_with_loss": int(decisions.get("evictions_with_loss", 0)),
        "cut_off": _cut_off(decisions),
        "replaced": int(run.counters["replaced"]),
        "placements": placements,
    }


def _cut_off(decisions: Mapping[str, int]) -> dict[str, int]:
    """What became of the calls that evictions cut off; `other`: not over, or ended by another controller."""
    calls, succeeded, own_error, not_idempotent, out_of_attempts = (
        int(decisions.get(f"evicted_{name}", 0))
        for name in ("calls", "succeeded", "errored", "not_idempotent", "used_up")
    )
    failed = not_idempotent + out_of_attempts
    return {
        "calls": calls,
        "unforeseen": int(decisions.get("evicted_unforeseen", 0)),
        "succeeded": succeeded,
        "failed": failed,
        "not_idempotent": not_idempotent,
        "out_of_attempts": out_of_attempts,
        "own_error": own_error,
        "other": calls - succeeded - failed - own_error,
    }


def _conditions(run: RunData) -> dict[str, Any]:
    header = run.header
    return {
        "policy": header.policy,
        "runtime": header.runtime,
        "strategy": header.strategy,
        "seed": header.seed,
        "speedup": header.speedup,
        "vm_speedup": header.vm_speedup,
        "core_scale": header.core_scale,
        "duration_s": header.duration_s,
        "took_s": round((run.ended_unix_ms - run.began_unix_ms) / 1e3, 3),
        "notice_s": header.notice_s,
        "invocation_source": header.invocation_source,
        "vm_source": header.vm_source,
        "actions": header.actions,
        "offered_cores": round(header.offered_cores, 3),
        "available_cores": round(header.available_cores, 3),
        "thinned": header.thinned_calls,
        "thinned_share": _share(header.thinned_calls, header.thinned_calls + len(run.calls)),
        "cut": header.cut_calls,
        "rules": list(header.rules),
        "retries": header.retries,
        "history": header.history,
        "cpu_enforced": header.cpu_enforced,
        "cpu_note": header.cpu_note,
        "definitions": dict(DEFINITIONS),
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
