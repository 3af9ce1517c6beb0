from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.traces.benchmarks.profiles import Cost, Profile
from fallow.traces.errors import TraceError
from fallow.traces.generated.invocations import generate_invocations
from fallow.traces.model import InvocationTrace, ReplayPlan, TraceCall, TraceFunction
from fallow.traces.plan import (
    CALL_CPU_S,
    COLD_STARTS,
    TAIL_S,
    BenchmarksTooLargeError,
    default_core_scale,
    default_vm_speedup,
    make_plan,
)

Calls = list[tuple[float, int, float]]


def trace_of(calls: Calls, *, window_s: float = 600.0, memory_mb: int = 256, share: float = 0.5) -> InvocationTrace:
    count = max((f for _, f, _ in calls), default=0) + 1
    return InvocationTrace(
        source="test",
        format="azure2021",
        functions=tuple(
            TraceFunction(name=f"f{i}", app=f"a{i}", memory_mb=memory_mb, cpu_share=share) for i in range(count)
        ),
        calls=tuple(TraceCall(at_s=t, function=f, duration_s=d) for t, f, d in sorted(calls)),
        window_s=window_s,
        notes=("what the reader said",),
    )


def plan_of(trace: InvocationTrace, **changes: Any) -> ReplayPlan:
    options: dict[str, Any] = {
        "duration_s": 60.0,
        "speedup": 10.0,
        "core_scale": 0.1,
        "vm_mean_cores": 60.0,
        "machine_cores": 2.0,
        "seed": 1,
    }
    return make_plan(trace, **(options | changes))


def test_a_call_is_divided_by_the_speedup_and_its_cpu_scaled() -> None:
    plan = plan_of(trace_of([(20.0, 0, 8.0)]))
    (arrival,) = plan.arrivals
    assert arrival.at_s == pytest.approx(2.0)
    assert arrival.duration_ms == pytest.approx(800.0)
    assert arrival.cpu_ms == pytest.approx(40.0)
    assert arrival.trace_duration_s == 8.0
    # alone on one emulated core, which is 0.1 real ones: 400 ms of burning and 400 ms of sleep
    assert arrival.cpu_ms / 0.1 + (1 - 0.5) * arrival.duration_ms == pytest.approx(arrival.duration_ms)
    assert plan.offered_cores == pytest.approx(0.4 / 60)
    assert plan.thinned_calls == plan.cut_calls == 0
    assert plan.rules[-1] == "what the reader said"
    assert not any("thinned" in rule or "cut" in rule for rule in plan.rules)


def test_tiny_durations_stay_as_they_are() -> None:
    (arrival,) = plan_of(trace_of([(0.0, 0, 0.0)])).arrivals
    assert (arrival.cpu_ms, arrival.duration_ms) == (0.0, 0.0)


def test_calls_longer_than_a_part_of_the_window_are_cut_and_that_is_said() -> None:
    plan = plan_of(trace_of([(0.0, 0, 900.0), (550.0, 1, 900.0), (599.0, 2, 1.0)], share=0.1))
    first, second, third = plan.arrivals
    assert first.duration_ms == pytest.approx(20_000)  # a third of the window
    assert second.duration_ms == pytest.approx(15_000)  # sent at 55 s: 10 s after the window it must be over
    assert second.cpu_ms == pytest.approx(15_000 * 0.1 * 0.1)
    assert third.duration_ms == pytest.approx(100)
    assert plan.cut_calls == 2
    assert any(rule.startswith("2 calls were cut") for rule in plan.rules)


def test_only_functions_that_are_called_in_the_window_are_kept() -> None:
    plan = plan_of(trace_of([(0.0, 3, 1.0), (700.0, 1, 1.0)], window_s=1000.0))
    assert [f.name for f in plan.functions] == ["f3"]
    assert [a.function for a in plan.arrivals] == [0]


def test_a_short_trace_is_sent_in_its_own_time() -> None:
    plan = plan_of(trace_of([(0.0, 0, 1.0), (50.0, 0, 1.0)], window_s=100.0))
    assert plan.duration_s == pytest.approx(10.0)
    assert any(rule.startswith("the trace ends 100 s after the start") for rule in plan.rules)


def test_an_empty_window_plans_nothing() -> None:
    plan = plan_of(trace_of([], window_s=0.0))
    assert plan.arrivals == plan.functions == ()
    assert plan.thinned_calls == 0


def test_whole_functions_are_thinned_where_the_rate_is_too_high() -> None:
    calls = [(i * 0.1, f, 0.01) for f in range(4) for i in range(5900)]  # 4 functions of 98/s each, 30/s are allowed
    calls += [(float(i), 4, 0.01) for i in range(100)]
    plan = plan_of(trace_of(calls), machine_cores=1.0)
    assert [f.name for f in plan.functions] == ["f4"]
    assert len(plan.arrivals) == 100
    assert plan.thinned_calls == 4 * 5900
    (rule,) = [r for r in plan.rules if r.startswith("thinned")]
    assert "23600 of 23700 calls (99.6%)" in rule
    assert "395 of at most 30 calls/s" in rule


