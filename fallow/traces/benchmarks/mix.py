"""Has part of a trace's calls run on the benchmark functions, real code with libraries, instead of the trace's own.

Only what is called changes: each call keeps its moment. Which calls, and which function each gets, is drawn by seed;
the functions by the weights of the evaluation (`profiles`). Example: of 1529 calls 153 are drawn, and each is
`image_process` with probability 5/34.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from fallow.traces.benchmarks.profiles import BENCHMARKS
from fallow.traces.model import InvocationTrace, TraceFunction

SHARE = 0.1  # of the calls


def mix_benchmarks(trace: InvocationTrace, *, seed: int, share: float = SHARE) -> InvocationTrace:
    """The trace with exactly `share` of its calls, rounded, given to benchmark functions.

    These follow the trace's own functions, which keep their numbers. A call that was given away has the duration 0: how
    long it takes is up to the function. Cost: linear in the calls.
    """
    rng = random.Random(f"{seed}:benchmarks")
    given = rng.sample(range(len(trace.calls)), round(share * len(trace.calls)))
    drawn = rng.choices(range(len(BENCHMARKS)), [benchmark.weight for benchmark in BENCHMARKS], k=len(given))
    calls = list(trace.calls)
    for number, benchmark in zip(given, drawn, strict=True):
        calls[number] = replace(calls[number], function=len(trace.functions) + benchmark, duration_s=0.0)
    return replace(trace, functions=(*trace.functions, *_functions(trace.functions)), calls=tuple(calls))


def _functions(others: Sequence[TraceFunction]) -> list[TraceFunction]:
    """One for each benchmark, an app of its own, under a name that no other function has."""
    taken = {f.name for f in others}
    functions = []
    for benchmark in BENCHMARKS:
        name = f"bench_{benchmark.name}"
        while name in taken:
            name += "_"
        functions.append(
            TraceFunction(name=name, app=name, memory_mb=benchmark.memory_mb, cpu_share=1.0, benchmark=benchmark.name)
        )
    return functions
