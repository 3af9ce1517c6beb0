"""Processes that start, loop and end: each in a real one, since signals and exit codes are what counts."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from fallow.infra import clock, tasks
from fallow.infra.tasks import EXIT_BUG, EXIT_ERROR, EXIT_FORCED, every

HEAD = """
import asyncio, os, sys
from fallow.infra import log
from fallow.infra.tasks import FatalError, every, run
log.configure("info", "json", "test")
def say(text):
    print(text, flush=True)
"""


def program(main: str) -> list[str]:
    return [sys.executable, "-c", f"{HEAD}\n{main}\nsys.exit(run(main))"]


def ended(main: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(program(main), capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes the test starts; none outlives it."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def start(processes: list[subprocess.Popen[str]], main: str, **env: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        program(main), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **env}
    )
    processes.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


WAIT_FOR_STOP = """
async def main(stop):
    say("ready")
    await stop.wait()
    say("in order")
    return 7
"""


def test_the_exit_code_is_mains() -> None:
    done = ended("async def main(stop):\n    say(type(asyncio.get_running_loop()).__module__)\n    return 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "uvloop\n", "")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_for_an_orderly_end(started: list[subprocess.Popen[str]], signum: signal.Signals) -> None:
    process = start(started, WAIT_FOR_STOP)
    process.send_signal(signum)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (7, "in order\n")
    assert json.loads(err)["signal"] == signum.name


def test_a_second_signal_cuts_a_slow_shutdown_short(started: list[subprocess.Popen[str]]) -> None:
    main = """
async def main(stop):
    say("ready")
    await stop.wait()
    say("stopping")
    try:
        await asyncio.sleep(600)
    finally:
        say("cleaned up")
"""
    process = start(started, main)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "stopping\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (EXIT_FORCED, "cleaned up\n")
    assert "Traceback" not in err


def test_a_fatal_error_is_said_in_its_own_words() -> None:
    main = """
async def fail():
    raise FatalError("port 80 is in use\\nchoose another with --port")
async def main(stop):
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(600))
        group.create_task(fail())
    return 0
"""
    done = ended(main)
    assert (done.returncode, done.stdout) == (EXIT_ERROR, "")
    assert done.stderr == "port 80 is in use\nchoose another with --port\n"


def test_a_loop_that_dies_takes_the_process_down_with_one_line() -> None:
    main = """
def turn():
    raise KeyError("lost")
async def main(stop):
    async with asyncio.TaskGroup() as group:
        group.create_task(every(60, turn), name="turns")
        await stop.wait()
    return 0
"""
    done = ended(main)
    assert done.returncode == EXIT_BUG
    (line,) = map(json.loads, done.stderr.splitlines())
    assert (line["level"], line["event"], line["error"]) == ("critical", "process died", "KeyError: 'lost'")
    assert "in turn" in line["exception"]


def test_a_process_dies_with_its_parent_when_asked_to(started: list[subprocess.Popen[str]]) -> None:
    child = program("async def main(stop):\n    say(os.getpid())\n    await stop.wait()\n    say('bye')\n    return 0")
    parent_main = f"""
async def main(stop):
    child = await asyncio.create_subprocess_exec(*{child!r}, env={{**os.environ, "FALLOW_PARENT_DEATH": "1"}})
    await asyncio.sleep(600)
"""
    parent = subprocess.Popen(program(parent_main), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    started.append(parent)
    assert parent.stdout is not None
    child_pid = int(parent.stdout.readline())
    os.kill(child_pid, 0)
    parent.kill()
    assert parent.stdout.read() == "bye\n"  # the child holds the pipe: it ends when the child has


class Sleeper:
    """A clock and a sleep of the test's own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, turns: int) -> None:
        self.now_s = 100.0
        self.turns = turns
        monkeypatch.setattr(tasks, "mono_s", lambda: self.now_s)
        monkeypatch.setattr(asyncio, "sleep", self.sleep)

    async def sleep(self, delay_s: float) -> None:
        self.turns -= 1
        if self.turns < 0:
            raise asyncio.CancelledError
        self.now_s += delay_s


async def test_every_keeps_an_absolute_schedule_and_skips_missed_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper = Sleeper(monkeypatch, turns=5)
    took_s = iter([0.3, 0.0, 2.5, 1.0, 0.0, 0.0])
    at: list[float] = []

    async def turn() -> None:
        at.append(sleeper.now_s)
        sleeper.now_s += next(took_s)

    with pytest.raises(asyncio.CancelledError):
        await every(1.0, turn)
    assert at == [100.0, 101.0, 102.0, 105.0, 107.0, 108.0]


async def test_every_takes_plain_functions_and_passes_errors_on() -> None:
    calls: list[int] = []

    def turn() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise ValueError("third")

    with pytest.raises(ValueError, match="third"):
        await every(0.001, turn)
    assert len(calls) == 3


def test_the_clocks() -> None:
    before_s = clock.mono_s()
    assert clock.mono_s() >= before_s
    assert clock.unix_ms() > 1_700_000_000_000
