"""What a simulation and a live run are held against each other by, and which options that takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from fallow_cli.demo.prepare import DemoOptions
from fallow_cli.fidelity import Ended, compare, prepare_both, scenario_of, simulated_calls
from fallow_cli.main import cli


def ended(vm: str, latency_ms: float, *, cold: bool = False) -> Ended:
    return Ended(vm=vm, cold=cold, latency_ms=latency_ms, wait_ms=latency_ms / 10)


def options(seed: int = 1) -> DemoOptions:
    return DemoOptions(
        invocations=None,
        vm_traces=None,
        duration_s=5.0,
        speedup=10.0,
        vm_speedup=None,
        core_scale=0.1,
        start_s=0.0,
        policy="hash",
        strategy="prefer-regular",
        seed=seed,
        evictions="none",
        target_cores=0.0,
        discount="Typical",
        benchmarks=False,
    )


def test_what_differs_is_said() -> None:
    live = [ended("h1", 10, cold=True), ended("h2", 10), ended("h1", 20), ended("h2", 40), None]
    simulated = [ended("h1", 10, cold=True), ended("h1", 10), ended("h1", 10), ended("r1", 30, cold=True), None]
    found = compare(live, simulated, 2)
    assert found["sequential"] == {
        "calls": 2,
        "same_vm": 1,
        "same_start": 2,
        "first_difference": 1,
        "live": ["h1", "h2"],
        "simulated": ["h1", "h1"],
    }
    assert found["overlapping"] == {"calls": 3, "same_vm": 1}
    figures = {row["figure"]: row for row in found["figures"]}
    assert figures["succeeded"] == {"figure": "succeeded", "live": 2, "simulated": 2, "difference": 0}
    assert figures["cold_start_share"]["difference"] == 0.5
    assert figures["latency_ms.p99"] == {"figure": "latency_ms.p99", "live": 40, "simulated": 30, "difference": -10}
    assert figures["wait_ms.p50"]["difference"] == -1


def test_the_first_part_is_one_call_at_a_time() -> None:
    prepared, first = prepare_both(options(), rounds=3)
    plan = prepared.replay
    assert first == 3 * min(8, len(plan.functions)) < len(plan.arrivals)
    calls = simulated_calls(scenario_of(options(), prepared, plan))
    assert len(calls) == len(plan.arrivals)
    ends_s = [a.at_s + (e.latency_ms / 1e3 if e else 0.0) for a, e in zip(plan.arrivals, calls, strict=True)]
    assert all(end_s < then.at_s for end_s, then in zip(ends_s[:first], plan.arrivals[1 : first + 1], strict=True))
    turns = first // 3
    assert [e is not None and e.cold for e in calls[:first]] == [n < turns for n in range(first)]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--rate", "3"), "--against-live has no use for --rate"),
        (("--cluster", "active"), "--against-live has no use for --cluster"),
        (("--policy", "mws,hash"), "--against-live takes one policy"),
    ],
)
def test_options_that_mean_nothing_live_are_refused(args: tuple[str, ...], words: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["simulate", "--against-live", *args])
    assert result.exit_code == 2
    assert words in result.output
