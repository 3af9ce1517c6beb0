"""Points that another interpreter simulates: the same results, and what is wrong said in words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from simulator import worker_main
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


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


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
        assert worker.name.startswith("PyPy ")


def test_points_come_back_in_their_order_and_each_is_told() -> None:
    done: list[int] = []
    points = [replace(SHORT, duration_s=duration_s) for duration_s in (30, 10, 20)]
    told: set[int] = set()
    found = sweep(points, done.append, progress=lambda index, *_: told.add(index), workers=2)
    assert told == {0, 1, 2}
    assert [summary["duration_s"] for summary in found] == [30, 10, 20]
    assert sorted(done) == [0, 1, 2]
    assert sweep([], python="/nowhere/python") == []


OWN = """\
from fallow.core.policies.mws import Mws
import mine_too
class Own(Mws):
    def __init__(self, rng):
        print("hello")
        super().__init__()
class Wrong(Own):
    def place(self, *args): return "anywhere"
class Reader(Own):
    def place(self, *args): return input()
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of policies in the working directory, of the name of one of the simulator's; it imports another one that
    this process finds elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine_too.py").touch()
    monkeypatch.syspath_prepend(elsewhere)
    (tmp_path / "world.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "world", raising=False)
    return "world"


def test_an_own_policy_is_found_there_and_may_print(own: str, capfd: pytest.CaptureFixture[str]) -> None:
    with Worker(sys.executable) as worker:
        found = worker.simulate(replace(SHORT, policy=f"{own}:Own"))
        assert found["digest"] == simulate(SHORT)["digest"]
        assert "hello" in capfd.readouterr().err
        with pytest.raises(WorkerError, match="policy 'world:Wrong' answered with a str"):
            worker.simulate(replace(SHORT, policy=f"{own}:Wrong"))
        with pytest.raises(WorkerError, match="policy 'world:Reader' raised EOFError"):
            worker.simulate(replace(SHORT, policy=f"{own}:Reader"))


def test_pypy_finds_an_own_policy(pypy: str, own: str) -> None:
    point = replace(SHORT, policy=f"{own}:Own")
    assert sweep([point, point], python=pypy)[0]["digest"] == simulate(SHORT)["digest"]


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


OLD = "import runpy, sys; sys.version_info = (3, 9); del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("exit 3", "ended with status 3"),
        ("echo hello", "is no Python interpreter"),
        ("echo 17", "is no Python interpreter"),
        (r"printf '\\377\\376\\n'", "is no Python interpreter"),
        (
            f"exec {sys.executable} -I -S $1 /nowhere",
            r"cannot simulate: it is CPython .* cannot import NumPy \(No module",
        ),
        (f'exec {sys.executable} -c "{OLD}" "$@"', "cannot simulate: it is CPython .*; 3.11 or newer is needed"),
    ],
)
def test_an_interpreter_that_cannot_simulate_is_told_from_one_that_can(tmp_path: Path, line: str, text: str) -> None:
    with Worker(script(tmp_path / "python", line)) as worker, pytest.raises(WorkerError, match=text) as raised:
        assert worker.name
    assert "make pypy" in str(raised.value)


def test_a_command_that_is_not_there_and_a_worker_that_is_gone() -> None:
    with pytest.raises(WorkerError, match="no-such-python cannot be started: No such file"):
        Worker("no-such-python")
    with Worker(sys.executable) as worker:
        assert worker.name
        worker._process.kill()
        worker._process.wait()
        with pytest.raises(WorkerError, match="ended with status -9"):
            worker.simulate(SHORT)


def test_the_environment_of_an_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PYTHONPATH would come before its own packages."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    python = script(
        tmp_path / "python", f'echo "$PYPY_GC_NURSERY $PYTHONPATH" > {tmp_path}/told; exec {sys.executable} "$@"'
    )
    with Worker(python) as worker:
        assert worker.name
    assert (tmp_path / "told").read_text() == "16M \n"
    monkeypatch.setenv("PYPY_GC_NURSERY", "4M")
    with Worker(python) as worker:
        assert worker.name
    assert (tmp_path / "told").read_text() == "4M \n"


def test_it_ends_with_all_it_started_and_hears_no_ctrl_c(tmp_path: Path) -> None:
    """The interpreter is below a shell, as of a wrapper."""
    told: list[float] = []
    wrapper = script(tmp_path / "python", f'{sys.executable} "$@"; exit $?')
    with Worker(wrapper) as worker, ThreadPoolExecutor(1) as pool:
        running = pool.submit(worker.simulate, replace(SHORT, duration_s=1e7), lambda now_s, _: told.append(now_s))
        until(lambda: bool(told))
        assert os.getpgid(worker._process.pid) != os.getpgid(0)
        assert os.getsid(worker._process.pid) != os.getsid(0)
        worker.close()
        with pytest.raises(WorkerError, match="ended with status -9"):
            running.result(timeout=10)


def test_it_ends_silently_when_nobody_hears_it_any_more(tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, worker_main.__file__, str(ROOT), *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert "ready" in process.stdout.readline()
        process.stdin.write(json.dumps(document_of(replace(SHORT, duration_s=1e7))) + "\n")
        process.stdin.flush()
        assert "progress" in process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=10) == 1
        process.stdin.close()
    assert (tmp_path / "stderr").read_text() == ""
