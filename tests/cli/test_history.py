"""What the strategies of a demo may be told of its trace beforehand."""

from __future__ import annotations

import pytest

from fallow.traces.model import Arrival, InvocationTrace, ReplayPlan, TraceFunction
from fallow_cli.demo.history import long_functions

NOTICE_S = 3.0


def plan(*calls: tuple[int, float]) -> ReplayPlan:
    """Three functions, the first two of one app; `calls` are (function, real seconds)."""
    functions = tuple(
        TraceFunction(name=f"f{n}", app=app, memory_mb=128, cpu_share=0.1) for n, app in enumerate(("a", "a", "b"))
    )
    return ReplayPlan(
        trace=InvocationTrace(source="", format="generated", functions=functions, calls=(), window_s=1.0),
        functions=functions,
        arrivals=tuple(
            Arrival(at_s=float(n), function=f, cpu_ms=0.0, duration_ms=s * 1e3, trace_duration_s=s * 10)
            for n, (f, s) in enumerate(calls)
        ),
        speedup=10.0,
        core_scale=0.1,
        duration_s=60.0,
        offered_cores=1.0,
        offered_cores_before=1.0,
        available_cores=10.0,
        thinned_calls=0,
        cut_calls=0,
        rules=(),
    )


@pytest.mark.parametrize(
    ("strategy", "long"),
    [
        ("no-failures", (True, True, False)),
        ("prefer-regular", (True, True, False)),
        ("bounded:50", (False, False, False)),
        ("bounded:90", (True, True, False)),
    ],
)
def test_an_app_is_what_the_strategy_would_have_learned(strategy: str, long: tuple[bool, ...]) -> None:
    calls = plan((0, 0.1), (1, 3.1), (0, 0.1), (2, 3.0))
    assert long_functions(calls, strategy, NOTICE_S) == long


def test_an_app_without_calls_is_short() -> None:
    assert long_functions(plan(), "no-failures", NOTICE_S) == (False, False, False)
