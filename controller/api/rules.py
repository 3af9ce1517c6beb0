"""Rules: put, get, delete, list, activate and deactivate.

A rule's document names its trigger and action; whether it is active stands in the trigger's, so that a fire needs no
more than that. The two are written one after the other. Where a controller dies between them, the rule is there and
inactive, or the trigger still names a rule that was deleted; the next PUT, POST or DELETE of the rule sets that right.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from controller.actions_cache import ActionsCache
from controller.api import params
from controller.api.bodies import Bodies
from controller.api.entity import (
    CONCURRENT,
    Common,
    put_merged,
    read_common,
    refuse_other_collection,
    shown,
)
from controller.api.errors import ApiError, forbidden, malformed, not_found
from controller.api.http import Call, answer, dump, parse_object
from controller.api.triggers import MAX_BODY_BYTES, reference
from fallow.infra.clock import unix_ms
from fallow.infra.records import RuleDoc, TriggerDoc
from fallow.infra.store import Conflict, Store

NOT_VALID = "rule requires a valid trigger and a valid action"
NO_TRIGGER = "Only rules with existing triggers can be activated"
NOT_QUALIFIED = "The fully qualified name of the entity must contain at least the namespace and the name of the entity."
_LONGEST_PAUSE_S = 0.05
_LINK_TRIES = 50  # rules of one trigger may be put at once, each of them changing its document

Links = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RulePatch:
    """What a PUT gives: "namespace/[package/]name", None = not given."""

    common: Common
    trigger: str | None
    action: str | None


class Rules:
    """The routes of the collection."""

    def __init__(self, *, store: Store, actions: ActionsCache, bodies: Bodies) -> None:
        self._store = store
        self._actions = actions
        self._bodies = bodies

    async def list(self, request: Call) -> web.Response:
        page = params.page(request.query, "rules")
        if page.count:
            count = await self._store.count_entities(RuleDoc, request.namespace)
            return answer(200, dump({"rules": page.counted(count)}), request.transaction_id)
        docs = await self._store.list_entities(RuleDoc, request.namespace, skip=page.skip, limit=page.limit)
        return answer(200, dump([_item(doc) for doc in docs]), request.transaction_id)

    async def get(self, request: Call, name: str) -> web.Response:
        doc = await self._standing(request.namespace, name)
        return answer(200, dump(_entity(doc, active=await self._is_active(doc))), request.transaction_id)

    async def put(self, request: Call, name: str) -> web.Response:
        """A new rule is active; one that stands stays as active as it is, also on another trigger."""
        namespace = request.namespace
        overwrite = params.flag(request.query, "overwrite", False)
        patch = await self._bodies.read(
            request.request, lambda body: _read(parse_object(body), namespace), MAX_BODY_BYTES
        )
        before: list[RuleDoc | None] = []

        async def merge(old: RuleDoc | None) -> RuleDoc:
            doc = _merged(old, patch, namespace=namespace, name=name, now_unix_ms=unix_ms())
            await self._check(doc)
            before.append(old)
            return doc

        doc = await put_merged(self._store, RuleDoc, namespace, name, merge, overwrite=overwrite)
        old = before[-1]
        active = True if old is None else await self._is_active(old)
        if old is not None and old.trigger != doc.trigger:
            await self._unlink(old)
        try:
            if not await self._link(doc, active=active):
                active = False  # its trigger was deleted meanwhile
        except ApiError:
            if old is None:  # refused as a whole: a repetition must not find it made
                await self._store.delete_entity(RuleDoc, namespace, name, expect=doc.revision)
            raise
        return answer(200, dump(_entity(doc, active=active)), request.transaction_id)

    async def set_status(self, request: Call, name: str) -> web.Response:
        body = await self._bodies.read(request.request, parse_object, MAX_BODY_BYTES)
        status = body.get("status")
        if status not in ("active", "inactive"):
            text = "status must be 'active' or 'inactive'."
            raise malformed(text if "status" in body else f"{text} It is missing.")
        doc = await self._standing(request.namespace, name)
        active = status == "active"
        if not await self._link(doc, active=active) and active:
            raise ApiError(404, NO_TRIGGER)
        return answer(200, dump(_entity(doc, active=active)), request.transaction_id)

    async def delete(self, request: Call, name: str) -> web.Response:
        doc = await self._standing(request.namespace, name)
        await self._unlink(doc)
        deleted = await self._store.delete_entity(RuleDoc, request.namespace, name)
        if deleted is None:
            raise not_found()
        return answer(200, dump(_entity(deleted, active=False)), request.transaction_id)

    async def _standing(self, namespace: str, name: str) -> RuleDoc:
        doc = await self._store.get_entity(RuleDoc, namespace, name)
        if doc is None:
            await refuse_other_collection(self._store, namespace, name, "rules")
            raise not_found()
        return doc

    async def _check(self, doc: RuleDoc) -> None:
        """Raises ApiError 400 where trigger or action are not there, 403 where they are not the namespace's to use."""
        trigger_namespace, _, trigger = doc.trigger.partition("/")
        if trigger_namespace != doc.namespace:
            raise forbidden(doc.trigger)
        if await self._store.get_entity(TriggerDoc, trigger_namespace, trigger) is None:
            raise ApiError(400, f"trigger /{doc.trigger} does not exist")
        action_namespace, _, action = doc.action.partition("/")
        if await self._actions.get(action_namespace, action, doc.namespace) is None:
            raise ApiError(400, f"action /{doc.action} does not exist")

    # ---- what the trigger's document says ----------------------------------------------------------------------------

    async def _is_active(self, doc: RuleDoc) -> bool:
        namespace, _, trigger = doc.trigger.partition("/")
        found = await self._store.get_entity(TriggerDoc, namespace, trigger)
        link = None if found is None else found.rules.get(doc.name)
        return link is not None and bool(link["active"])

    async def _link(self, doc: RuleDoc, *, active: bool) -> bool:
        """False = the trigger is not there."""
        link = {"action": doc.action, "active": active}
        return await self._change(doc, lambda rules: {**rules, doc.name: link})

    async def _unlink(self, doc: RuleDoc) -> None:
        await self._change(doc, lambda rules: {name: link for name, link in rules.items() if name != doc.name})

    async def _change(self, doc: RuleDoc, change: Callable[[Links], Links]) -> bool:
        namespace, _, name = doc.trigger.partition("/")
        for _ in range(_LINK_TRIES):
            trigger = await self._store.get_entity(TriggerDoc, namespace, name)
            if trigger is None:
                return False
            rules = change(trigger.rules)
            if rules == trigger.rules:
                return True
            try:
                await self._store.put_entity(replace(trigger, rules=rules), expect=trigger.revision)
            except Conflict:
                await asyncio.sleep(random.uniform(0, _LONGEST_PAUSE_S))  # else those that met meet again
                continue
            return True
        raise ApiError(409, CONCURRENT)


