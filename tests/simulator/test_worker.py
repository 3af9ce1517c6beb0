"""Points that another interpreter simulates: the same results, and what is wrong said in words."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from simulator.model import Times
from simulator.sweep import Point, document_of, point_of, simulate, sweep
from simulator.worker import ROOT, Worker, WorkerError

SHORT = Point(cluster="active", rate_per_s=20, duration_s=20, work=60)
PYPY = ROOT / ".pypy" / "bin" / "python"


@pytest.fixture(scope="module")
def pypy() -> str:
    if not PYPY.exists():
        missing = f"there is no {PYPY.relative_to(ROOT)}: run `make pypy`"
        if os.environ.get("TEST_FALLOW_PYPY") == "required":
            pytest.fail(missing)
        pytest.skip(missing)
    return str(PYPY)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    """Under the interpreter of the tests."""
    with Worker(sys.executable) as worker:
        yield worker


def script(path: Path, line: str) -> str:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return str(path)


def test_a_point_survives_the_way() -> None:
    point = replace(SHORT, invocations=Path("a/b.csv"), regular=(4.0, 0.5), give_up_s=1.5, times=Times(link_s=1e-7))
    assert point_of(json.loads(json.dumps(document_of(point)))) == point
    assert point_of(json.loads(json.dumps(document_of(SHORT)))) == SHORT


def test_the_figures_are_those_of_this_process(worker: Worker) -> None:
    told: list[tuple[float, int]] = []
    summary = worker.simulate(SHORT, lambda now_s, ended: told.append((now_s, ended)))
    assert summary == simulate(SHORT)
    assert told == sorted(told)
    assert told[-1][1] == summary["invocations"]
    assert worker.name.startswith("CPython 3.")


@pytest.mark.parametrize("strategy", ["prefer-regular", "no-failures", "bounded:99", "live-and-let-die"])
def test_pypy_takes_the_same_course(pypy: str, strategy: str) -> None:
    policies = ("mws", "mws-published", "jsq", "hash", "p2c")
    points = [replace(SHORT, policy=policy, strategy=strategy, regular=(16.0,), controllers=2) for policy in policies]
    assert sweep(points, python=pypy) == sweep(points)


def test_pypy_takes_the_same_course_of_evictions_and_generated_calls(pypy: str) -> None:
    point = replace(SHORT, cluster="short-lived:12:20000", workload="generated", duration_s=60, target_cores=60.0)
    points = [point, replace(point, retries=False), replace(point, seed=2)]
    found = sweep(points, python=pypy)
    assert found == sweep(points)
    assert all(summary["evictions"] for summary in found)
    with Worker(pypy) as worker:
        assert worker.name.startswith("PyPy 7.")


def test_points_come_back_in_their_order_and_each_is_told(worker: Worker) -> None:
    done: list[int] = []
    points = [replace(SHORT, duration_s=duration_s) for duration_s in (30, 10, 20)]
    found = sweep(points, done.append, workers=2, python=sys.executable)
    assert [summary["duration_s"] for summary in found] == [30, 10, 20]
    assert sorted(done) == [0, 1, 2]
    assert sweep([], python="/nowhere/python") == []


def test_an_own_policy_is_found_there_and_may_print(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "talker.py").write_text(
        "from fallow.core.policies.mws import Mws\n"
        "class Talker(Mws):\n    def __init__(self, rng): print('hello'); super().__init__()\n"
        "class Wrong(Talker):\n    def place(self, *args): return 'anywhere'\n"
    )
    monkeypatch.chdir(tmp_path)
    with Worker(sys.executable) as near:
        found = near.simulate(replace(SHORT, policy="talker:Talker"))
        assert found["digest"] == simulate(SHORT)["digest"]
        assert "hello" in capfd.readouterr().err
        with pytest.raises(WorkerError, match="policy 'talker:Wrong' answered with a str"):
            near.simulate(replace(SHORT, policy="talker:Wrong"))


def test_what_is_wrong_with_a_point_is_said_and_the_next_one_runs(worker: Worker, tmp_path: Path) -> None:
    calls = tmp_path / "calls.csv"
    calls.write_text("app,func,end_timestamp,duration\na,f,x,1\n")
    for point, text in (
        (replace(SHORT, cluster="huge"), "unknown cluster 'huge'"),
        (replace(SHORT, invocations=calls), r"calls\.csv:2"),
    ):
        with pytest.raises(WorkerError, match=text):
            worker.simulate(point)
    with pytest.raises(RuntimeError, match=r"(?s)under CPython.*TypeError"):
        worker.simulate(replace(SHORT, rate_per_s="many"))  # type: ignore[arg-type]
    assert worker.simulate(SHORT)["digest"] == simulate(SHORT)["digest"]


def test_the_first_wrong_point_ends_the_others() -> None:
    long = replace(SHORT, duration_s=1e6)
    with pytest.raises(WorkerError, match="huge"):
        sweep([long, replace(SHORT, cluster="huge"), long], workers=2, python=sys.executable)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("exit 3", "ended with status 3"),
        ("echo hello", "is no Python interpreter"),
        ("echo 17", "is no Python interpreter"),
        (
            f"exec {sys.executable} -I -S $1 /nowhere",
            "cannot simulate: it is CPython .* without NumPy: .* -m pip install",
        ),
    ],
)
def test_an_interpreter_that_cannot_simulate_is_told_from_one_that_can(tmp_path: Path, line: str, text: str) -> None:
    with pytest.raises(WorkerError, match=text):
        Worker(script(tmp_path / "python", line))


def test_a_command_that_is_not_there_and_a_worker_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="no-such-python cannot be started: No such file"):
        Worker("no-such-python")
    with Worker(sys.executable) as worker:
        worker._process.kill()
        worker._process.wait()
        with pytest.raises(WorkerError, match="ended with status -9"):
            worker.simulate(SHORT)
