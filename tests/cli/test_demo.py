"""What a demo sends, before anything is started."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fallow.traces.benchmarks.profiles import BENCHMARKS, BY_NAME, KIND
from fallow_cli.demo import prepare as preparing
from fallow_cli.demo.deploy import deploy, fitted
from fallow_cli.demo.prepare import DemoOptions, Prepared, prepare
from fallow_cli.errors import CliError

OPTIONS = DemoOptions(
    invocations=None,
    vm_traces=None,
    duration_s=60.0,
    speedup=10.0,
    vm_speedup=None,
    core_scale=0.1,
    start_s=0.0,
    policy="mws",
    strategy="prefer-regular",
    seed=1,
    evictions="2",
    target_cores=None,
    discount="Typical",
)


@pytest.fixture(autouse=True)
def two_cores_and_plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "real_cores", lambda: 2)
    monkeypatch.setattr(preparing, "vm_memory_mb", lambda vms: 2048)


def benchmark_calls(prepared: Prepared) -> int:
    plan = prepared.replay
    return sum(1 for a in plan.arrivals if plan.functions[a.function].benchmark)


def csv(folder: Path, calls: int = 100) -> Path:
    path = folder / "calls.csv"
    rows = [f"app{i % 4},fn{i % 4},{i * 0.5 + 1.0},0.5" for i in range(calls)]
    path.write_text("\n".join(["app,func,end_timestamp,duration", *rows]) + "\n")
    return path


def test_a_generated_demo_runs_a_tenth_of_its_calls_on_the_nine_functions() -> None:
    prepared = prepare(OPTIONS)
    assert prepared.replay.thinned_calls == 0
    assert benchmark_calls(prepared) == round(0.1 * len(prepared.replay.arrivals))
    assert {f.benchmark for f in prepared.replay.functions} - {""} == set(BY_NAME)
    assert any(rule.startswith("benchmarks: ") for rule in prepared.replay.rules)
    plain = prepared.without_benchmarks
    assert plain == prepare(replace(OPTIONS, benchmarks=False)).replay
    assert [a.at_s for a in plain.arrivals] == [a.at_s for a in prepared.replay.arrivals]


@pytest.mark.parametrize(("asked", "expected"), [(None, 0), (False, 0), (True, 10)])
def test_a_trace_of_the_user_stays_as_it_is_unless_asked(tmp_path: Path, asked: bool | None, expected: int) -> None:
    prepared = prepare(replace(OPTIONS, invocations=csv(tmp_path), benchmarks=asked))
    assert len(prepared.replay.arrivals) == 100
    assert benchmark_calls(prepared) == expected


def test_functions_that_were_not_asked_for_give_way_where_they_do_not_fit() -> None:
    fast = replace(OPTIONS, speedup=300.0)
    prepared = prepare(fast)
    assert benchmark_calls(prepared) == 0
    assert prepared.without_benchmarks is None
    assert prepared.replay.rules[0].startswith("no benchmark functions: the benchmark functions alone ask for")
    with pytest.raises(CliError, match="--no-benchmarks"):
        prepare(replace(fast, benchmarks=True))


class FakeTenant:
    """Answers `GET /` with these kinds and remembers what is deployed."""

    def __init__(self, *kinds: str) -> None:
        self._kinds = kinds
        self.deployed: dict[str, dict[str, Any]] = {}

    async def call(self, method: str, path: str, *, document: Any = None, query: Any = None) -> Any:
        if method == "GET":
            return {"runtimes": {"python": [{"kind": kind} for kind in self._kinds]}}
        self.deployed[path.rpartition("/")[2]] = document
        return {}


async def test_without_the_kind_the_demo_runs_without_benchmarks_and_says_so() -> None:
    prepared = prepare(OPTIONS)
    tenant: Any = FakeTenant("python:3")
    plan = await fitted(tenant, prepared.replay, prepared.without_benchmarks)
    assert not any(plan.functions[a.function].benchmark for a in plan.arrivals)
    assert plan.rules[0].startswith(f"no benchmark functions: no VM offers {KIND}")
    assert len(plan.arrivals) == len(prepared.replay.arrivals)
    offering: Any = FakeTenant("python:3", KIND)
    assert await fitted(offering, prepared.replay, prepared.without_benchmarks) is prepared.replay
    await deploy(tenant, plan.functions, retries=True)
    assert not any(name.startswith("bench_") for name in tenant.deployed)


async def test_benchmarks_are_deployed_with_their_kind_limits_and_arguments() -> None:
    tenant: Any = FakeTenant("python:3", KIND)
    names = await deploy(tenant, prepare(OPTIONS).replay.functions, retries=False)
    assert set(names) == set(tenant.deployed)
    for benchmark in BENCHMARKS:
        document = tenant.deployed[f"bench_{benchmark.name}"]
        assert document["exec"]["kind"] == KIND
        assert document["exec"]["code"].startswith(f'"""{benchmark.name}: ')
        assert document["limits"]["memory"] == benchmark.memory_mb
        assert {p["key"]: p["value"] for p in document["parameters"]} == dict(benchmark.arguments)
        json.dumps(document)
        assert {"key": "idempotent", "value": False} in document["annotations"]
    assert tenant.deployed["fn001"]["exec"]["kind"] == "python:default"
    assert "parameters" not in tenant.deployed["fn001"]


async def test_what_is_known_of_an_app_beforehand_is_declared() -> None:
    tenant: Any = FakeTenant("python:3", KIND)
    prepared = prepare(OPTIONS)
    long = [number % 2 == 0 for number in range(len(prepared.replay.functions))]
    names = await deploy(tenant, prepared.replay.functions, retries=True, long=long)
    for name, declared in zip(names, long, strict=True):
        assert {"key": "long", "value": declared} in tenant.deployed[name]["annotations"]
    await deploy(tenant, prepared.replay.functions, retries=True)
    assert all(note["key"] != "long" for name in names for note in tenant.deployed[name]["annotations"])
