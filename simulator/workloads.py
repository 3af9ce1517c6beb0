"""Workloads: the evaluation's mix of benchmark functions, and calls of a trace."""

from __future__ import annotations

import random
from collections.abc import Iterator

from fallow.core.model import ActionSpec
from fallow.traces.benchmarks.profiles import BENCHMARKS, Profile, measured_profile
from simulator.model import SimAction, SimCall, Workload

COPIES = 50  # of each benchmark function but float_op, as the published evaluation deployed them
RUNTIME = "python:3"


def mix(*, rate_per_s: float, window_s: float, seed: int, work: float = 1.0, profile: Profile | None = None) -> Workload:
    """The published evaluation's mix: 8 functions in 50 copies and float_op, Poisson arrivals.

    `work` multiplies the measured CPU time of every call (arguments so many times larger), not of a cold start.
    """
    profile = profile or measured_profile()
    actions: list[SimAction] = []
    cpu_s: list[float] = []
    weights: list[float] = []
    for benchmark in BENCHMARKS:
        cost = profile.costs[benchmark.name]
        copies = 1 if benchmark.name == "float_op" else COPIES
        for copy in range(copies):
            name = benchmark.name if copies == 1 else f"{benchmark.name}-{copy}"
            spec = ActionSpec(
                namespace="guest",
                name=name,
                version="0.0.1",
                revision="1",
                kind=RUNTIME,
                memory_mb=benchmark.memory_mb,
                timeout_s=300.0,
            )
            init_cpu_s = max(0.0, cost.cold_cpu_ms - cost.cpu_ms) / 1e3
            actions.append(SimAction(spec=spec, init_cpu_s=init_cpu_s, resident_mb=cost.peak_mb))
            cpu_s.append(work * cost.cpu_ms / 1e3)
            weights.append(benchmark.weight / copies)

    def calls() -> Iterator[SimCall]:
        dice = random.Random(f"{seed}:mix")
        cumulative: list[float] = []
        total = 0.0
        for weight in weights:
            total += weight
            cumulative.append(total)
        at_s, indices = 0.0, range(len(actions))
        while True:
            at_s += dice.expovariate(rate_per_s)
            if at_s >= window_s:
                return
            index = dice.choices(indices, cum_weights=cumulative)[0]
            yield SimCall(at_s=at_s, action=index, cpu_s=cpu_s[index])

    return Workload(
        name="mix", actions=actions, calls=calls(), window_s=window_s, expected=round(rate_per_s * window_s)
    )
