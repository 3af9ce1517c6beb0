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


MANY = (
    "import asyncio\n"
    "lines = LineLog('many')\n"
    "async def main():\n"
    "    lines.info('ended', {'id': 'a', 'init_ms': None, 'odd': {1}})\n"
    "    lines.info('ended', {'id': 'b'})\n"
    "    await asyncio.sleep(0)\n"
)


def test_lines_by_the_thousand_look_like_all_others() -> None:
    one, other, general = map(
        json.loads,
        lines(
            "configure('info', 'json', 'p')\n"
            + MANY
            + "asyncio.run(main())\nget_logger('many').info('ended', id='b')\n"
        ),
    )
    assert one["odd"] == "{1}"
    assert one["init_ms"] is None
    assert len(one.pop("timestamp")) == len("2025-01-01T00:00:00.000000Z")
    other.pop("timestamp")
    general.pop("timestamp")
    assert other == general


@pytest.mark.parametrize(("level", "count"), [("info", 2), ("warning", 0)])
def test_lines_by_the_thousand_follow_level_and_format(level: str, count: int) -> None:
    found = lines(f"configure('{level}', 'console', 'p')\n" + MANY + "asyncio.run(main())\n")
    assert len(found) == count
    assert all("ended" in line and not line.startswith("{") for line in found)


def test_logging_leaves_rich_alone() -> None:
    program = "import sys\nassert 'rich' not in sys.modules\nimport rich.table\nconfigure('info', 'console', 'p')\n"
    assert lines(program) == []


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
