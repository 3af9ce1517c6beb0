"""When alarms are due, and what becomes of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.core.alarms import GONE_AFTER, RETRY_MS, Alarm, Fired, after_fire, next_due

MINUTE = 60_000
SOME = dict[str, Any](namespace="guest", trigger="t", subject="guest", payload={}, shown={})
TIMES = st.integers(min_value=0, max_value=10**10)


def every_seconds(seconds: int):
    """A reader of cron expressions that all mean every so many seconds."""

    def cron_next(expression: str, timezone: str, unix_ms: int) -> int | None:
        period_ms = seconds * 1000
        return (unix_ms // period_ms + 1) * period_ms

    return cron_next


def never(expression: str, timezone: str, unix_ms: int) -> int | None:
    return None


cron_next = every_seconds(10)
STARTS = st.none() | TIMES
INTERVALS = st.builds(
    lambda minutes, start, stop: Alarm(minutes=minutes, start_unix_ms=start, stop_unix_ms=stop, **SOME),
    st.integers(1, 10_000), TIMES, st.none() | TIMES
)  # fmt: skip
CRONS = st.builds(
    lambda start, stop: Alarm(cron="*/10 * * * * *", start_unix_ms=start, stop_unix_ms=stop, **SOME),
    STARTS, st.none() | TIMES
)  # fmt: skip
ONCES = st.builds(lambda date: Alarm(date_unix_ms=date, **SOME), TIMES)


@given(INTERVALS | CRONS | ONCES, TIMES)
@settings(max_examples=200)
def test_the_next_time_is_ahead_and_one_of_the_schedule(alarm: Alarm, now: int) -> None:
    due = next_due(alarm, now, cron_next)
    if due is None:
        assert alarm.stop_unix_ms is not None or alarm.date_unix_ms is not None
        return
    assert due > now
    assert due >= (alarm.start_unix_ms or 0)
    assert alarm.stop_unix_ms is None or due <= alarm.stop_unix_ms
    if alarm.minutes:
        assert (due - alarm.start_unix_ms) % (alarm.minutes * MINUTE) == 0
        earlier = due - alarm.minutes * MINUTE
        assert earlier <= now or earlier < alarm.start_unix_ms, "none was left out"
    elif alarm.cron:
        assert due % 10_000 == 0
        assert due - 10_000 <= max(now, (alarm.start_unix_ms or 0) - 1)
    else:
        assert due == alarm.date_unix_ms


@given(INTERVALS | CRONS, TIMES)
@settings(max_examples=100)
def test_however_many_were_missed_one_fire_stands_for_them(alarm: Alarm, now: int) -> None:
    due = next_due(alarm, 0, cron_next)
    if due is None or due > now:
        return
    after = after_fire(alarm, Fired.DONE, now, cron_next)
    assert after.alarm is not None
    assert after.due_unix_ms == next_due(alarm, now, cron_next)
    assert after.alarm.active == (after.due_unix_ms is not None)


def test_the_first_of_an_interval_is_its_start() -> None:
    alarm = Alarm(minutes=5, start_unix_ms=1000, **SOME)
    assert [next_due(alarm, now, never) for now in (0, 999, 1000, 1001)] == [1000, 1000, 301_000, 301_000]


def test_after_its_date_one_that_fires_once_is_inactive_or_gone() -> None:
    alarm = Alarm(date_unix_ms=5, **SOME)
    kept = after_fire(alarm, Fired.DONE, 7, never)
    assert kept.alarm == replace(
        alarm, active=False, reason="Automatically disabled after firing once", changed_unix_ms=7
    )
    assert (kept.due_unix_ms, kept.delete_trigger) == (None, False)
    gone = after_fire(replace(alarm, delete_after_fire="true"), Fired.DONE, 7, never)
    assert (gone.alarm, gone.delete_trigger, gone.delete_rules) == (None, True, False)
    gone = after_fire(replace(alarm, delete_after_fire="rules"), Fired.DONE, 7, never)
    assert (gone.alarm, gone.delete_trigger, gone.delete_rules) == (None, True, True)


def test_the_last_fires_switch_off() -> None:
    alarm = Alarm(cron="x", fires_left=2, **SOME)
    once = after_fire(alarm, Fired.DONE, 5, cron_next)
    assert (once.alarm, once.due_unix_ms) == (replace(alarm, fires_left=1), 10_000)
    twice = after_fire(once.alarm, Fired.DONE, 10_000, cron_next)
    assert (twice.alarm.active, twice.alarm.reason, twice.due_unix_ms) == (
        False, "Automatically disabled after reaching max triggers", None
    )  # fmt: skip
    for last, kind in ((Alarm(cron="x", **SOME), "cron"), (Alarm(minutes=1, start_unix_ms=0, **SOME), "interval")):
        after = after_fire(replace(last, stop_unix_ms=9_000), Fired.DONE, 5, cron_next)
        assert after.alarm.reason == f"Automatically disabled after firing last scheduled {kind} trigger"


def test_a_fire_that_was_refused_comes_again_soon_and_counts_for_nothing() -> None:
    for alarm in (Alarm(date_unix_ms=5, **SOME), Alarm(cron="x", fires_left=1, missed=2, **SOME)):
        after = after_fire(alarm, Fired.NOT_NOW, 7, cron_next)
        assert (after.alarm, after.due_unix_ms) == (alarm, 7 + RETRY_MS)


def test_an_alarm_whose_trigger_is_gone_goes_after_some_fires_in_a_row() -> None:
    alarm = Alarm(cron="x", **SOME)
    for missed in range(1, GONE_AFTER):
        after = after_fire(alarm, Fired.NO_TRIGGER, 5, cron_next)
        alarm = after.alarm
        assert alarm.missed == missed
        assert after.due_unix_ms == 10_000
    assert after_fire(alarm, Fired.NO_TRIGGER, 5, cron_next).alarm is None
    assert after_fire(alarm, Fired.DONE, 5, cron_next).alarm.missed == 0
    assert after_fire(Alarm(date_unix_ms=5, **SOME), Fired.NO_TRIGGER, 7, cron_next).alarm is None


def test_minutes_without_a_start_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="start"):
        next_due(Alarm(minutes=1, **SOME), 0, never)
