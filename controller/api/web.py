"""Web actions: actions that answer HTTP requests of anybody, on their owner's behalf."""

from __future__ import annotations

import hmac
import json
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from controller.actions_cache import ActionsCache, Deployed
from controller.api.errors import AUTH_CHALLENGE, BAD_AUTH, NO_AUTH, ApiError, not_allowed, not_found
from controller.api.http import CORS, dump, dump_given, read_body
from controller.api.invoke import MAX_ARGS_BYTES, not_placed
from controller.api.params import MAX_BLOCKING_MS
from controller.api.web_context import WebRequest, arguments, raw_arguments
from controller.api.web_projection import EXTENSIONS, Extension, Projection, accepts, project
from controller.auth import Authenticator
from controller.invocations import ID_HEADER, Caller, Invocations
from controller.ledger import Answered, Refused
from controller.throttles import Throttles
from fallow.core.model import Status
from fallow.infra.log import get_logger
from fallow.infra.records import Record
from fallow.infra.store import StoreError

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
DEFAULT_PACKAGE = "default"  # in the address of an action that is in none
FAILED = "There was an error processing your request."
NOT_READY = "Response not yet ready."
SECRET_HEADER = "X-Require-Whisk-Auth"
_CORS_METHODS = "OPTIONS, GET, DELETE, POST, PUT, HEAD, PATCH"
_MAX_TRACEPARENT = 64

_log = get_logger("controller.web")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """What a path names."""

    namespace: str
    action: str  # "[package/]action"
    extension: Extension
    rest: str  # what follows, decoded


class WebActions:
    """The route under /api/v1/web. The owner's key is not known in plain: a web action is never given one."""

    def __init__(
        self, *, auth: Authenticator, actions: ActionsCache, invocations: Invocations, throttles: Throttles
    ) -> None:
        self._auth = auth
        self._actions = actions
        self._invocations = invocations
        self._throttles = throttles

    async def route(self, request: web.BaseRequest, parts: Sequence[str], query: str, transaction: str) -> web.Response:
        """`parts` of the path after /api/v1/web, still encoded. Every refusal is an answer, with the CORS headers."""
        cors = _cors(request)
        try:
            if request.method not in METHODS:
                raise not_allowed(*METHODS)
            address = _address(parts)
            deployed = await self._exported(address)
            own_options = _holds(deployed.annotations.get("web-custom-options"))
            if own_options:
                cors = {}
            elif request.method == "OPTIONS":
                return web.Response(headers={**cors, "X-Request-ID": transaction})
            wanted = deployed.annotations.get("require-whisk-auth")
            user = await self._user(request, needed=wanted is True)
            if not (own_options and request.method == "OPTIONS"):
                _require_secret(request, wanted, user)
            return await self._answer(request, address, deployed, user, query, transaction, cors)
        except ApiError as e:
            return _refusal(e, transaction, cors)

    async def _exported(self, address: Address) -> Deployed:
        """Raises ApiError 404, whatever it is that keeps the action from being one for everybody."""
        try:
            deployed = await self._actions.get(address.namespace, address.action)
        except ApiError:
            raise not_found() from None
        if deployed is None or not _holds(deployed.annotations.get("web-export")):
            raise not_found()
        return deployed

    async def _user(self, request: web.BaseRequest, *, needed: bool) -> str:
        """The namespace of valid credentials; "" where there are none, or wrong ones.

        Raises StoreError where they cannot be checked and the action is not open to everybody.
        """
        header = request.headers.get("Authorization")
        if not header:
            return ""
        try:
            return (await self._auth.identify(header)).namespace
        except ApiError:
            return ""
        except StoreError as e:
            if needed:
                raise
            _log.warning("credentials of a web request not checked", error=str(e))
            return ""

    async def _answer(
        self,
        request: web.BaseRequest,
        address: Address,
        deployed: Deployed,
        user: str,
        query: str,
        transaction: str,
        cors: dict[str, str],
    ) -> web.Response:
        body = await read_body(request, MAX_ARGS_BYTES)
        seen = WebRequest(
            method=request.method,
            headers=_told(request, strip_key=user not in ("", address.namespace)),
            path=address.rest,
            query=query,
            body=body,
            user=user,
        )
        raw = _holds(deployed.annotations.get("raw-http"))
        given = raw_arguments(seen) if raw else arguments(seen, deployed.final)
        args = dump_given({**deployed.parameters, **given})
        quota = await self._throttles.invoke(address.namespace)
        self._invocations.admit(deployed)
        self._throttles.at_once(address.namespace, quota)
        caller = Caller(
            namespace=address.namespace,
            subject=address.namespace,
            transaction_id=transaction,
            traceparent=request.headers.get("traceparent", "")[:_MAX_TRACEPARENT],
        )
        call = self._invocations.new(deployed, args, caller, blocking=True)
        reply = await self._invocations.run(call, MAX_BLOCKING_MS / 1000)
        cors = {**cors, ID_HEADER: call.activation.id}
        match reply:
            case Answered():
                try:
                    return _shown(request, address.extension, reply.record, transaction, cors)
                except ApiError as e:
                    return _refusal(e, transaction, cors)
            case Refused():
                raise not_placed(call, reply)
            case _:
                return _refusal(ApiError(202, NOT_READY), transaction, cors)


