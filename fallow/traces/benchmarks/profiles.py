"""The nine benchmark functions of the evaluation (FunctionBench's): weights, memory limits, arguments, measured cost.

Weights and limits are those of Zhang et al., SOSP 2021: eight functions in fifty copies each and float_op. `arguments`
are a replay's: small, so that a call takes some ten milliseconds of real CPU and an emulated core, a tenth of a real
one, is done with it in less than a second. What a call costs stands in `benchmarks.json`, which
`python -m loadtest.functions_bench --write` measures and writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

KIND = "python:3-libs"  # the runtime kind that has the libraries they import
PROFILE_FILE = Path(__file__).with_name("benchmarks.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One function; its source is `functions/benchmarks/<name>.py`."""

    name: str
    weight: int  # of 34
    memory_mb: int  # limit
    arguments: Mapping[str, Any]  # of its calls in a replay


BENCHMARKS = (
    Benchmark(name="chameleon", weight=5, memory_mb=256, arguments={"rows": 500, "columns": 20}),
    Benchmark(name="float_op", weight=2, memory_mb=256, arguments={"n": 200_000}),
    Benchmark(name="image_process", weight=5, memory_mb=512, arguments={"width": 512, "height": 384}),
    Benchmark(name="linpack", weight=1, memory_mb=512, arguments={"n": 1_000}),
    Benchmark(name="lr_review", weight=5, memory_mb=256, arguments={"reviews": 300, "words": 40, "epochs": 50}),
    Benchmark(name="matmult", weight=1, memory_mb=512, arguments={"n": 900}),
    Benchmark(name="mobilenet", weight=5, memory_mb=1024, arguments={"resolution": 224, "alpha": 1}),
    Benchmark(name="pyaes", weight=5, memory_mb=256, arguments={"length": 10_000}),
    Benchmark(name="video_processing", weight=5, memory_mb=512, arguments={"width": 160, "height": 120, "frames": 50}),
)
BY_NAME = {benchmark.name: benchmark for benchmark in BENCHMARKS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one call with the replay's arguments cost, in real CPU and resident memory."""

    arguments: Mapping[str, Any]  # that were measured
    cpu_ms: float  # of a warm call
    cold_cpu_ms: float  # of a call in a new container: loading the code and its libraries, and the first run
    peak_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """`costs` by name; `conditions` says when and on what they were measured."""

    costs: Mapping[str, Cost]
    conditions: str


@cache
def measured_profile() -> Profile:
    """The profile that is part of this package."""
    document = json.loads(PROFILE_FILE.read_text(encoding="utf-8"))
    costs = {name: Cost(**figures) for name, figures in document["functions"].items()}
    return Profile(costs=costs, conditions=document["conditions"])
