"""The example actions, called as a runtime calls them."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from functions.actions import busy, echo, fail, hello, hog, sleep, trace


def test_hello_greets() -> None:
    assert hello.main({"name": "Ada"}) == {"greeting": "Hello, Ada!"}
    assert hello.main({}) == {"greeting": "Hello, stranger!"}


def test_echo_returns_its_arguments() -> None:
    assert echo.main({"x": [1]}) == {"x": [1]}


def test_sleep_takes_seconds_or_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    assert sleep.main({"seconds": 4}) == {"slept_s": 4.0}
    assert sleep.main({"ms": 250}) == {"slept_s": 0.25}
    assert slept == [4.0, 0.25]


def test_busy_burns_cpu_time_not_wall_time() -> None:
    before_s = time.process_time()
    result = busy.main({"cpu_ms": 20})
    assert time.process_time() - before_s >= 0.02
    assert result["cpu_ms"] >= 20
    assert result["wall_ms"] > 0


def test_trace_burns_then_sleeps_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    before_s = time.process_time()
    trace.main({"cpu_ms": 10, "sleep_ms": 30})
    assert time.process_time() - before_s >= 0.01
    assert slept == [0.03]
    trace.main({})
    assert slept == [0.03]


def test_fail_fails_as_asked() -> None:
    with pytest.raises(RuntimeError, match="on purpose"):
        fail.main({})
    assert fail.main({"how": "error", "text": "t"}) == {"error": "t"}
    assert fail.main({"how": "type", "text": "t"}) == "t"
    with pytest.raises(SystemExit):
        fail.main({"how": "exit"})


def test_crash_ends_the_process() -> None:
    code = "from functions.actions import crash; crash.main({'code': 7})"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 7


def test_hog_takes_what_it_says() -> None:
    assert hog.main({"mb": 3}) == {"mb": 3}
