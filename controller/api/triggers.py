"""Triggers: put, get, delete, list, fire."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from controller.api import params
from controller.api.bodies import Bodies
from controller.api.entity import (
    Common,
    annotation,
    put_merged,
    read_common,
    refuse_other_collection,
    shown,
)
from controller.api.errors import ApiError, not_found
from controller.api.http import CORS, Call, answer, dump, parse_object, read_body, require_json
from controller.api.invoke import MAX_ARGS_BYTES, accepted, caller_of
from controller.firing import Firing
from controller.throttles import Throttles
from fallow.infra.clock import unix_ms
from fallow.infra.records import TriggerDoc
from fallow.infra.store import Store

MAX_BODY_BYTES = 8 << 20  # parameters and annotations, however they are written
BAD_FEED = "Feed name is not valid"
_PRIVATE_HEADERS = frozenset({"authorization", "cookie"})  # not for an action, which may be another namespace's


class Triggers:
    """The routes of the collection."""

    def __init__(self, *, store: Store, bodies: Bodies, firing: Firing, throttles: Throttles) -> None:
        self._store = store
        self._bodies = bodies
        self._firing = firing
        self._throttles = throttles

    async def list(self, request: Call) -> web.Response:
        page = params.page(request.query, "triggers")
        if page.count:
            count = await self._store.count_entities(TriggerDoc, request.namespace)
            return answer(200, dump({"triggers": page.counted(count)}), request.transaction_id)
        docs = await self._store.list_entities(TriggerDoc, request.namespace, skip=page.skip, limit=page.limit)
        return answer(200, dump([shown(doc) for doc in docs]), request.transaction_id)

    async def get(self, request: Call, name: str) -> web.Response:
        doc = await self._store.get_entity(TriggerDoc, request.namespace, name)
        if doc is None:
            await refuse_other_collection(self._store, request.namespace, name, "triggers")
            raise not_found()
        return answer(200, dump(trigger_entity(doc)), request.transaction_id)

    async def put(self, request: Call, name: str) -> web.Response:
        overwrite = params.flag(request.query, "overwrite", False)
        given = await self._bodies.read(request.request, _read, MAX_BODY_BYTES)

        async def merge(old: TriggerDoc | None) -> TriggerDoc:
            return merged_trigger(old, given, namespace=request.namespace, name=name, now_unix_ms=unix_ms())

        doc = await put_merged(self._store, TriggerDoc, request.namespace, name, merge, overwrite=overwrite)
        return answer(200, dump(trigger_entity(doc)), request.transaction_id)

    async def delete(self, request: Call, name: str) -> web.Response:
        """Its rules stay, and are inactive."""
        await refuse_other_collection(self._store, request.namespace, name, "triggers")
        doc = await self._store.delete_entity(TriggerDoc, request.namespace, name)
        if doc is None:
            raise not_found()
        return answer(200, dump(trigger_entity(doc)), request.transaction_id)

    async def fire(self, request: Call, name: str) -> web.Response:
        """202 with the fire's id, or 204 where no rule is active."""
        body = await read_body(request.request, MAX_ARGS_BYTES)
        if body:
            require_json(request.request)
        payload = parse_object(body)
        await refuse_other_collection(self._store, request.namespace, name, "triggers")
        await self._throttles.fire(request.namespace)
        headers = {
            key.lower(): value for key, value in request.request.headers.items() if key.lower() not in _PRIVATE_HEADERS
        }
        fire_id = await self._firing.fire(caller_of(request, with_key=True), name, payload, headers)
        if fire_id is None:
            return web.Response(status=204, headers={**CORS, "X-Request-ID": request.transaction_id})
        return accepted(request.transaction_id, fire_id)


def _read(body: bytes) -> Common:
    given = read_common(parse_object(body))
    if given.annotations is not None and not _is_feed(annotation(given.annotations, "feed")):
        raise ApiError(400, BAD_FEED)
    return given


def _is_feed(value: Any) -> bool:
    """A name of one to three parts, or nothing at all."""
    if value is None:
        return True
    if not isinstance(value, str):
        return False
    parts = value.removeprefix("/").split("/")
    try:
        return len(parts) <= 3 and all(map(params.check_name, parts))
    except ApiError:
        return False


def merged_trigger(old: TriggerDoc | None, given: Common, *, namespace: str, name: str, now_unix_ms: int) -> TriggerDoc:
    """The document after a PUT: given fields replace, the patch version is bumped, rules stay."""
    before = old or TriggerDoc(namespace=namespace, name=name, version="", revision="", updated_unix_ms=0)
    return TriggerDoc(
        namespace=namespace,
        name=name,
        version=given.next_version(old.version if old else None),
        revision=before.revision,
        updated_unix_ms=now_unix_ms,
        publish=before.publish if given.publish is None else given.publish,
        parameters=before.parameters if given.parameters is None else given.parameters,
        annotations=before.annotations if given.annotations is None else given.annotations,
        rules=before.rules,
    )


def trigger_entity(doc: TriggerDoc) -> dict[str, Any]:
    """The trigger as GET, PUT and DELETE show it; `rules` only where there are any."""
    entity = {**shown(doc), "parameters": doc.parameters, "limits": {}}
    if doc.rules:
        entity["rules"] = {
            f"{doc.namespace}/{rule}": {
                "action": reference(what["action"]),
                "status": "active" if what["active"] else "inactive",
            }
            for rule, what in doc.rules.items()
        }
    return entity


def reference(qualified: str) -> dict[str, str]:
    """ "namespace/[package/]name" as rules show it."""
    path, _, name = qualified.rpartition("/")
    return {"path": path, "name": name}
