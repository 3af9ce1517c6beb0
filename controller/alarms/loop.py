"""Fires triggers whose alarm is due: the one controller that holds the role does.

An alarm is claimed before it is fired and written with its next time after. So a controller that dies in between leaves
it due again after CLAIM_S: a fire is never lost, and made twice only where the controller died after it and before that
write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from controller.alarms import cron
from fallow.core.alarms import Alarm, Fired, after_fire
from fallow.infra.clock import unix_ms
from fallow.infra.log import get_logger
from fallow.infra.records import RuleDoc, TriggerDoc
from fallow.infra.store import Store, StoredAlarm, StoreError

ROLE = "alarms"
ROLE_TTL_S = 5.0
CLAIM_S = 30.0
_AT_ONCE = 50

_log = get_logger("controller.alarms")

Fire = Callable[[Alarm], Awaitable[Fired]]


class AlarmLoop:
    """`step` is to be called every second."""

    def __init__(
        self,
        *,
        controller_id: str,
        store: Store,
        fire: Fire,
        accepting: Callable[[], bool],
        now_unix_ms: Callable[[], int] = unix_ms,
    ) -> None:
        """`accepting`: whether the controller takes calls; one that does not leaves the role to another."""
        self._controller_id = controller_id
        self._store = store
        self._fire = fire
        self._accepting = accepting
        self._now_unix_ms = now_unix_ms

    async def step(self) -> None:
        """Fires all that are due now."""
        if not self._accepting():
            return
        try:
            if await self._store.hold(ROLE, self._controller_id, ROLE_TTL_S):
                await self._fire_due(self._now_unix_ms())
        except StoreError as e:
            _log.warning("alarms wait for the store", error=str(e))

    async def _fire_due(self, now_unix_ms: int) -> None:
        until_unix_ms = now_unix_ms + round(CLAIM_S * 1000)
        while True:
            claimed = await self._store.claim_alarms(
                now_unix_ms=now_unix_ms, until_unix_ms=until_unix_ms, count=_AT_ONCE
            )
            await asyncio.gather(*(self._one(stored, now_unix_ms) for stored in claimed))
            if len(claimed) < _AT_ONCE:
                return

    async def _one(self, stored: StoredAlarm, now_unix_ms: int) -> None:
        """What fails here leaves the alarm claimed: it comes again."""
        alarm = stored.alarm
        name = f"{alarm.namespace}/{alarm.trigger}"
        try:
            fired = await self._fire(alarm)
            await self._write(stored, fired, now_unix_ms)
        except (StoreError, ValueError) as e:  # ValueError: a time zone that was known when the alarm was made
            _log.warning("alarm not fired", trigger=name, error=str(e))
            return
        _log.info("alarm fired", trigger=name, outcome=fired.value)

    async def _write(self, stored: StoredAlarm, fired: Fired, now_unix_ms: int) -> None:
        after = after_fire(stored.alarm, fired, now_unix_ms, cron.next_after)
        if after.delete_trigger:
            await self._delete_trigger(stored.alarm, rules=after.delete_rules)
        # Where somebody changed the alarm meanwhile, the new one stands as it is.
        if after.alarm is None:
            await self._store.delete_alarm(stored.alarm.namespace, stored.alarm.trigger, expect=stored)
        else:
            await self._store.put_alarm(after.alarm, after.due_unix_ms, expect=stored)

    async def _delete_trigger(self, alarm: Alarm, *, rules: bool) -> None:
        doc = await self._store.delete_entity(TriggerDoc, alarm.namespace, alarm.trigger)
        if doc is not None and rules:
            for rule in doc.rules:
                await self._store.delete_entity(RuleDoc, alarm.namespace, rule)
