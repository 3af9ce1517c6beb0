"""Alarms: when a trigger is to be fired next, and what becomes of an alarm after a fire.

An alarm is due by a cron expression, every so many minutes from a first time on, or once. It is asked for the next time
strictly after now, not after the last fire: however many times passed while nobody looked, one fire stands for all of
them, and the schedule does not drift. Example: every 5 minutes from 12:00. Fired at 12:05, no controller from 12:06 to
12:17: one fire at 12:17, the next at 12:20.

All times are wall-clock Unix milliseconds. How a cron expression is read is for the caller to say (`CronNext`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, assert_never

RETRY_MS = 10_000  # after a fire that was refused or failed for the moment
GONE_AFTER = 3  # fires in a row that find no trigger: then nobody wants the alarm any more
_MINUTE_MS = 60_000

# Of an expression, a time zone ("" = UTC) and a time: the first time strictly after it; None = there is none.
CronNext = Callable[[str, str, int], int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """The alarm of one trigger. Exactly one of `cron`, `minutes` and `date_unix_ms` says when it is due."""

    namespace: str
    trigger: str
    subject: str  # on whose behalf it fires: the one whose key it was made with
    payload: dict[str, Any]
    cron: str = ""
    timezone: str = ""  # of `cron`; "" = UTC
    minutes: int = 0
    date_unix_ms: int | None = None
    start_unix_ms: int | None = None  # not due before; always given with `minutes`
    stop_unix_ms: int | None = None  # not due after
    fires_left: int | None = None  # None = no bound
    delete_after_fire: str = "false"  # of one with `date_unix_ms`: "true" deletes the trigger, "rules" its rules too
    shown: dict[str, Any]  # dates as whoever made it wrote them
    active: bool = True
    reason: str = ""  # why it became inactive by itself
    changed_unix_ms: int = 0  # when `active` last changed
    missed: int = 0  # fires in a row that found no trigger


class Fired(Enum):
    """What came of a fire."""

    DONE = "done"  # with rules to hear of it or without
    NO_TRIGGER = "no trigger"
    NOT_NOW = "not now"  # a limit or an outage: to be tried again


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftermath:
    """How an alarm goes on."""

    alarm: Alarm | None  # None = it is to be removed
    due_unix_ms: int | None = None  # None = not again
    delete_trigger: bool = False
    delete_rules: bool = False


def next_due(alarm: Alarm, now_unix_ms: int, cron_next: CronNext) -> int | None:
    """The first time strictly after now at which it is due; None = never again."""
    found = _scheduled(alarm, now_unix_ms, cron_next)
    if found is None or (alarm.stop_unix_ms is not None and found > alarm.stop_unix_ms):
        return None
    return found


def _scheduled(alarm: Alarm, now_unix_ms: int, cron_next: CronNext) -> int | None:
    start = alarm.start_unix_ms
    if alarm.date_unix_ms is not None:
        return alarm.date_unix_ms if alarm.date_unix_ms > now_unix_ms else None
    if not alarm.minutes:
        return cron_next(alarm.cron, alarm.timezone, now_unix_ms if start is None else max(now_unix_ms, start - 1))
    if start is None:
        raise ValueError("an alarm with minutes has no start")
    if start > now_unix_ms:
        return start
    period_ms = alarm.minutes * _MINUTE_MS
    return start + ((now_unix_ms - start) // period_ms + 1) * period_ms


def after_fire(alarm: Alarm, fired: Fired, now_unix_ms: int, cron_next: CronNext) -> Aftermath:
    """What becomes of an alarm that was due and fired now."""
    match fired:
        case Fired.NOT_NOW:
            return Aftermath(alarm=alarm, due_unix_ms=now_unix_ms + RETRY_MS)
        case Fired.NO_TRIGGER:
            due = next_due(alarm, now_unix_ms, cron_next)
            if due is None or alarm.missed + 1 >= GONE_AFTER:
                return Aftermath(alarm=None)
            return Aftermath(alarm=replace(alarm, missed=alarm.missed + 1), due_unix_ms=due)
        case Fired.DONE:
            return _after_success(replace(alarm, missed=0), now_unix_ms, cron_next)
        case _:
            assert_never(fired)


def _after_success(alarm: Alarm, now_unix_ms: int, cron_next: CronNext) -> Aftermath:
    if alarm.date_unix_ms is not None:
        if alarm.delete_after_fire == "false":
            return _ended(alarm, "Automatically disabled after firing once", now_unix_ms)
        return Aftermath(alarm=None, delete_trigger=True, delete_rules=alarm.delete_after_fire == "rules")
    if alarm.fires_left is not None:
        alarm = replace(alarm, fires_left=alarm.fires_left - 1)
        if alarm.fires_left == 0:
            return _ended(alarm, "Automatically disabled after reaching max triggers", now_unix_ms)
    due = next_due(alarm, now_unix_ms, cron_next)
    if due is None:
        kind = "interval" if alarm.minutes else "cron"
        return _ended(alarm, f"Automatically disabled after firing last scheduled {kind} trigger", now_unix_ms)
    return Aftermath(alarm=alarm, due_unix_ms=due)


def _ended(alarm: Alarm, reason: str, now_unix_ms: int) -> Aftermath:
    return Aftermath(alarm=replace(alarm, active=False, reason=reason, changed_unix_ms=now_unix_ms))
