"""Alarms of triggers, and when each is due."""

from __future__ import annotations

from dataclasses import dataclass

from fallow.core.alarms import Alarm
from fallow.infra.store import keys, scripts
from fallow.infra.store.connection import Connection
from fallow.infra.store.rows import ALARMS


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAlarm:
    """An alarm as it stood when it was read."""

    alarm: Alarm
    row: bytes  # what a write may expect to stand still


class AlarmStore:
    _connection: Connection

    async def put_alarm(self, alarm: Alarm, due_unix_ms: int | None, *, expect: StoredAlarm | None = None) -> bool:
        """Stores the alarm of a trigger; None = it is not due again. False = `expect` does not stand any more."""
        return await self._write(alarm.namespace, alarm.trigger, ALARMS.to_bytes(alarm), due_unix_ms, expect)

    async def get_alarm(self, namespace: str, trigger: str) -> StoredAlarm | None:
        row = await self._connection.call("HGET", keys.alarms(), _who(namespace, trigger))
        return None if row is None else _stored(row)

    async def delete_alarm(self, namespace: str, trigger: str, *, expect: StoredAlarm | None = None) -> bool:
        """False = `expect` does not stand any more."""
        return await self._write(namespace, trigger, b"", None, expect)

    async def claim_alarms(self, *, now_unix_ms: int, until_unix_ms: int, count: int) -> list[StoredAlarm]:
        """Takes at most `count` alarms that are due now, earliest first; each goes to one claimer.

        To be written with their next time after the fire. One that is not is due again at `until_unix_ms`.
        """
        found = await self._connection.run(
            scripts.CLAIM_ALARMS, [keys.alarms(), keys.alarms_due()], [now_unix_ms, until_unix_ms, count]
        )
        return [_stored(row) for row in found]

    async def _write(
        self, namespace: str, trigger: str, row: bytes, due_unix_ms: int | None, expect: StoredAlarm | None
    ) -> bool:
        written = await self._connection.run(
            scripts.WRITE_ALARM,
            [keys.alarms(), keys.alarms_due()],
            [
                _who(namespace, trigger),
                row,
                "" if due_unix_ms is None else due_unix_ms,
                b"" if expect is None else expect.row,
            ],
        )
        return bool(written)


def _who(namespace: str, trigger: str) -> str:
    return f"{namespace}/{trigger}"


def _stored(row: bytes) -> StoredAlarm:
    return StoredAlarm(alarm=ALARMS.from_bytes(row, keys.alarms()), row=row)