def test_thinning_depends_on_the_seed_alone() -> None:
    trace = trace_of([(float(i), f, 20.0) for f in range(30) for i in range(0, 600, 20)])
    assert plan_of(trace) == plan_of(trace)
    assert len({plan_of(trace, seed=seed).functions for seed in range(8)}) > 1


def test_load_that_not_one_function_fits_is_an_error_with_advice() -> None:
    trace = trace_of([(i * 0.1, 0, 5.0) for i in range(6000)])
    with pytest.raises(TraceError, match=r"not one function .* real cores[\s\S]*--speedup"):
        plan_of(trace)


def test_memory_limits_are_lowered_to_a_vm() -> None:
    trace = trace_of([(0.0, 0, 1.0)], memory_mb=2048)
    plan = plan_of(trace, vm_memory_mb=700.5, vms_memory_mb=3500.0)
    assert plan.functions[0].memory_mb == 700
    assert any("1 functions had their memory limit lowered" in rule for rule in plan.rules)


def test_memory_of_running_calls_bounds_the_load() -> None:
    trace = trace_of([(float(i), f, 300.0) for f in range(10) for i in range(0, 300, 30)], share=0.0, memory_mb=512)
    full = plan_of(trace)
    tight = plan_of(trace, vm_memory_mb=1024.0, vms_memory_mb=5120.0)
    assert full.thinned_calls == 0
    busy_mb = sum(a.duration_ms / 1e3 for a in tight.arrivals) * 512 / 60
    assert 0 < busy_mb <= 0.6 * 5120
    assert any("MB of VM memory" in rule for rule in tight.rules)


PROFILE = Profile(
    costs={
        "pyaes": Cost(arguments={}, cpu_ms=30.0, cold_cpu_ms=35.0, peak_mb=14.0),
        "mobilenet": Cost(arguments={}, cpu_ms=40.0, cold_cpu_ms=340.0, peak_mb=60.0),
    },
    conditions="in a test",
)


def with_benchmarks(trace: InvocationTrace, calls: list[tuple[float, str]]) -> InvocationTrace:
    """The trace with calls of benchmark functions added."""
    functions = [
        TraceFunction(name=f"bench_{n}", app=n, memory_mb=512, cpu_share=1.0, benchmark=n) for n in PROFILE.costs
    ]
    first = len(trace.functions)
    added = [TraceCall(at_s=t, function=first + list(PROFILE.costs).index(n), duration_s=0.0) for t, n in calls]
    return replace(
        trace,
        functions=(*trace.functions, *functions),
        calls=tuple(sorted([*trace.calls, *added], key=lambda c: c.at_s)),
    )


@pytest.mark.parametrize("speedup", [1.0, 10.0, 40.0])
def test_the_speedup_moves_benchmark_calls_and_leaves_their_work_alone(speedup: float) -> None:
    trace = with_benchmarks(trace_of([(0.0, 0, 1.0)]), [(20.0, "pyaes"), (40.0, "mobilenet")])
    _, first, second = plan_of(trace, speedup=speedup, profile=PROFILE).arrivals
    assert (first.at_s, second.at_s) == (pytest.approx(20 / speedup), pytest.approx(40 / speedup))
    assert (first.cpu_ms, second.cpu_ms) == (30.0, 40.0)
    # alone on one emulated core, a tenth of a real one
    assert first.duration_ms == pytest.approx(300.0)


def test_benchmark_calls_are_no_faster_than_one_real_core() -> None:
    trace = with_benchmarks(trace_of([]), [(1.0, "pyaes")])
    (arrival,) = plan_of(trace, core_scale=4.0, profile=PROFILE).arrivals
    assert arrival.duration_ms == 30.0


def test_benchmark_calls_count_in_the_load_by_what_was_measured() -> None:
    calls = [(float(i), "mobilenet") for i in range(300)]
    plan = plan_of(with_benchmarks(trace_of([]), calls), profile=PROFILE)
    assert plan.offered_cores == pytest.approx(300 * 0.040 / 0.1 / 60)
    rule = next(r for r in plan.rules if r.startswith("benchmarks: "))
    assert rule.startswith("benchmarks: 300 of 300 calls (100.0%) run 1 real functions")
    assert "neither speed-up nor core scale applies" in rule
    assert rule.endswith("40 to 40 ms of real CPU (measured in a test)")


def test_benchmark_functions_are_never_thinned_out_and_take_their_part_of_the_bounds() -> None:
    calls = [(i / 0.7, f, 0.01) for f in range(4) for i in range(419)]  # 28/s together, where 30/s are allowed
    assert plan_of(trace_of(calls), machine_cores=1.0).thinned_calls == 0
    trace = with_benchmarks(trace_of(calls), [(float(i), "pyaes") for i in range(600)])  # 10/s, and 0.34 real cores
    for seed in range(5):
        plan = plan_of(trace, machine_cores=1.0, profile=PROFILE, seed=seed)
        assert [bool(f.benchmark) for f in plan.functions] == [False, False, True]
        assert sum(1 for a in plan.arrivals if a.function == 2) == 600
        assert plan.thinned_calls == 2 * 419