def _read(body: dict[str, Any], namespace: str) -> RulePatch:
    return RulePatch(
        common=read_common(body),
        trigger=_qualified(body.get("trigger"), namespace, most=2),
        action=_qualified(body.get("action"), namespace, most=3),
    )


def _qualified(value: Any, namespace: str, *, most: int) -> str | None:
    """ "/_/name" or {"path", "name"} as "namespace/[package/]name". Raises ApiError 400."""
    if value is None:
        return None
    if isinstance(value, dict):
        path, name = value.get("path"), value.get("name")
        value = f"/{path}/{name}" if isinstance(path, str) and isinstance(name, str) else None
    if not isinstance(value, str):
        raise malformed(NOT_VALID)
    parts = value.removeprefix("/").split("/")
    if not 2 <= len(parts) <= most:
        raise malformed(NOT_QUALIFIED)
    own = namespace if parts[0] == "_" else params.check_namespace(parts[0])
    return "/".join([own, *map(params.check_name, parts[1:])])


def _merged(old: RuleDoc | None, patch: RulePatch, *, namespace: str, name: str, now_unix_ms: int) -> RuleDoc:
    """The document after a PUT. Raises ApiError 400 for a new rule without trigger or action."""
    trigger = patch.trigger or (old.trigger if old else None)
    action = patch.action or (old.action if old else None)
    if trigger is None or action is None:
        raise ApiError(400, NOT_VALID)
    given = patch.common
    annotations = old.annotations if old and given.annotations is None else given.annotations
    return RuleDoc(
        namespace=namespace,
        name=name,
        version=given.next_version(old.version if old else None),
        revision=old.revision if old else "",
        updated_unix_ms=now_unix_ms,
        trigger=trigger,
        action=action,
        publish=bool(old and old.publish) if given.publish is None else given.publish,
        annotations=annotations or [],
    )


def _item(doc: RuleDoc) -> dict[str, Any]:
    """The rule as lists show it: without its status."""
    return {**shown(doc), "trigger": reference(doc.trigger), "action": reference(doc.action)}


def _entity(doc: RuleDoc, *, active: bool) -> dict[str, Any]:
    return {**_item(doc), "status": "active" if active else "inactive"}
