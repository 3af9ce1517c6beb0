"""`fallow setup` and `fallow env`: keys and plans of a cluster of services, and what its people are told."""

from __future__ import annotations

import itertools
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fallow.traces.vms import Life
from fallow_cli.cmd_service import env, setup
from fallow_cli.errors import CliError
from fallow_cli.service_plan import GENERATED, STATIC, ServicePlans, make_plans
from harvest_agent.plan import read_plan

ROUND_S = 180.0


def plans(**changed: Any) -> ServicePlans:
    return make_plans(
        **{"harvest_vms": 3, "traces": GENERATED, "round_s": ROUND_S, "seed": 1, "core_scale": None} | changed
    )


def lives_of(plan: dict[str, Any]) -> list[Life]:
    return [Life.from_json(life) for life in plan["lives"]]


def changes(plan: dict[str, Any]) -> list[float]:
    return [b - a for life in lives_of(plan) for (_, a), (_, b) in itertools.pairwise(life.steps)]


@pytest.mark.parametrize("seed", range(1, 9))
@pytest.mark.parametrize("harvest_vms", [3, 6])
def test_the_first_three_vms_show_everything_within_a_round(seed: int, harvest_vms: int) -> None:
    found = plans(seed=seed, harvest_vms=harvest_vms).plans
    assert list(found) == ["regular-1", *(f"harvest-{n}" for n in range(1, 7))]
    assert [name for name, plan in found.items() if plan.get("lives") == []] == [
        f"harvest-{n}" for n in range(harvest_vms + 1, 7)
    ]
    shown = [found[f"harvest-{n}"] for n in (1, 2, 3)]
    assert any(delta < 0 for plan in shown for delta in changes(plan))
    assert any(delta > 0 for plan in shown for delta in changes(plan))
    returns = [
        (first.join_s + (first.end_s or 0), second.join_s)
        for plan in shown
        for first, second in itertools.pairwise(lives_of(plan))
    ]
    assert returns
    assert all(0 < gone_s < back_s < ROUND_S for gone_s, back_s in returns)


@pytest.mark.parametrize("seed", range(1, 9))
def test_agents_accept_every_plan(tmp_path: Path, seed: int) -> None:
    for name, plan in plans(seed=seed, harvest_vms=6).plans.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(plan))
        vm, played = read_plan(path)
        assert vm["memory_mb"] >= 256
        assert vm["core_scale"] > 0
        assert (played is None) is (name == "regular-1")
        assert vm["kind"] == ("regular" if played is None else "harvest")


def test_static_vms_keep_their_cores(tmp_path: Path) -> None:
    made = plans(traces=STATIC, core_scale=0.5)
    assert made.told == "cores stay as they are"
    there = [plan for plan in made.plans.values() if plan.get("lives") != []]
    assert len(there) == 4
    assert all("lives" not in plan and plan["core_scale"] == 0.5 for plan in there)


def test_own_traces_are_compressed_into_the_round(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("0 4\n3600 2\n7200 6\n")
    (tmp_path / "b.txt").write_text("0 4\n7200 0\n10800 8\n14400 1\n")
    made = plans(traces=str(tmp_path), harvest_vms=2, round_s=100)
    first, second = lives_of(made.plans["harvest-1"]), lives_of(made.plans["harvest-2"])
    assert [life.steps for life in first] == [((0.0, 4.0), (25.0, 2.0), (50.0, 6.0))]
    assert [(life.join_s, life.end_s) for life in second] == [(0.0, 50.0), (75.0, None)]
    assert second[1].steps == ((0.0, 8.0), (25.0, 1.0))
    assert "added" not in made.told  # what is a person's own stays as it is


def test_a_short_trace_of_ones_own_fills_the_round(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text("0 4\n300 2\n600 6\n")
    made = plans(traces=str(tmp_path), round_s=180)
    assert lives_of(made.plans["harvest-1"])[0].steps == ((0.0, 4.0), (90.0, 2.0), (180.0, 6.0))


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "holds no *.txt file"),
        ({"a": "0 1\n"}, "holds 1 VM traces, for 2 harvest VMs"),
        ({"a": "0 1\n", "b": "0 0\n"}, "the trace of harvest-2 never has a core"),
        ({"a": "0 1\n", "b": "0 one\n"}, "b.txt:1:3: 'one' is not a number"),
    ],
)
def test_wrong_traces_are_told_in_words(tmp_path: Path, files: dict[str, str], says: str) -> None:
    for name, text in files.items():
        (tmp_path / f"{name}.txt").write_text(text)
    with pytest.raises(CliError, match=says.replace("*", r"\*")):
        plans(traces=str(tmp_path), harvest_vms=2)


def test_setup_keeps_keys_and_makes_plans_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FALLOW_PUBLIC_URL", "http://127.0.0.1:4000")
    folder = tmp_path / "cluster"
    run = CliRunner()
    first = run.invoke(setup, ["--dir", str(folder), "--traces", STATIC])
    assert first.exit_code == 0, first.output
    kept = {p.name: p.read_text() for p in folder.iterdir() if p.is_file()}
    assert {"guest.key", "operator.key", "join.secret", "cluster"} <= set(kept)
    assert all(
        stat.S_IMODE((folder / name).stat().st_mode) == 0o600 for name in ("guest.key", "operator.key", "join.secret")
    )
    key = kept["guest.key"].strip()
    assert f"curl -u {key} http://127.0.0.1:4000/api/v1/namespaces/_/actions" in first.output
    assert kept["operator.key"].strip() not in first.output
    second = run.invoke(setup, ["--dir", str(folder)])
    assert second.exit_code == 0, second.output
    assert {p.name: p.read_text() for p in folder.iterdir() if p.is_file()} == kept
    assert "lives" in json.loads((folder / "vms" / "harvest-1.json").read_text())


def test_env_points_the_command_at_the_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = CliRunner()
    assert run.invoke(setup, ["--dir", str(tmp_path / "c")]).exit_code == 0
    for name in ("FALLOW_AUTH", "FALLOW_OPERATOR_AUTH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FALLOW_STATE_DIR", str(tmp_path / "c"))
    monkeypatch.setenv("FALLOW_URL", "http://127.0.0.1:3233")
    monkeypatch.setenv("FALLOW_PUBLIC_URL", "http://127.0.0.1:4000")
    keys = [(tmp_path / "c" / f"{name}.key").read_text().strip() for name in ("guest", "operator")]
    told = run.invoke(env, [])
    assert told.output.splitlines() == [
        "export FALLOW_URL=http://127.0.0.1:4000",
        f"export FALLOW_AUTH={keys[0]}",
        f"export FALLOW_OPERATOR_AUTH={keys[1]}",
    ]
    assert run.invoke(env, ["--url", "http://controller:1"]).output.startswith(
        "export FALLOW_URL=http://controller:1\n"
    )
