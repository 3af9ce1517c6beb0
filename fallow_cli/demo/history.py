"""What an eviction strategy would know of a trace's apps if it had seen all of it before: long or not."""

from __future__ import annotations

from fallow.core.eviction import make_strategy
from fallow.core.model import ActionSpec
from fallow.traces.model import ReplayPlan, TraceFunction


def long_functions(plan: ReplayPlan, strategy: str, notice_s: float) -> tuple[bool, ...]:
    """Of each function of the plan: does the strategy take its app for long, after all calls of the plan?

    Both in real seconds. The calls count with what they take alone on one emulated core; on a busy VM they take longer.
    """
    judge = make_strategy(strategy, notice_s)
    specs = [_spec(function) for function in plan.functions]
    for arrival in plan.arrivals:
        judge.observe(specs[arrival.function].app_key, arrival.duration_ms / 1e3)
    return tuple(judge.is_long(spec) for spec in specs)


def _spec(function: TraceFunction) -> ActionSpec:
    """Only its name and app are looked at."""
    return ActionSpec(namespace="_", name=function.name, version="", revision="", kind="", app=function.app)
