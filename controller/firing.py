"""Firing a trigger: the actions of its active rules are invoked, and the fire itself is recorded."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from controller.actions_cache import ActionsCache
from controller.api.errors import ApiError, not_found
from controller.api.http import dump_given
from controller.api.invoke import merged_args
from controller.api.records import TRIGGER
from controller.invocations import Caller, Invocations, mint_id
from controller.throttles import Throttles
from fallow.core.model import ActivationId, Status
from fallow.infra.clock import unix_ms
from fallow.infra.records import Record, TriggerDoc
from fallow.infra.store import Store


class Firing:
    """Fires triggers, for clients and for alarms. One for the whole controller."""

    def __init__(self, *, store: Store, actions: ActionsCache, invocations: Invocations, throttles: Throttles) -> None:
        self._store = store
        self._throttles = throttles
        self._actions = actions
        self._invocations = invocations

    async def fire(
        self, caller: Caller, name: str, payload: dict[str, Any], headers: dict[str, str] | None = None
    ) -> ActivationId | None:
        """The id of the fire's record; None = no rule is active, so nothing happened and nothing is recorded.

        Returns once every action's call stands in the stream and the record in the store. What keeps a rule's action
        from being invoked stands in the record, and keeps no other from it. `headers` of the request are given to the
        actions. Raises ApiError 404 where there is no such trigger, 503 where the controller is shutting down,
        StoreError; then calls may have been made, and firing again makes them again.
        """
        trigger = await self._store.get_entity(TriggerDoc, caller.namespace, name)
        if trigger is None:
            raise not_found()
        if not any(rule["active"] for rule in trigger.rules.values()):
            return None
        self._invocations.require_accepting()
        fire_id = mint_id()
        fired_unix_ms = unix_ms()
        stored = {item["key"]: item["value"] for item in trigger.parameters}
        args = dump_given({**stored, **({"__ow_headers": headers} if headers else {}), **payload})
        logs = await asyncio.gather(
            *(self._apply(caller, fire_id, rule, what, args) for rule, what in sorted(trigger.rules.items()))
        )
        await self._store.write_records([_record(trigger, caller, fire_id, fired_unix_ms, payload, list(logs))])
        return fire_id

    async def _apply(self, caller: Caller, fire_id: ActivationId, rule: str, what: dict[str, Any], args: bytes) -> str:
        """Invokes one rule's action; the line of the record that says what came of it."""
        names = {"rule": f"{caller.namespace}/{rule}", "action": what["action"]}
        if not what["active"]:
            text = f"Rule '{names['rule']}' is inactive, action '{what['action']}' was not activated."
            return _line({"statusCode": 1, "success": False, "error": text, **names})
        namespace, _, action = what["action"].partition("/")
        try:
            deployed = await self._actions.get(namespace, action, caller.namespace)
            if deployed is None:
                raise not_found()
            quota = await self._throttles.invoke(caller.namespace)
            self._throttles.at_once(caller.namespace, quota)
            self._invocations.admit(deployed)
            call = self._invocations.new(
                deployed, merged_args(deployed, args), caller, blocking=False, cause=str(fire_id)
            )
            await self._invocations.enter(call)
        except ApiError as e:
            return _line({"statusCode": 1, "success": False, "error": e.text, **names})
        return _line({"statusCode": 0, "success": True, "activationId": call.activation.id, **names})


def _line(said: dict[str, Any]) -> str:
    return json.dumps(said, separators=(",", ":"))


def _record(
    trigger: TriggerDoc,
    caller: Caller,
    fire_id: ActivationId,
    fired_unix_ms: int,
    payload: dict[str, Any],
    logs: list[str],
) -> Record:
    return Record(
        activation_id=fire_id,
        namespace=trigger.namespace,
        name=trigger.name,
        version=trigger.version,
        subject=caller.subject,
        attempt=1,
        start_unix_ms=fired_unix_ms,
        end_unix_ms=fired_unix_ms,
        status=Status.SUCCESS,
        result=dump_given(payload),
        logs=logs,
        kind=TRIGGER,
        timeout_ms=0,
        memory_mb=0,
        logs_mb=0,
        concurrency=1,
        wait_ms=None,
        init_ms=None,
        run_ms=None,
        cpu_ms=None,
        transaction_id=caller.transaction_id,
        accepted_unix_ms=fired_unix_ms,
    )
