"""Log lines as another program reads them. Each case has a process of its own: logging is global."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from fallow.infra import log


def lines(program: str, *args: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", "from fallow.infra.log import *\n" + program, *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_json_lines_carry_level_logger_process_and_fields() -> None:
    program = (
        "early = get_logger('early')\n"
        "configure('info', 'json', 'invoker h1')\n"
        "early.info('started', port=80, odd={1})\n"
        "early.debug('not shown')\n"
        "get_logger('late').warning('lone \\udcff surrogate')\n"
    )
    first, second = map(json.loads, lines(program))
    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "event": "started",
        "level": "info",
        "logger": "early",
        "process": "invoker h1",
        "port": 80,
        "odd": "{1}",
    }
    assert (second["logger"], second["level"]) == ("late", "warning")


def test_an_exception_is_one_line() -> None:
    program = (
        "configure('info', 'json', 'p')\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    get_logger('l').exception('failed', id='a')\n"
    )
    (line,) = map(json.loads, lines(program))
    assert line["exception"].endswith("ZeroDivisionError: division by zero")
    assert line["id"] == "a"


def test_what_libraries_log_goes_the_same_way() -> None:
    program = (
        "import logging, warnings\n"
        "configure('debug', 'json', 'p')\n"
        "logging.getLogger('aiohttp.server').error('bad %s', 'thing')\n"
        "logging.getLogger('aiohttp.access').info('not shown')\n"
        "warnings.warn('old')\n"
    )
    first, second = map(json.loads, lines(program))
    assert (first["event"], first["logger"], first["process"]) == ("bad thing", "aiohttp.server", "p")
    assert second["logger"] == "py.warnings"


def test_the_console_form_is_for_people() -> None:
    (line,) = lines("configure('info', 'console', 'p')\nget_logger('l').info('started', port=80)\n")
    assert "started" in line
    assert "port=80" in line
    assert not line.startswith("{")


@pytest.mark.parametrize(("level", "fmt", "says"), [("loud", "json", "log_level is 'loud'"), ("info", "xml", "'xml'")])
def test_unknown_levels_and_formats_are_named(level: str, fmt: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        log.configure(level, fmt, "p")
