from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.traces.benchmarks.mix import mix_benchmarks
from fallow.traces.benchmarks.profiles import BENCHMARKS, BY_NAME, measured_profile
from fallow.traces.generated.invocations import generate_invocations
from fallow.traces.model import InvocationTrace, TraceCall, TraceFunction


def trace_of(calls: int, functions: int = 3, name: str = "f") -> InvocationTrace:
    return InvocationTrace(
        source="test",
        format="generated",
        functions=tuple(
            TraceFunction(name=f"{name}{i}", app="a", memory_mb=128, cpu_share=0.5) for i in range(functions)
        ),
        calls=tuple(TraceCall(at_s=i * 0.5, function=i % functions, duration_s=2.0) for i in range(calls)),
        window_s=calls * 0.5,
    )


@given(calls=st.integers(0, 300), seed=st.integers(0, 2**32), share=st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_just_the_share_is_given_away_and_nothing_else_changes(calls: int, seed: int, share: float) -> None:
    trace = trace_of(calls)
    mixed = mix_benchmarks(trace, seed=seed, share=share)
    assert mixed.functions[:3] == trace.functions
    assert [f.benchmark for f in mixed.functions[3:]] == [b.name for b in BENCHMARKS]
    given_away = [c for c in mixed.calls if mixed.functions[c.function].benchmark]
    assert len(given_away) == round(share * calls)
    assert [c.at_s for c in mixed.calls] == [c.at_s for c in trace.calls]
    for before, after in zip(trace.calls, mixed.calls, strict=True):
        assert after == before or (mixed.functions[after.function].benchmark and after.duration_s == 0)
    assert mix_benchmarks(trace, seed=seed, share=share) == mixed


def test_functions_are_drawn_by_the_weights_of_the_evaluation() -> None:
    mixed = mix_benchmarks(trace_of(34_000), seed=1)
    counts = Counter(mixed.functions[c.function].benchmark for c in mixed.calls)
    del counts[""]
    assert counts.total() == 3_400
    for benchmark in BENCHMARKS:  # 100 calls a unit of weight; four deviations
        expected = 100 * benchmark.weight
        assert counts[benchmark.name] == pytest.approx(expected, abs=4 * expected**0.5)


def test_another_seed_draws_others() -> None:
    trace = trace_of(200)
    assert len({mix_benchmarks(trace, seed=seed).calls for seed in range(5)}) == 5


def test_names_stay_unique() -> None:
    mixed = mix_benchmarks(trace_of(10, functions=1, name="bench_pyaes"), seed=1)
    trace = mix_benchmarks(mixed, seed=1)
    names = [f.name for f in trace.functions]
    assert len(set(names)) == len(names) == 1 + 9 + 9


def test_the_mix_of_the_default_demo() -> None:
    trace = generate_invocations(seed=1, window_s=600, rate_per_s=2.5)
    mixed = mix_benchmarks(trace, seed=1)
    used = {mixed.functions[c.function].benchmark for c in mixed.calls} - {""}
    assert used == set(BY_NAME), "all nine are called"


def test_weights_and_limits_are_those_of_the_evaluation() -> None:
    assert sum(b.weight for b in BENCHMARKS) == 34
    assert {b.name: (b.weight, b.memory_mb) for b in BENCHMARKS} == {
        "image_process": (5, 512),
        "mobilenet": (5, 1024),
        "video_processing": (5, 512),
        "lr_review": (5, 256),
        "chameleon": (5, 256),
        "pyaes": (5, 256),
        "float_op": (2, 256),
        "linpack": (1, 512),
        "matmult": (1, 512),
    }


def test_the_profile_was_measured_with_todays_arguments() -> None:
    profile = measured_profile()
    assert profile.conditions
    assert set(profile.costs) == set(BY_NAME)
    for name, cost in profile.costs.items():
        assert cost.arguments == BY_NAME[name].arguments, "measure again: python -m loadtest.functions_bench --write"
        assert 10 <= cost.cpu_ms <= 80, "an emulated core is a tenth of a real one: more would take it seconds"
        assert cost.cpu_ms < cost.cold_cpu_ms
        assert cost.peak_mb < BY_NAME[name].memory_mb
