"""POST on an action: arguments, and what is said when the wait is over."""

from __future__ import annotations

from typing import assert_never

from aiohttp import web

from controller.actions_cache import ActionsCache, Deployed
from controller.api import params
from controller.api.errors import ApiError, throttled, unavailable
from controller.api.http import Call, answer, dump, dump_given, parse_object, read_body, refusal, require_json
from controller.api.records import HTTP_STATUS, is_array, record_json
from controller.auth import plain_key
from controller.invocations import ID_HEADER, Caller, Invocations
from controller.ledger import Answered, Elsewhere, Expired, InFlight, Refused, Reply
from controller.stats import Stats
from controller.throttles import Throttles
from fallow.core.model import RefusalReason, Status
from fallow.infra.records import Record
from fallow.infra.store import StoreError

MAX_ARGS_BYTES = 1 << 20
FORBIDDEN_PARAMETERS = "Request defines parameters that are not allowed (e.g., reserved properties)."
_MAX_TRACEPARENT = 64


class Invoke:
    """The route."""

    def __init__(self, *, actions: ActionsCache, invocations: Invocations, throttles: Throttles, stats: Stats) -> None:
        self._actions = actions
        self._invocations = invocations
        self._throttles = throttles
        self._stats = stats

    async def invoke(self, request: Call, name: str) -> web.Response:
        """The answer. A call that is turned away leaves a log line, as one that ends does."""
        try:
            return await self._invoke(request, name)
        except ApiError as e:
            if e.status in (429, 503):
                self._turned_away(request, name, e.text, e.headers.get(ID_HEADER, ""))
            raise
        except StoreError as e:
            self._turned_away(request, name, str(e), "")
            raise

    def _turned_away(self, request: Call, name: str, reason: str, activation_id: str) -> None:
        self._stats.turned_away(
            f"{request.namespace}/{name}",
            reason,
            transaction_id=request.transaction_id,
            traceparent=_traceparent(request),
            activation_id=activation_id,
        )

    async def _invoke(self, request: Call, name: str) -> web.Response:
        quota = await self._throttles.invoke(request.identity.namespace)
        body = await read_body(request.request, MAX_ARGS_BYTES)
        blocking = params.flag(request.query, "blocking", False)
        wait_s = params.blocking_wait_s(request.query) if blocking else 0.0
        result_only = params.flag(request.query, "result", False)
        if body:
            require_json(request.request)
        deployed = await self._actions.get(request.namespace, name, request.identity.namespace)
        if deployed is None:
            raise await self._actions.missing(request.namespace, name)
        args = merged_args(deployed, body)
        self._throttles.at_once(request.identity.namespace, quota)
        self._invocations.admit(deployed)
        with_key = deployed.spec.provide_api_key or bool(deployed.composition)
        call = self._invocations.new(deployed, args, caller_of(request, with_key=with_key), blocking=blocking)
        if not blocking:
            await self._invocations.enter(call)
            return accepted(request.transaction_id, call.activation.id)
        return _answer(request, call, await self._invocations.run(call, wait_s), result_only)


def caller_of(request: Call, *, with_key: bool) -> Caller:
    """Whoever sent the request; `with_key` where the call may be given the caller's key."""
    return Caller(
        namespace=request.identity.namespace,
        subject=request.identity.subject,
        transaction_id=request.transaction_id,
        api_key=plain_key(request.auth_header) if with_key else "",
        traceparent=_traceparent(request),
    )


def _traceparent(request: Call) -> str:
    return request.request.headers.get("traceparent", "")[:_MAX_TRACEPARENT]


def merged_args(deployed: Deployed, body: bytes) -> bytes:
    """Stored parameters overlaid by the body; a body that needs no merging passes untouched.

    Raises ApiError 400 for a body that is not an object, or that overrides a final parameter.
    """
    given = parse_object(body)
    if not given:
        return deployed.stored_args
    if deployed.final and not deployed.final.isdisjoint(given):
        raise ApiError(400, FORBIDDEN_PARAMETERS)
    if not deployed.parameters:
        return body
    return dump_given({**deployed.parameters, **given})


def _answer(request: Call, call: InFlight, reply: Reply, result_only: bool) -> web.Response:
    match reply:
        case Answered():
            return ended(request, reply.record, result_only)
        case Expired() | Elsewhere():
            return accepted(request.transaction_id, call.activation.id)
        case Refused():
            return refusal(not_placed(call, reply), request.transaction_id)
        case _:
            assert_never(reply)


def not_placed(call: InFlight, reply: Refused) -> ApiError:
    """429 or 503."""
    text = f"The invocation could not be placed: {reply.reason.value}."
    if reply.reason is RefusalReason.TOO_LARGE:
        text += f" The limit is {call.activation.action.memory_mb} MB."
    overloaded = reply.reason is RefusalReason.OVERLOADED
    return (throttled if overloaded else unavailable)(text, reply.retry_after_s)


def ended(request: Call, record: Record, result_only: bool) -> web.Response:
    """The answer to a blocking call that ended. An array stands alone, as clients of OpenWhisk expect."""
    bare = result_only or (record.status == Status.SUCCESS and is_array(record.result))
    body = record.result if bare else record_json(record)
    headers = {ID_HEADER: record.activation_id}
    return answer(HTTP_STATUS[record.status], body, request.transaction_id, headers)


def accepted(transaction: str, activation_id: str) -> web.Response:
    """202 with the id under which the record will be found."""
    return answer(202, dump({"activationId": activation_id}), transaction, {ID_HEADER: activation_id})
