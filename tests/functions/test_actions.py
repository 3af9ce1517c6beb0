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


def test_trace_spreads_its_cpu_over_its_duration(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    before_s = time.process_time()
    trace.main({"cpu_ms": 8, "duration_ms": 4000})
    assert time.process_time() - before_s >= 0.008
    assert len(slept) == 160, "a pause in every slice of 25 ms"
    assert all(0 < pause_s <= 0.025 for pause_s in slept)
    trace.main({})
    assert len(slept) == 160


def test_trace_does_not_make_up_for_cpu_it_did_not_get(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    trace.main({"cpu_ms": 60, "duration_ms": 50})
    assert slept == [], "each slice needed longer than it had"


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
