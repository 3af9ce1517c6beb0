"""The operator's routes under /admin/v1. Whoever gets here has shown the operator's key."""

from __future__ import annotations

import math
from typing import Any

from aiohttp import web

from controller.api.errors import ApiError, malformed, not_found, unavailable
from controller.api.http import answer, dump, only, read_object
from controller.api.tenants import Tenants
from controller.api.why import WhyAnswers
from controller.peers import CommandError, Peers
from controller.view import ClusterInfo
from fallow.core.lifecycle import VmState
from fallow.core.model import VmId


class Admin:
    """Answers operator requests. `route` is given the path's parts after /admin/v1."""

    def __init__(self, *, info: ClusterInfo, peers: Peers, tenants: Tenants, stories: WhyAnswers) -> None:
        self._info = info
        self._peers = peers
        self._tenants = tenants
        self._stories = stories

    async def route(self, request: web.BaseRequest, parts: list[str], transaction: str) -> web.Response:
        body = await self._answer(request, parts)
        return answer(200, dump(body), transaction)

    async def _answer(self, request: web.BaseRequest, parts: list[str]) -> Any:
        match parts:
            case ["status"]:
                only(request, "GET")
                return self._info.status()
            case ["vms"]:
                only(request, "GET")
                return self._info.vms()
            case ["vms", vm_id, ("resize" | "evict" | "withdraw") as verb]:
                only(request, "POST")
                return await self._command(request, VmId(vm_id), verb)
            case ["why", activation_id]:
                only(request, "GET")
                return await self._stories.tell(activation_id, namespace=None)
            case ["keys"]:
                return await self._tenants.keys(request, None)
            case ["keys", uuid]:
                return await self._tenants.keys(request, uuid)
            case ["limits", namespace]:
                return await self._tenants.limits(request, namespace)
            case _:
                raise not_found()

    async def _command(self, request: web.BaseRequest, vm_id: VmId, verb: str) -> dict[str, Any]:
        body = await read_object(request)
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


def _number(body: dict[str, Any], name: str, *, least: float) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
        raise malformed(f"'{name}' must be a number of at least {least:g}.")
    return float(value)