def _address(parts: Sequence[str]) -> Address:
    """Raises ApiError 404 for a path that names no action."""
    if len(parts) < 3:
        raise not_found()
    namespace, package, last = (urllib.parse.unquote(part) for part in parts[:3])
    name, dot, ending = last.rpartition(".")
    if not (dot and ending in EXTENSIONS):
        name, ending = last, "http"
    if not (namespace and package and name) or "/" in namespace + package + name:
        raise not_found()
    rest = "".join(f"/{urllib.parse.unquote(part)}" for part in parts[3:])
    action = name if package == DEFAULT_PACKAGE else f"{package}/{name}"
    return Address(namespace=namespace, action=action, extension=EXTENSIONS[ending], rest=rest)


def _told(request: web.BaseRequest, *, strip_key: bool) -> dict[str, str]:
    """The headers as the action sees them: a key that opens another namespace than its own is not for it."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    if strip_key:
        headers.pop("authorization", None)
    return headers


def _holds(value: Any) -> bool:
    return value is True


def _require_secret(request: web.BaseRequest, wanted: Any, user: str) -> None:
    """Raises ApiError 401 where the action wants credentials, or a secret of its own, that the request has not."""
    if wanted is True:
        if not user:
            given = "Authorization" in request.headers
            raise ApiError(401, BAD_AUTH if given else NO_AUTH, AUTH_CHALLENGE)
    elif isinstance(wanted, str | int | float) and not isinstance(wanted, bool):
        given_secret = request.headers.get(SECRET_HEADER)
        if given_secret is None or not _same(given_secret, str(wanted)):
            raise ApiError(401, BAD_AUTH, AUTH_CHALLENGE)
    elif wanted not in (None, False):  # what asks for something nobody can give is not open to everybody
        raise ApiError(401, BAD_AUTH, AUTH_CHALLENGE)


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode("utf-8", "replace"))


def _shown(
    request: web.BaseRequest, extension: Extension, record: Record, transaction: str, cors: dict[str, str]
) -> web.Response:
    if record.status not in (Status.SUCCESS, Status.APPLICATION_ERROR):
        raise ApiError(400, FAILED)
    try:
        result = json.loads(record.result or b"{}")
        shown = project(extension, result, error=record.status == Status.APPLICATION_ERROR)
    except (RecursionError, ValueError):  # JSON that no Python can hold: depth, or a number of thousands of digits
        raise ApiError(400, FAILED) from None
    if extension.show is not EXTENSIONS["http"].show and not accepts(
        request.headers.get("Accept", ""), extension.media_type
    ):
        text = f"Resource representation is only available with these types:\n{extension.media_type}"
        shown = replace(shown, status=406, body=text.encode(), content_type="text/plain; charset=UTF-8")
    return _response(shown, transaction, cors)


def _response(shown: Projection, transaction: str, cors: dict[str, str]) -> web.Response:
    """The platform's own headers, and the action's over those of CORS."""
    own = {name.lower() for name, _ in shown.headers}
    headers = CIMultiDict({name: value for name, value in cors.items() if name.lower() not in own})
    for name, value in shown.headers:
        headers.add(name, value)
    headers["X-Request-ID"] = transaction
    if shown.content_type is None:
        return web.Response(status=shown.status, headers=headers)
    headers["Content-Type"] = shown.content_type
    return web.Response(status=shown.status, body=shown.body, headers=headers)


def _refusal(error: ApiError, transaction: str, cors: dict[str, str]) -> web.Response:
    body = dump({"error": error.text, "code": transaction})
    headers = {**cors, **error.headers, "X-Request-ID": transaction, "Content-Type": "application/json"}
    return web.Response(status=error.status, body=body, headers=headers)


def _cors(request: web.BaseRequest) -> dict[str, str]:
    asked = request.headers.get("Access-Control-Request-Headers")
    return {
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Allow-Methods": _CORS_METHODS,
        "Access-Control-Allow-Headers": asked or CORS["Access-Control-Allow-Headers"],
    }
