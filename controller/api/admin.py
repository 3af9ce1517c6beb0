"""The operator's routes under /admin/v1. Whoever gets here has shown the operator's key."""

from __future__ import annotations

import math
from typing import Any

from aiohttp import web

from controller.api import params
from controller.api.errors import ApiError, malformed, not_allowed, not_found, unavailable
from controller.api.http import answer, dump, parse_object, read_body, require_json
from controller.api.why import WhyAnswers
from controller.peers import CommandError, Peers
from controller.view import ClusterInfo
from fallow.core.lifecycle import VmState
from fallow.core.model import VmId
from fallow.infra.records import Identity
from fallow.infra.store import Store, StoreError, StoreUnavailable

_MAX_BODY_BYTES = 64 << 10


class Admin:
    """Answers operator requests. `route` is given the path's parts after /admin/v1."""

    def __init__(self, *, info: ClusterInfo, peers: Peers, store: Store, stories: WhyAnswers) -> None:
        self._info = info
        self._peers = peers
        self._store = store
        self._stories = stories

    async def route(self, request: web.BaseRequest, parts: list[str], transaction: str) -> web.Response:
        body = await self._answer(request, parts)
        return answer(200, dump(body), transaction)

    async def _answer(self, request: web.BaseRequest, parts: list[str]) -> Any:
        match parts:
            case ["status"]:
                _only(request, "GET")
                return self._info.status()
            case ["vms"]:
                _only(request, "GET")
                return self._info.vms()
            case ["vms", vm_id, ("resize" | "evict" | "withdraw") as verb]:
                _only(request, "POST")
                return await self._command(request, VmId(vm_id), verb)
            case ["why", activation_id]:
                _only(request, "GET")
                return await self._stories.tell(activation_id, namespace=None)
            case ["keys"]:
                if request.method == "GET":
                    return {"keys": [_key(identity) for identity in await self._store.list_keys()]}
                _only(request, "PUT", "GET")
                return await self._put_key(request)
            case _:
                raise not_found()

    async def _command(self, request: web.BaseRequest, vm_id: VmId, verb: str) -> dict[str, Any]:
        body = await _body(request)
        cores = _number(body, "cores", least=0.0) if verb == "resize" else None
        if verb == "resize" and cores is None:
            raise malformed("resize needs 'cores', a number.")
        notice_s = _number(body, "notice_s", least=0.0) if verb == "evict" else None
        status = next((s for s in self._info.statuses() if s.info.id == vm_id and s.state is not VmState.LOST), None)
        if status is None:
            raise ApiError(404, f"There is no VM '{vm_id}'.")
        if not status.info.emulated:
            raise ApiError(409, f"VM '{vm_id}' is not emulated: it cannot be resized or evicted from here.")
        try:
            await self._peers.command(vm_id, verb, cores=cores, notice_s=notice_s)
        except CommandError as e:
            raise (ApiError(409, str(e)) if e.refused else unavailable(str(e))) from None
        return {"vm": vm_id, "done": verb}

    async def _put_key(self, request: web.BaseRequest) -> dict[str, str]:
        body = await _body(request)
        namespace, key, subject = body.get("namespace"), body.get("key"), body.get("subject")
        if not isinstance(namespace, str) or not isinstance(key, str):
            raise malformed("a key needs 'namespace' and 'key', both strings.")
        if subject is not None and not isinstance(subject, str):
            raise malformed("'subject' must be a string.")
        try:
            return _key(await self._store.put_key(params.check_namespace(namespace), key, subject))
        except StoreUnavailable:
            raise
        except StoreError as e:
            raise malformed(str(e)) from None


async def _body(request: web.BaseRequest) -> dict[str, Any]:
    raw = await read_body(request, _MAX_BODY_BYTES)
    if raw:
        require_json(request)
    return parse_object(raw)


def _only(request: web.BaseRequest, *methods: str) -> None:
    if request.method not in methods:
        raise not_allowed(*methods)


def _number(body: dict[str, Any], name: str, *, least: float) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
        raise malformed(f"'{name}' must be a number of at least {least:g}.")
    return float(value)


def _key(identity: Identity) -> dict[str, str]:
    return {"namespace": identity.namespace, "subject": identity.subject, "uuid": identity.uuid}
