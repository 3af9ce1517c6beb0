"""The evaluation's mix: a user calls a benchmark function, then waits Exp(10 s); users / 10 calls a second.

FALLOW_COPIES (50) copies of each function but float_op are deployed: 401 actions. VMs must offer `python:3-libs`.

locust -f loadtest/locust_mix.py --headless --users 100 --spawn-rate 100 --run-time 20m
"""

from __future__ import annotations

import os
import random
from itertools import accumulate
from pathlib import Path
from typing import Any

from locust import FastHttpUser, events, task
from locust.env import Environment

from fallow.traces.benchmarks.profiles import BENCHMARKS, KIND
from loadtest.locust_cluster import authorization, judge, number, or_quit, put

SOURCES = Path(__file__).resolve().parents[1] / "functions" / "benchmarks"
MEAN_WAIT_S = 10.0


def actions(copies: int) -> dict[str, tuple[str, float]]:
    """Name of each action -> (benchmark function, its share of the calls)."""
    total = sum(benchmark.weight for benchmark in BENCHMARKS)
    found: dict[str, tuple[str, float]] = {}
    for benchmark in BENCHMARKS:
        count = 1 if benchmark.name == "float_op" else copies
        for copy in range(count):
            name = benchmark.name if benchmark.name == "float_op" else f"{benchmark.name}-{copy}"
            found[name] = (benchmark.name, benchmark.weight / total / count)
    return found


def documents(copies: int) -> dict[str, dict[str, Any]]:
    """What is put for each of them."""
    by_name = {benchmark.name: benchmark for benchmark in BENCHMARKS}
    return {
        name: {
            "exec": {"kind": KIND, "code": (SOURCES / f"{function}.py").read_text()},
            "limits": {"memory": by_name[function].memory_mb},
            "parameters": [{"key": k, "value": v} for k, v in by_name[function].arguments.items()],
        }
        for name, (function, _) in actions(copies).items()
    }


@events.test_start.add_listener  # type: ignore[untyped-decorator]  # locust is not typed
def deploy(environment: Environment, **_: Any) -> None:
    or_quit(environment, lambda: put(documents(int(number("FALLOW_COPIES", 50)))))


class MixUser(FastHttpUser):
    """One user of the evaluation. Calls are reported by benchmark function, not by copy."""

    host = os.environ.get("FALLOW_URL")

    def wait_time(self) -> float:
        return random.expovariate(1 / MEAN_WAIT_S)

    def on_start(self) -> None:
        self.client.auth_header = authorization()
        self._actions = actions(int(number("FALLOW_COPIES", 50)))
        self._names = list(self._actions)
        self._weights = list(accumulate(share for _, share in self._actions.values()))

    @task
    def call(self) -> None:
        (name,) = random.choices(self._names, cum_weights=self._weights)
        path = f"/api/v1/namespaces/_/actions/{name}?blocking=true&result=true"
        with self.client.post(path, json={}, name=self._actions[name][0], catch_response=True) as answer:
            judge(answer)
