"""A hand-made run whose every figure can be worked out on paper."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fallow.core.model import Status
from fallow.report.run import CallRecord, Ending, RunData, RunHeader

BEGAN_UNIX_MS = 1_700_000_000_000


def event(t_s: float, vm: str, kind: str, what: str, **details: Any) -> dict[str, Any]:
    return {"t_unix_ms": BEGAN_UNIX_MS + round(t_s * 1000), "vm": vm, "kind": kind, "event": what, **details}


def ended(at_s: float, latency_ms: float, **changes: Any) -> CallRecord:
    """A warm success, sent 1 ms late on h1."""
    call = CallRecord(
        function=0,
        action="f0",
        intended_s=at_s,
        sent_s=at_s + 0.001,
        answered_s=at_s + latency_ms / 1e3,
        ending=Ending.RECORDED,
        activation_id="0" * 32,
        http_status=200,
        status=Status.SUCCESS,
        wait_ms=1.0,
        run_ms=latency_ms - 3,
        cpu_ms=2.0,
        attempt=1,
        vm="h1",
        vm_kind="harvest",
    )
    return replace(call, **changes)


def unended(at_s: float, ending: Ending, error: str) -> CallRecord:
    return CallRecord(
        function=0,
        action="f0",
        intended_s=at_s,
        sent_s=at_s,
        answered_s=None if ending is Ending.LOST else at_s + 0.01,
        ending=ending,
        error=error,
    )


@pytest.fixture
def run() -> RunData:
    """100 s with one regular VM and two harvest VMs.

    r1 has 4 cores for all of it. h1 has 8 cores for 50 s, then 2 cores for 50 s. h2 joins at 20 s with 10 cores and is
    evicted at 80 s by injection, with its notice at 77 s; h2.2 joins at 90 s with 1 core.
    """
    calls = [ended(float(i), 10.0 * (i + 1)) for i in range(90)]
    calls[3] = replace(calls[3], init_ms=7.0)
    calls[4] = replace(calls[4], init_ms=9.0, prewarmed=True)
    calls[5] = replace(calls[5], status=Status.APPLICATION_ERROR, http_status=502, error='{"error":"boom"}')
    calls[6] = replace(calls[6], vm="r1", vm_kind="regular", cpu_ms=500.0)
    calls += [
        unended(91.0, Ending.REFUSED, "HTTP 429: too busy"),
        unended(92.0, Ending.REFUSED, "HTTP 429: too busy"),
        unended(93.0, Ending.UNANSWERED, "no answer: ServerDisconnectedError"),
        unended(94.0, Ending.LOST, "no final record by the end of the drain"),
    ]
    events = [
        event(-5, "r1", "regular", "joined", cores=4.0),
        event(-4, "h1", "harvest", "joined", cores=6.0),
        event(-1, "h1", "harvest", "cores", cores=8.0, by="trace"),
        event(20, "h2", "harvest", "joined", cores=10.0),
        event(50, "h1", "harvest", "cores", cores=2.0, by="trace"),
        event(60, "h1", "harvest", "notice", cores=2.0, notice_s=3.0, by="operator"),
        event(61, "h1", "harvest", "withdrawn", cores=2.0, by="operator"),
        event(70, "r1", "regular", "invoker_restarted"),
        event(77, "h2", "harvest", "notice", cores=10.0, notice_s=3.0, by="operator"),
        event(80, "h2", "harvest", "evicted", cores=10.0, by="operator"),
        event(81, "h2", "harvest", "gone"),
        event(90, "h2.2", "harvest", "joined", cores=1.0),
        event(130, "h1", "harvest", "gone"),
    ]
    return RunData(
        header=RunHeader(
            policy="mws",
            strategy="prefer-regular",
            seed=1,
            speedup=10.0,
            vm_speedup=120.0,
            core_scale=0.1,
            discount="Typical",
            duration_s=95.0,
            notice_s=3.0,
            invocation_source="generated",
            vm_source="generated",
            actions=60,
            offered_cores=3.14159,
            available_cores=17.5,
            thinned_calls=6,
            cut_calls=2,
            rules=("calls longer than 60 s are cut to 60 s", "functions are left out by seed"),
            cpu_enforced=True,
        ),
        calls=tuple(calls),
        vm_events=tuple(events),
        counters={
            "placements": {"short_harvest": 80, "short_regular": 5, "long_harvest": 3, "long_regular": 4},
            "replaced": 2,
            "decisions": {
                "evictions": 1,
                "evictions_with_loss": 1,
                "evicted_calls": 9,
                "evicted_succeeded": 4,
                "evicted_errored": 1,
                "evicted_not_idempotent": 2,
                "evicted_used_up": 1,
            },
        },
        injected=1,
        began_unix_ms=BEGAN_UNIX_MS,
        ended_unix_ms=BEGAN_UNIX_MS + 100_000,
    )