def test_benchmarks_that_alone_break_a_bound_are_an_error_with_advice() -> None:
    trace = with_benchmarks(trace_of([(0.0, 0, 1.0)]), [(i * 0.1, "mobilenet") for i in range(5900)])
    with pytest.raises(BenchmarksTooLargeError, match=r"alone ask for .* real cores[\s\S]*--no-benchmarks"):
        plan_of(trace, profile=PROFILE)


def test_benchmarks_that_leave_no_room_are_told_from_a_trace_that_never_fits() -> None:
    calls = [(i * 0.1, 0, 0.01) for i in range(1700)]  # 28/s of at most 30/s
    trace = with_benchmarks(trace_of(calls), [(float(i), "pyaes") for i in range(300)])
    with pytest.raises(BenchmarksTooLargeError, match=r"no other fits[\s\S]*--no-benchmarks"):
        plan_of(trace, machine_cores=1.0, profile=PROFILE)
    assert plan_of(trace_of(calls), machine_cores=1.0).thinned_calls == 0


def test_a_plan_without_benchmark_calls_has_no_rule_of_them() -> None:
    assert not any("benchmark" in rule for rule in plan_of(trace_of([(0.0, 0, 1.0)])).rules)


calls_strategy = st.lists(st.tuples(st.floats(0, 599), st.integers(0, 6), st.floats(0, 700)), min_size=1, max_size=60)


@given(
    calls=calls_strategy,
    speedup=st.floats(0.5, 100),
    duration_s=st.floats(2, 600),
    core_scale=st.floats(0.01, 1),
    cores=st.floats(1, 200),
    seed=st.integers(0, 9),
)
@settings(max_examples=200, deadline=None)
def test_whatever_comes_the_plan_keeps_its_bounds(
    calls: Calls, speedup: float, duration_s: float, core_scale: float, cores: float, seed: int
) -> None:
    trace = trace_of(calls)
    due = [c for c in trace.calls if c.at_s / speedup < min(duration_s, trace.window_s / speedup)]
    try:
        plan = plan_of(
            trace, speedup=speedup, duration_s=duration_s, core_scale=core_scale, vm_mean_cores=cores, seed=seed
        )
    except TraceError:
        assert due
        return
    assert len(plan.arrivals) + plan.thinned_calls == len(due)
    arrivals = [a.at_s for a in plan.arrivals]
    assert arrivals == sorted(arrivals)
    assert all(0 <= at_s < plan.duration_s for at_s in arrivals)
    assert plan.offered_cores <= min(0.6 * cores, plan.offered_cores_before) * (1 + 1e-9)
    span_s = max(plan.duration_s, 5.0)
    real_s = (
        sum(a.cpu_ms for a in plan.arrivals) / 1e3
        + CALL_CPU_S * len(arrivals)
        + COLD_STARTS["process"].cpu_s * len(plan.functions)
    )
    assert real_s <= 0.6 * 2 * span_s * (1 + 1e-9)
    for a in plan.arrivals:
        assert a.at_s + a.duration_ms / 1e3 <= plan.duration_s + TAIL_S + 1e-6
        assert a.duration_ms / 1e3 <= a.trace_duration_s / speedup * (1 + 1e-9)
    sent = {plan.functions[a.function].name for a in plan.arrivals}
    assert sent == {f.name for f in plan.functions}
    for name in sent:  # never split: all of its calls or none
        wanted = sum(1 for c in due if trace.functions[c.function].name == name)
        assert wanted == sum(1 for a in plan.arrivals if plan.functions[a.function].name == name)


@pytest.mark.parametrize("seed", range(1, 11))
def test_the_generated_default_fits_a_machine_of_two_cores_as_it_is(seed: int) -> None:
    trace = generate_invocations(seed=seed, window_s=600, rate_per_s=2.5)
    plan = plan_of(trace, vm_mean_cores=40.0, vm_memory_mb=1024.0, vms_memory_mb=5120.0)
    assert plan.thinned_calls <= 0.1 * len(trace.calls)
    assert len(plan.functions) >= 60


def test_defaults() -> None:
    assert default_core_scale(2) == pytest.approx(0.1)
    assert default_vm_speedup(0.0, 60.0) == 1.0
    assert default_vm_speedup(10.0, 60.0) == 1.0
    assert 600 / default_vm_speedup(600.0, 60.0) < 60


def test_starts_that_cost_more_leave_out_more_functions_and_say_so() -> None:
    trace = trace_of([(t * 10.0, f, 0.1) for f in range(40) for t in range(60)])
    process, docker = (plan_of(trace, cold=COLD_STARTS[runtime]) for runtime in ("process", "docker"))
    assert len(docker.functions) < len(process.functions)
    assert docker.thinned_calls > process.thinned_calls
    assert [any("containers are Docker's" in rule for rule in p.rules) for p in (process, docker)] == [False, True]
