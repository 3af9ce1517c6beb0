"""The frame of the reproduced figures: what was published, what counts as carried, which claims hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fallow.traces.generated.published import INVOCATION_DURATION_S, VM_LIFETIME_S
from fallow_cli.cmd_reproduce import NAMES, number
from fallow_cli.main import cli
from simulator.clusters import short_lived
from simulator.paper import curve, points
from simulator.reproduce.evictions import wilson
from simulator.reproduce.figures import FIGURES
from simulator.reproduce.frame import Context, highest_rate, order, within, work
from simulator.workloads import mean_cpu_s


def test_published_points_are_there_and_are_those_that_the_generators_follow() -> None:
    assert len(curve("fig12_p99_latency_s", "rate_per_s", "p99_s", policy="mws")) == 10
    assert {row["cluster"] for row in points("fig15_highest_rate")} == {"active", "normal", "dedicated"}
    for name, table in (
        ("fig1_harvest_vm_lifetime_s", VM_LIFETIME_S),
        ("fig6_fsmall_invocation_duration_s", INVOCATION_DURATION_S),
    ):
        told = dict(curve(name, "percentile", "value_seconds"))
        assert told[50] == pytest.approx(table.at(0.5), rel=0.02)
        assert told[90] == pytest.approx(table.at(0.9), rel=0.02)
    assert set(FIGURES) == set(NAMES)


def summary(p99_s: float | None, *, lost: int = 0) -> dict[str, Any]:
    p99_ms = None if p99_s is None else p99_s * 1e3
    return {"latency_ms": {"p99": p99_ms}, "refused": lost, "lost": 0, "failed": 0, "invocations": 100}


@pytest.mark.parametrize(
    ("p99_s", "lost", "highest"),
    [
        ([10, 20, 30], [0, 0, 0], 3.0),
        ([10, 40, 60], [0, 0, 0], 2.5),
        ([60, 70, 80], [0, 0, 0], 0.0),
        ([10, 20, 20], [0, 0, 5], 2.0),
        ([10, None, 20], [0, 0, 0], 1.0),
        ([10, 60, 20], [0, 0, 0], 1.8),
    ],
)
def test_the_highest_rate_that_is_carried(p99_s: list[float | None], lost: list[int], highest: float) -> None:
    found = [summary(p, lost=n) for p, n in zip(p99_s, lost, strict=True)]
    assert highest_rate([1, 2, 3], found) == pytest.approx(highest)


def test_claims() -> None:
    assert within("x", "c", 10, 10.9, 0.1).holds
    assert not within("x", "c", 10, 11.1, 0.1).holds
    assert not within("x", "c", 10, None, 0.1).holds
    falling = order("x", "c", [3, 2, 1.5])
    assert (falling.holds, falling.ours) == (True, 2.0)
    assert not order("x", "c", [2, 2]).holds
    assert json.loads(json.dumps(falling.as_json()))["tolerance"] == "order"
    assert work() * mean_cpu_s() == pytest.approx(0.7 * 180 / 24)


def test_the_interval_of_a_share() -> None:
    low, high = wilson(0, 100)
    assert (low, round(high, 3)) == (0.0, 0.037)
    low, high = wilson(50, 100)
    assert (round(low, 3), round(high, 3)) == (0.404, 0.596)
    assert wilson(0, 0) == (0.0, 1.0)


def test_short_lives_are_as_many_times_shorter() -> None:
    vms = short_lived(vms=200, seed=1, window_s=10_000.0, speedup=500.0)
    names = {vm.life.vm_id for vm in vms}
    assert len(names) == len(vms) > 200
    whole = [vm.life.end_s for vm in vms if vm.life.join_s > 0 and vm.life.end_s is not None]
    mean_days = 500 * sum(whole) / len(whole) / 86_400
    assert 40 < mean_days < 80


def test_a_figure_from_the_command(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["reproduce", "savings", "fig1", "--quick", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "saved at the lowest discount" in result.output
    claims = json.loads((tmp_path / "claims.json").read_text())
    assert {claim["name"] for claim in claims} == {"savings", "fig1"}
    assert all(set(c) == {"name", "claim", "paper", "ours", "tolerance", "holds", "note"} for c in claims)
    assert (tmp_path / "savings.png").read_bytes()[:4] == b"\x89PNG"
    only = CliRunner().invoke(cli, ["reproduce", "savings", "--json", "--out", str(tmp_path)])
    assert [c["holds"] for c in json.loads(only.stdout)] == [True, True]
    wrong = CliRunner().invoke(cli, ["reproduce", "fig99"])
    assert wrong.exit_code == 2
    assert FIGURES["savings"](Context()).claims
    assert (tmp_path / "savings.csv").read_text().startswith("panel,curve,source,x,y")


def test_the_claims_on_data_of_ones_own(tmp_path: Path) -> None:
    calls = tmp_path / "calls.csv"
    rows = (f"a,f{t % 3},{t / 2 + 0.3},0.3\n" for t in range(60))
    calls.write_text("app,func,end_timestamp,duration\n" + "".join(rows))
    traces = tmp_path / "vms"
    traces.mkdir()
    (traces / "one.txt").write_text("0 4\n10 2\n")
    (traces / "two.txt").write_text("0 2\n")
    own = ("--invocations", str(calls), "--vm-traces", str(traces), "--policy", "p2c")
    result = CliRunner().invoke(cli, ["reproduce", *own, "--json", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    claims = {claim["claim"]: claim for claim in json.loads(result.stdout)}
    assert claims["cold starts, %: JSQ over MWS"]["holds"] in (True, False)
    assert claims["cold starts of p2c, %"]["ours"] > 0
    assert claims["cold starts of p2c, %"]["holds"] is None
    both = CliRunner().invoke(cli, ["reproduce", "fig1", *own])
    assert both.exit_code == 2
    calls.write_text("app,func,end_timestamp,duration\na,f,x,1\n")
    wrong = CliRunner().invoke(cli, ["reproduce", *own, "--out", str(tmp_path)])
    assert "calls.csv:2" in wrong.output


def test_numbers_are_short() -> None:
    assert [number(v) for v in (None, 0.999985, 12345.6, 2.345678, 50)] == ["-", "0.9999850", "12,346", "2.346", "50"]
