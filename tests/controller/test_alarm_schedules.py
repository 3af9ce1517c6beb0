"""Cron expressions, and what a feed makes of its arguments."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.alarms import cron, schedule
from controller.builtins import BuiltinError
from fallow.core.alarms import Alarm

NOW = 1_790_000_000_000


def ms(text: str, zone: str = "") -> int:
    moment = datetime.fromisoformat(text)
    return round(moment.replace(tzinfo=ZoneInfo(zone) if zone else UTC).timestamp() * 1000)


def create(feed: str, **args) -> tuple[Alarm, int]:
    return schedule.created(feed, args, namespace="guest", trigger="t", subject="s", now_unix_ms=NOW)


@pytest.mark.parametrize(
    ("expression", "after", "found"),
    [
        ("*/5 * * * *", "2026-01-01T00:00:00", "2026-01-01T00:05:00"),
        ("0 12 * * *", "2026-01-01T12:00:00.001", "2026-01-02T12:00:00"),
        ("*/2 * * * * *", "2026-01-01T00:00:00.500", "2026-01-01T00:00:02"),
        ("* * * * * *", "2026-01-01T00:00:00", "2026-01-01T00:00:01"),
        ("0 0 29 2 *", "2026-01-01T00:00:00", "2028-02-29T00:00:00"),
        ("0 9 * * mon-fri", "2026-01-02T10:00:00", "2026-01-05T09:00:00"),
    ],
)
def test_the_next_time_of_an_expression(expression: str, after: str, found: str) -> None:
    assert cron.next_after(expression, "", ms(after)) == ms(found)


def test_a_time_zone_is_heeded() -> None:
    found = cron.next_after("0 9 * * *", "Europe/Berlin", ms("2026-07-01T00:00:00"))
    assert found == ms("2026-07-01T07:00:00")


FIELD = st.sampled_from(["*", "*/7", "3", "1-5", "2,4"])
SECONDS = st.sampled_from(["", "0 ", "*/20 ", "15 "])


@given(
    SECONDS,
    st.lists(FIELD, min_size=5, max_size=5),
    st.integers(0, 4 * 366 * 86_400),
    st.sampled_from(["", "America/New_York"]),
)
@settings(max_examples=150, deadline=None)
def test_it_is_always_ahead_and_one_of_the_expression(seconds, fields, after_s, zone) -> None:
    expression = seconds + " ".join(fields)
    cron.check(expression, zone)
    after = 1_700_000_000_000 + after_s * 1000
    found = cron.next_after(expression, zone, after)
    if found is None:
        return
    assert found > after
    moment = datetime.fromtimestamp(found / 1000, ZoneInfo(zone) if zone else UTC)
    month = fields[3]
    allowed = {"*": range(1, 13), "*/7": (1, 8), "3": (3,), "1-5": range(1, 6), "2,4": (2, 4)}[month]
    assert moment.month in allowed
    if not seconds.strip():
        assert moment.second == 0


def test_times_of_an_hour_that_comes_twice_are_still_ahead() -> None:
    twice = datetime(2026, 11, 1, 1, 30, tzinfo=ZoneInfo("America/New_York"), fold=1)
    after = round(twice.timestamp() * 1000)
    found = cron.next_after("45 1 * * *", "America/New_York", after)
    assert found is not None
    assert found > after


@given(st.text(alphabet="*/,-0123456789L#W ABCDEFMON?²", max_size=40))
@settings(max_examples=300, deadline=None)
def test_no_text_breaks_the_reader_of_expressions(text: str) -> None:
    try:
        cron.check(text, "")
    except ValueError as e:
        assert "is not valid" in str(e)  # noqa: PT017 - both ends are right
    else:
        cron.next_after(text, "", NOW)


@pytest.mark.parametrize(
    ("feed", "args", "text"),
    [
        ("alarm", {}, "alarms trigger feed is missing the cron parameter"),
        ("alarm", {"cron": "* * *"}, "cron pattern '* * *' is not valid"),
        ("alarm", {"cron": "61 * * * *"}, "cron pattern '61 * * * *' is not valid"),
        ("alarm", {"cron": 5}, "cron pattern '5' is not valid"),
        ("alarm", {"cron": "*," * 200 + "* * * * *"}, "is not valid"),
        ("alarm", {"cron": "0 0 31 2 *"}, "is not valid"),
        ("alarm", {"cron": "* * * * *", "timezone": "Mars/Olympus"}, "timezone 'Mars/Olympus' is not known"),
        ("alarm", {"cron": "* * * * *", "timezone": "../etc/passwd"}, "is not known"),
        ("alarm", {"cron": "* * * * *", "timezone": "Europe"}, "is not known"),
        ("alarm", {"cron": "* * * * *", "timezone": 7}, "is not known"),
        ("alarm", {"cron": "* * * * *", "trigger_payload": [1]}, "trigger_payload"),
        ("alarm", {"cron": "* * * * *", "maxTriggers": "x"}, "maxTriggers"),
        ("alarm", {"cron": "* * * * *", "maxTriggers": -2}, "maxTriggers"),
        ("alarm", {"cron": "* * * * *", "maxTriggers": 1, "stopDate": NOW + 10**9}, "maxTriggers is not allowed"),
        ("alarm", {"cron": "* * * * *", "startDate": NOW}, "must be in the future"),
        ("alarm", {"cron": "* * * * *", "stopDate": "soon"}, "stopDate parameter 'soon' is not a valid Date"),
        ("alarm", {"cron": "* * * * *", "stopDate": True}, "is not a valid Date"),
        ("alarm", {"cron": "* * * * *", "stopDate": float("inf")}, "is not a valid Date"),
        ("alarm", {"cron": "* * * * *", "stopDate": 10**30}, "is not a valid Date"),
        ("alarm", {"cron": "* * * * *", "startDate": NOW + 9, "stopDate": NOW + 5}, "greater than the startDate"),
        ("alarm", {"cron": "0 0 1 1 *", "stopDate": NOW + 60_000}, "not until after the stop date"),
        ("interval", {}, "interval trigger feed is missing the minutes parameter"),
        ("interval", {"minutes": "x"}, "the minutes parameter must be an integer"),
        ("interval", {"minutes": 1.5}, "the minutes parameter must be an integer"),
        ("interval", {"minutes": True}, "the minutes parameter must be an integer"),
        ("interval", {"minutes": -1}, "greater than zero"),
        ("interval", {"minutes": 10**20}, "at most"),
        ("interval", {"minutes": 1, "stopDate": NOW + 1_000}, "must be greater than the startDate"),
        ("once", {}, "alarms once trigger feed is missing the date parameter"),
        ("once", {"date": "2001-01-01T00:00:00Z"}, "must be in the future"),
        ("once", {"date": NOW + 5, "deleteAfterFire": "maybe"}, "must be one of [false, true, rules]"),
    ],
)  # fmt: skip
def test_what_makes_no_alarm_is_told_in_words(feed: str, args: dict, text: str) -> None:
    with pytest.raises(BuiltinError) as refused:
        create(feed, **args)
    assert text in str(refused.value)
    assert len(str(refused.value)) < 400


def test_an_alarm_is_described_in_the_words_it_was_made_with() -> None:
    alarm, due = create(
        "alarm", cron="*/10 * * * *", startDate="2030-01-01T00:00:00Z", stopDate="2030-02-01", trigger_payload="hi"
    )
    assert due == ms("2030-01-01T00:00:00")
    assert schedule.described(alarm) == {
        "config": {
            "name": "t",
            "namespace": "guest",
            "payload": {"payload": "hi"},
            "cron": "*/10 * * * *",
            "startDate": "2030-01-01T00:00:00Z",
            "stopDate": "2030-02-01",
        },
        "status": {"active": True, "dateChanged": NOW, "dateChangedISO": "2026-09-21T14:13:20Z"},
    }
    interval, due = create("interval", minutes="15", trigger_payload="")
    assert due == NOW + schedule.FIRST_INTERVAL_MS
    assert schedule.described(interval)["config"] == {
        "name": "t", "namespace": "guest", "payload": {}, "minutes": 15, "startDate": due
    }  # fmt: skip
    assert create("alarm", minutes=15) == (interval, due), "an alarm may be an interval too"
    once, due = create("once", date=NOW + 5, deleteAfterFire=True, trigger_payload={"a": 1})
    assert due == NOW + 5
    assert schedule.described(once)["config"] == {
        "name": "t", "namespace": "guest", "payload": {"a": 1}, "date": NOW + 5, "deleteAfterFire": "true"
    }  # fmt: skip


def test_an_update_changes_what_it_gives_and_nothing_else() -> None:
    alarm, _ = create("alarm", cron="*/10 * * * *", trigger_payload={"a": 1})
    new, due = schedule.updated(alarm, {"cron": "0 0 * * *", "trigger_payload": ""}, NOW)
    assert (new.cron, new.payload) == ("0 0 * * *", {"a": 1})
    assert due == cron.next_after("0 0 * * *", "", NOW)
    for args in ({}, {"trigger_payload": ""}, {"minutes": 5}, {"date": NOW + 5}):
        with pytest.raises(BuiltinError, match="no updatable parameters were specified"):
            schedule.updated(alarm, args, NOW)
    with pytest.raises(BuiltinError, match="is not valid"):
        schedule.updated(alarm, {"cron": "x"}, NOW)


def test_an_update_wakes_what_ended_and_leaves_asleep_what_was_paused() -> None:
    once, _ = create("once", date=NOW + 5)
    paused, due = schedule.switched(once, active=False, now_unix_ms=NOW)
    assert (paused.active, due) == (False, None)
    still, due = schedule.updated(paused, {"trigger_payload": "x"}, NOW)
    assert (still.active, still.payload, due) == (False, {"payload": "x"}, None)
    assert schedule.switched(still, active=True, now_unix_ms=NOW)[1] == NOW + 5
    with pytest.raises(BuiltinError, match="never fire"):
        schedule.switched(still, active=True, now_unix_ms=NOW + 5)
