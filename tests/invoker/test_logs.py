"""Lines, sentinels and bounds of an activation's log."""

from __future__ import annotations

import asyncio

from invoker import logs
from invoker.logs import LogCollector

END = logs.SENTINEL + b"\n"
NOW_UNIX_MS = 1_700_000_000_123


def collector(limit_mb: int = 1) -> LogCollector:
    made = LogCollector(lambda: NOW_UNIX_MS)
    made.begin(limit_mb)
    return made


def test_lines_cut_anywhere_come_out_whole() -> None:
    c = collector()
    whole = b"one\ntwo \xc3\xa9\nhalf" + END
    for n in range(len(whole)):
        c.feed(0, whole[n : n + 1])
    assert not c.complete
    c.feed(1, END)
    assert c.complete
    assert c.take() == [f"2023-11-14T22:13:20.123Z       stdout: {text}" for text in ("one", "two é", "half")]


def test_each_activation_needs_its_own_sentinels() -> None:
    c = collector()
    c.feed(0, END)
    c.feed(1, END)
    assert c.complete
    c.begin(1)
    assert not c.complete


def test_a_log_said_to_be_complete_needs_no_sentinels_and_ends_its_lines() -> None:
    c = collector()
    c.feed(0, b"one\nhalf")
    assert not c.complete
    c.finish()
    assert c.complete
    assert [line[39:] for line in c.take()] == ["one", "half"]
    c.begin(1)
    assert not c.complete
    c.feed(0, b"next\n")
    assert [line[39:] for line in c.take()] == ["next"]


def test_what_exceeds_the_limit_is_dropped_and_said() -> None:
    c = collector()
    for _ in range(40):
        c.feed(0, b"x" * 60_000 + b"\n")
    lines = c.take()
    assert sum(map(len, lines[:-1])) <= 1 << 20
    assert lines[-1].endswith(
        "stderr: Logs were truncated because the total bytes size exceeds the limit of 1048576 bytes."
    )


def test_a_line_without_end_is_cut_in_bounded_pieces() -> None:
    c = collector()
    c.feed(0, b"y" * (logs.MAX_LINE_BYTES * 2 + 5))
    c.end(0)
    assert [len(line) - 39 for line in c.take()] == [logs.MAX_LINE_BYTES, logs.MAX_LINE_BYTES, 5]


def test_limit_zero_collects_nothing_but_sees_the_sentinels() -> None:
    c = collector(limit_mb=0)
    c.feed(0, b"said\n" + END)
    c.feed(1, END)
    assert c.complete
    assert c.take("a warning") == []


async def test_wait_ends_with_the_streams() -> None:
    c = collector()
    c.feed(0, b"last words")
    c.end(0)
    c.end(1)
    assert await c.wait(1) is False
    assert c.take(logs.INCOMPLETE)[0].endswith("stdout: last words")


def anyones() -> tuple[LogCollector, logs.SentinelHabit]:
    habit = logs.SentinelHabit()
    c = LogCollector(lambda: 0, habit)
    c.begin(1)
    return c, habit


async def test_without_sentinels_a_short_quiet_is_the_end_and_nothing_is_missing() -> None:
    c, habit = anyones()
    quiet_s = []
    for n in range(logs.SILENT_AFTER + 1):
        quiet_s.append(habit.quiet_s)
        c.begin(1)
        c.feed(0, b"said %d" % n)
        assert await c.wait(1) is True
        assert c.complete
        assert [line[31:] for line in c.take()] == [f"stdout: said {n}"]
    assert quiet_s == [logs.UNKNOWN_QUIET_S] * logs.SILENT_AFTER + [logs.SILENT_QUIET_S]
    assert not habit.seen


async def test_the_first_sentinel_of_an_image_tells_that_both_are_to_be_waited_for() -> None:
    c, habit = anyones()
    waiting = asyncio.ensure_future(c.wait(1))
    await asyncio.sleep(0)
    c.feed(1, END)
    await asyncio.sleep(0)
    assert habit.seen
    assert not waiting.done()
    c.feed(0, b"late\n" + END)
    assert await waiting is True
    assert [line[31:] for line in c.take()] == ["stdout: late"]


async def test_closed_streams_of_an_image_without_sentinels_are_complete() -> None:
    c, _ = anyones()
    c.feed(0, b"last words")
    c.end(0)
    c.end(1)
    assert await c.wait(1) is True
    assert [line[31:] for line in c.take()] == ["stdout: last words"]
