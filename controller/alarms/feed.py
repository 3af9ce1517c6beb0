"""The feed actions of whisk.system/alarms: what `lifecycleEvent` asks for is done to the alarm of `triggerName`.

A client puts the trigger first, then calls the feed with its own key as `authKey`. Of that key the namespace and the
subject are kept, never the key.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from controller.alarms import schedule
from controller.api import params
from controller.api.errors import ApiError, forbidden
from controller.builtins import Builtin, BuiltinError
from fallow.core.alarms import Alarm
from fallow.infra.clock import unix_ms
from fallow.infra.records import Identity, TriggerDoc
from fallow.infra.store import Store, StoredAlarm

PACKAGE = "whisk.system/alarms"
FEEDS = ("alarm", "interval", "once")
SUCCESS = {"status": "success"}
_TRIES = 5  # against others that write the same alarm


class AlarmFeeds:
    """One for the whole controller."""

    def __init__(
        self,
        *,
        store: Store,
        owner: Callable[[str], Awaitable[Identity]],
        now_unix_ms: Callable[[], int] = unix_ms,
    ) -> None:
        """`owner`: whose key "uuid:secret" is; raises ApiError for nobody's."""
        self._store = store
        self._owner = owner
        self._now_unix_ms = now_unix_ms

    def actions(self) -> dict[str, Builtin]:
        """By full name, for BuiltinRunner."""
        return {f"{PACKAGE}/{feed}": self._action(feed) for feed in FEEDS}

    def _action(self, feed: str) -> Builtin:
        async def run(args: dict[str, Any]) -> dict[str, Any]:
            event = args.get("lifecycleEvent")
            identity, trigger = await self._trigger(args)
            self._require(identity, "READ" if event == "READ" else "ACTIVATE", trigger)
            match event:
                case "CREATE":
                    return await self._create(feed, args, identity, trigger)
                case "READ":
                    return schedule.described((await self._standing(identity.namespace, trigger)).alarm)
                case "UPDATE":
                    now = self._now_unix_ms()
                    return await self._change(identity, trigger, lambda alarm: schedule.updated(alarm, args, now))
                case "PAUSE" | "UNPAUSE":
                    active, now = event == "UNPAUSE", self._now_unix_ms()
                    return await self._change(
                        identity, trigger, lambda alarm: schedule.switched(alarm, active=active, now_unix_ms=now)
                    )
                case "DELETE":
                    await self._store.delete_alarm(identity.namespace, trigger)
                    return SUCCESS
                case _:
                    raise BuiltinError("unsupported lifecycleEvent")

        return run

    async def _trigger(self, args: dict[str, Any]) -> tuple[Identity, str]:
        """Who asks, and the name of the trigger in that one's namespace. Raises BuiltinError."""
        key, name = args.get("authKey"), args.get("triggerName")
        if not key or not isinstance(key, str):
            raise BuiltinError("no authKey parameter was provided")
        if not name or not isinstance(name, str):
            raise BuiltinError("no trigger name parameter was provided")
        namespace, _, trigger = name[1:].partition("/") if name.startswith("/") else ("_", "", name)
        try:
            identity = await self._owner(key)
            if namespace not in ("_", identity.namespace):
                raise forbidden(f"{params.check_namespace(namespace)}/{params.check_name(trigger)}")
            return identity, params.check_name(trigger)
        except ApiError as e:
            raise BuiltinError(f"Trigger authentication request failed. {e.text}") from None

    @staticmethod
    def _require(identity: Identity, right: str, trigger: str) -> None:
        """An alarm is its trigger's: whoever may fire that may change it."""
        if right not in identity.rights:
            text = forbidden(f"{identity.namespace}/{trigger}").text
            raise BuiltinError(f"Trigger authentication request failed. {text}")

    async def _create(self, feed: str, args: dict[str, Any], identity: Identity, trigger: str) -> dict[str, Any]:
        namespace = identity.namespace
        if await self._store.get_entity(TriggerDoc, namespace, trigger) is None:
            raise BuiltinError(f"The trigger '{namespace}/{trigger}' does not exist.")
        alarm, due = schedule.created(
            feed,
            args,
            namespace=namespace,
            trigger=trigger,
            subject=identity.subject,
            now_unix_ms=self._now_unix_ms(),
        )
        # An alarm that stands already is one that a deleted trigger of this name left, or this call's own earlier try.
        await self._store.put_alarm(alarm, due)
        return SUCCESS

    async def _standing(self, namespace: str, trigger: str) -> StoredAlarm:
        stored = await self._store.get_alarm(namespace, trigger)
        if stored is None:
            raise BuiltinError(f"could not find the alarm of trigger '{namespace}/{trigger}'")
        return stored

    async def _change(
        self, identity: Identity, trigger: str, change: Callable[[Alarm], tuple[Alarm, int | None]]
    ) -> dict[str, Any]:
        for _ in range(_TRIES):
            stored = await self._standing(identity.namespace, trigger)
            alarm, due = change(stored.alarm)
            if await self._store.put_alarm(alarm, due, expect=stored):
                return SUCCESS
        raise BuiltinError("the alarm was changed by others again and again: try again")
