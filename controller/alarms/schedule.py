"""From a feed's arguments to an alarm, and back to what its READ shows. Names and texts are OpenWhisk's."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from controller.alarms import cron
from controller.builtins import BuiltinError
from fallow.core.alarms import Alarm, next_due

FIRST_INTERVAL_MS = 30_000  # an interval without a start begins so long after it was made
MAX_MINUTES = 10 * 366 * 24 * 60
_LATEST_UNIX_MS = 221_845_392_000_000  # the year 9000: what cron looks ahead from there, a date still holds
_DELETE_AFTER_FIRE = ("false", "true", "rules")
_BOUNDS = ("trigger_payload", "startDate", "stopDate", "maxTriggers")
_ONCE = ("trigger_payload", "date", "deleteAfterFire")  # what an UPDATE may give of each kind
_INTERVAL = (*_BOUNDS, "minutes")
_CRON = (*_BOUNDS, "cron", "timezone")
MAX_TRIGGERS = 1_000_000_000_000
_SHOWN_CHARACTERS = 100  # of a wrong value, in the text that refuses it


def created(
    feed: str, args: dict[str, Any], *, namespace: str, trigger: str, subject: str, now_unix_ms: int
) -> tuple[Alarm, int]:
    """The alarm that CREATE asks for, and when it is due. `feed` is "alarm", "interval" or "once".

    Raises BuiltinError.
    """
    alarm = Alarm(
        namespace=namespace,
        trigger=trigger,
        subject=subject,
        payload=_payload(args.get("trigger_payload")),
        shown={},
        changed_unix_ms=now_unix_ms,
    )
    if feed == "once":
        _required(args, "date", "alarms once trigger feed is missing the date parameter")
        alarm = _with_once(alarm, args, now_unix_ms)
    elif feed == "interval" or (args.get("minutes") and not args.get("cron")):
        _required(args, "minutes", "interval trigger feed is missing the minutes parameter")
        start_unix_ms = now_unix_ms + FIRST_INTERVAL_MS
        alarm = replace(alarm, start_unix_ms=start_unix_ms, shown={"startDate": start_unix_ms})
        alarm = _with_bounds(_with_minutes(alarm, args), args, now_unix_ms)
    else:
        _required(args, "cron", "alarms trigger feed is missing the cron parameter")
        alarm = _with_bounds(_with_cron(alarm, args), args, now_unix_ms)
    return alarm, _due(alarm, now_unix_ms)


def updated(alarm: Alarm, args: dict[str, Any], now_unix_ms: int) -> tuple[Alarm, int | None]:
    """The alarm with what UPDATE gives of it, and when it is due; what it is due by (date, minutes, cron) stays.

    One that ended by itself becomes active again where it has a time ahead; one that was paused stays so. Raises
    BuiltinError.
    """
    updatable = _ONCE if alarm.date_unix_ms is not None else _INTERVAL if alarm.minutes else _CRON
    if not any(args.get(name) for name in updatable):
        raise BuiltinError("no updatable parameters were specified")
    new = alarm
    if args.get("trigger_payload"):
        new = replace(new, payload=_payload(args["trigger_payload"]))
    if alarm.date_unix_ms is not None:
        new = _with_once(new, args, now_unix_ms)
    else:
        new = _with_bounds(_with_minutes(new, args) if alarm.minutes else _with_cron(new, args), args, now_unix_ms)
    if alarm.active:
        return new, _due(new, now_unix_ms)
    due = next_due(new, now_unix_ms, cron.next_after)
    if not alarm.reason or due is None:
        return new, None
    return replace(new, active=True, reason="", changed_unix_ms=now_unix_ms), due


def switched(alarm: Alarm, *, active: bool, now_unix_ms: int) -> tuple[Alarm, int | None]:
    """The alarm paused or not, and when it is due. Raises BuiltinError for one that has no time ahead."""
    alarm = replace(alarm, active=active, reason="", changed_unix_ms=now_unix_ms)
    return alarm, _due(alarm, now_unix_ms) if active else None


def described(alarm: Alarm) -> dict[str, Any]:
    """What READ gives: its configuration in the words it was made with, and whether it is active."""
    config: dict[str, Any] = {"name": alarm.trigger, "namespace": alarm.namespace, "payload": alarm.payload}
    if alarm.date_unix_ms is not None:
        config["deleteAfterFire"] = alarm.delete_after_fire
    elif alarm.minutes:
        config["minutes"] = alarm.minutes
    else:
        config["cron"] = alarm.cron
        if alarm.timezone:
            config["timezone"] = alarm.timezone
    changed = datetime.fromtimestamp(alarm.changed_unix_ms // 1000, UTC)
    status: dict[str, Any] = {
        "active": alarm.active,
        "dateChanged": alarm.changed_unix_ms,
        "dateChangedISO": changed.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if alarm.reason:
        status["reason"] = {"kind": "AUTO", "message": alarm.reason}
    return {"config": {**config, **alarm.shown}, "status": status}


def _required(args: dict[str, Any], name: str, text: str) -> None:
    if not args.get(name):
        raise BuiltinError(text)


def _due(alarm: Alarm, now_unix_ms: int) -> int:
    due = next_due(alarm, now_unix_ms, cron.next_after)
    if due is None:
        if alarm.stop_unix_ms is not None:
            raise BuiltinError("the first scheduled trigger fire is not until after the stop date")
        raise BuiltinError("the alarm would never fire: its times are past, or its pattern has none")
    return due


def _with_once(alarm: Alarm, args: dict[str, Any], now_unix_ms: int) -> Alarm:
    if args.get("date"):
        date = _date(args, "date", now_unix_ms)
        alarm = replace(alarm, date_unix_ms=date, shown={**alarm.shown, "date": args["date"]})
    if args.get("deleteAfterFire"):
        wish = str(args["deleteAfterFire"]).strip().lower()
        if wish not in _DELETE_AFTER_FIRE:
            raise BuiltinError("deleteAfterFire parameter must be one of [false, true, rules].")
        alarm = replace(alarm, delete_after_fire=wish)
    return alarm


def _with_minutes(alarm: Alarm, args: dict[str, Any]) -> Alarm:
    if not args.get("minutes"):
        return alarm
    minutes = _whole(args["minutes"])
    if minutes is None:
        raise BuiltinError("the minutes parameter must be an integer")
    if minutes <= 0:
        raise BuiltinError("the minutes parameter must be an integer greater than zero")
    if minutes > MAX_MINUTES:
        raise BuiltinError(f"the minutes parameter must be at most {MAX_MINUTES}")
    return replace(alarm, minutes=minutes)


def _with_cron(alarm: Alarm, args: dict[str, Any]) -> Alarm:
    expression, timezone = args.get("cron") or alarm.cron, args.get("timezone") or alarm.timezone
    if not isinstance(expression, str):
        raise BuiltinError(f"cron pattern '{_short(expression)}' is not valid")
    if not isinstance(timezone, str):
        raise BuiltinError(f"timezone '{_short(timezone)}' is not known")
    try:
        cron.check(expression, timezone)
    except ValueError as e:
        raise BuiltinError(str(e)) from None
    return replace(alarm, cron=expression, timezone=timezone)


def _with_bounds(alarm: Alarm, args: dict[str, Any], now_unix_ms: int) -> Alarm:
    if args.get("maxTriggers"):
        if args.get("stopDate"):
            raise BuiltinError("maxTriggers is not allowed when the stopDate parameter is specified")
        most = _whole(args["maxTriggers"])
        if most is None or not -1 <= most <= MAX_TRIGGERS:
            raise BuiltinError("the maxTriggers parameter must be an integer greater than zero, or -1 for no limit")
        alarm = replace(alarm, fires_left=None if most == -1 else most)
    if args.get("startDate"):
        date = _date(args, "startDate", now_unix_ms)
        alarm = replace(alarm, start_unix_ms=date, shown={**alarm.shown, "startDate": args["startDate"]})
    if args.get("stopDate"):
        date = _date(args, "stopDate", now_unix_ms)
        alarm = replace(alarm, stop_unix_ms=date, shown={**alarm.shown, "stopDate": args["stopDate"]})
    start_unix_ms, stop_unix_ms = alarm.start_unix_ms, alarm.stop_unix_ms
    if start_unix_ms is not None and stop_unix_ms is not None and stop_unix_ms <= start_unix_ms:
        start, stop = _short(alarm.shown["startDate"]), _short(alarm.shown["stopDate"])
        raise BuiltinError(f"stopDate parameter '{stop}' must be greater than the startDate parameter '{start}'")
    return alarm


def _payload(value: Any) -> dict[str, Any]:
    if not value:
        return {}
    if isinstance(value, str):
        return {"payload": value}
    if isinstance(value, dict):
        return value
    raise BuiltinError("the trigger_payload parameter must be an object or a string")


def _date(args: dict[str, Any], name: str, now_unix_ms: int) -> int:
    """Unix milliseconds of a date given as those, or in ISO 8601 (without an offset it is UTC)."""
    value = args[name]
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value.strip())
            unix_ms = round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            unix_ms = round(value)
        else:
            raise ValueError
        if unix_ms > _LATEST_UNIX_MS:
            raise ValueError
    except (ValueError, OverflowError):
        raise BuiltinError(f"{name} parameter '{_short(value)}' is not a valid Date") from None
    if unix_ms <= now_unix_ms:
        raise BuiltinError(f"{name} parameter '{_short(value)}' must be in the future")
    return unix_ms


def _whole(value: Any) -> int | None:
    """A whole number, also as text; None = it is none."""
    try:
        if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
            return None
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _short(value: Any) -> str:
    return str(value)[:_SHOWN_CHARACTERS]
