"""Cron expressions: checked, and asked when they are due next. Never reads the clock."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

MAX_CHARACTERS = 256


def check(expression: str, timezone: str) -> None:
    """Raises ValueError, whose text is for whoever wrote it.

    Five fields are minute, hour, day of the month, month, day of the week; six have the second before them.
    """
    try:
        if len(expression) > MAX_CHARACTERS:
            raise CronSimError
        CronSim(expression, datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError:
        raise ValueError(f"cron pattern '{expression[:MAX_CHARACTERS]}' is not valid") from None
    _zone(timezone)


def next_after(expression: str, timezone: str, unix_ms: int) -> int | None:
    """The first time after this one, in Unix milliseconds; None = not within 50 years.

    `timezone` "" is UTC. Raises ValueError for what `check` refuses.
    """
    after = datetime.fromtimestamp(unix_ms / 1000, _zone(timezone))
    for found in CronSim(expression, after):
        # Where clocks are set back, times of the hour that comes twice are found from the first of the two on.
        found_unix_ms = round(found.timestamp() * 1000)
        if found_unix_ms > unix_ms:
            return found_unix_ms
    return None


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name) if name else UTC
    except (ValueError, OSError, KeyError):  # a path, a folder of zones, a name that is none
        raise ValueError(f"timezone '{name[:MAX_CHARACTERS]}' is not known") from None
