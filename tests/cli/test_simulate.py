"""`fallow simulate` as it is used: tables, files, JSON, and what is wrong said in words."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fallow.core.policies.guarded import WrongPolicyError
from fallow.report.summary import summarise
from fallow_cli.cmd_simulate import _run
from fallow_cli.main import cli
from simulator.sweep import Point
from simulator.worker import WorkerError

SHORT = ("simulate", "--duration", "30", "--rate", "5")


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, args)


def test_policies_side_by_side(tmp_path: Path) -> None:
    result = run(*SHORT, "--policy", "mws,hash", "--cluster", "generated:12", "--regular", "4", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.output.splitlines() if line.startswith(("mws", "hash"))]
    assert [row[0] for row in rows] == ["mws", "hash"]
    assert rows[0][1] == rows[1][1]
    summaries = json.loads((tmp_path / "simulation.json").read_text())
    assert [(s["policy"], s["cluster"]) for s in summaries] == [("mws", "generated:12"), ("hash", "generated:12")]
    assert all(s["succeeded"] == s["invocations"] > 0 for s in summaries)
    assert (tmp_path / "simulation.png").read_bytes()[:4] == b"\x89PNG"
    with (tmp_path / "simulation.csv").open() as file:
        tidy = [row for row in csv.DictReader(file) if row["figure"] == "latency_ms.p99"]
    assert [float(row["value"]) for row in tidy] == [s["latency_ms"]["p99"] for s in summaries]


def test_json_has_the_fields_of_a_live_report() -> None:
    (summary,) = json.loads(run(*SHORT, "--policy", "jsq", "--json").output)
    assert summary["simulated"] is True
    for name in ("latency_ms", "wait_ms", "init_ms", "run_ms"):
        assert set(summary[name]) == {"p50", "p95", "p99"}
    for name in ("cold_start_share", "cut_off", "placements", "cost", "evicted_with_loss", "harvested_core_s"):
        assert name in summary
    assert callable(summarise)


def test_files_are_played(tmp_path: Path) -> None:
    calls = tmp_path / "calls.csv"
    calls.write_text("app,func,end_timestamp,duration\n" + "".join(f"a,f,{t + 0.5},0.5\n" for t in range(20)))
    traces = tmp_path / "vms"
    traces.mkdir()
    (traces / "one.txt").write_text("0 4\n10 2\n")
    result = run("simulate", "--invocations", str(calls), "--vm-traces", str(traces), "--policy", "mws", "--json")
    (summary,) = json.loads(result.output)
    assert (summary["invocations"], summary["succeeded"], summary["vms"], summary["resizes"]) == (20, 20, 1, 1)
    calls.write_text("app,func,end_timestamp,duration\na,f,x,1\n")
    wrong = run("simulate", "--invocations", str(calls), "--policy", "mws")
    assert wrong.exit_code == 1
    assert "calls.csv:2" in wrong.output


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--cluster", "huge"), "unknown cluster 'huge'; known: normal, active, dedicated, generated:N"),
        (("--cluster", "generated:0"), "unknown cluster"),
        (("--policy", "x"), "unknown policy 'x'; known: hash, jsq, mws"),
        (("--strategy", "x"), "unknown strategy"),
        (("--regular", "x"), "is no list of numbers"),
        (("--rate", "0"), "not in the range"),
        (("--vm-traces", "/nowhere"), "does not exist"),
        (("--python", "no-such-python"), "no-such-python cannot be started"),
    ],
)
def test_what_is_wrong_is_said(args: tuple[str, ...], text: str) -> None:
    result = run("simulate", "--policy", "mws", *args) if "--policy" not in args else run("simulate", *args)
    assert result.exit_code != 0
    assert text in result.output
    assert "Traceback" not in result.output


def test_another_interpreter_may_simulate(monkeypatch: pytest.MonkeyPatch) -> None:
    here = run(*SHORT, "--policy", "mws,hash", "--json").output
    assert run(*SHORT, "--policy", "mws,hash", "--json", "--python", sys.executable).output == here
    monkeypatch.setenv("FALLOW_SIMULATOR_PYTHON", "no-such-python")
    assert "no-such-python cannot be started" in run(*SHORT, "--policy", "mws").output


def test_on_a_terminal_each_policy_shows_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # so that rich takes what it writes to for a terminal
    points = [Point(rate_per_s=5, duration_s=30, policy=policy) for policy in ("mws", "hash")]
    for some in (points, points[:1]):
        assert _run(some, None, quiet=False) == _run(some, sys.executable, quiet=True)
        shown = capsys.readouterr().err
        assert all(point.policy in shown for point in some)
        assert "s simulated" in shown
        with pytest.raises(WorkerError, match="no-such-python"):
            _run(some, "no-such-python", quiet=False)


def test_the_interpreter_of_the_environment_does_not_stand_in_the_way_of_a_live_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def reached(**_: object) -> dict[str, object]:
        raise WrongPolicyError("reached")

    monkeypatch.setattr("fallow_cli.against_live.against_live", reached)
    monkeypatch.setenv("FALLOW_SIMULATOR_PYTHON", sys.executable)
    assert "fallow: reached" in run("simulate", "--against-live").output
    assert "has no use for --python" in run("simulate", "--against-live", "--python", sys.executable).output


def test_a_reproduction_is_made_by_another_interpreter(tmp_path: Path) -> None:
    result = run("reproduce", "fig13", "--quick", "--python", "no-such-python", "--out", str(tmp_path))
    assert result.exit_code == 1
    assert "no-such-python cannot be started" in result.output


def test_a_wrong_policy_ends_a_reproduction_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "astray.py").write_text(
        "from fallow.core.policies.mws import Mws\n"
        "class Astray(Mws):\n    def __init__(self, rng): super().__init__()\n    def place(self, *args): return None\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as the working directory of a command is
    result = run("reproduce", "fig13", "--quick", "--policy", "astray:Astray", "--out", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert "fallow: policy 'astray:Astray' answered with a NoneType" in result.output
    assert "Traceback" not in result.output
