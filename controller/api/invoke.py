"""POST on an action: arguments, admission, the wait for an answer, and what is said when the wait is over."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import assert_never

from aiohttp import web

from controller.actions_cache import ActionsCache, Deployed
from controller.api import params
from controller.api.errors import (
    STOPPING,
    ApiError,
    not_found,
    throttled,
    unavailable,
)
from controller.api.http import Call, answer, dump, dump_given, parse_object, read_body, refusal, require_json
from controller.api.records import HTTP_STATUS, is_array, record_json
from controller.auth import plain_key
from controller.dispatcher import Dispatcher
from controller.ledger import Answered, Elsewhere, Expired, InFlight, Ledger, Refused, Reply
from controller.stats import Stats
from fallow.core.model import ActionSpec, Activation, ActivationId, ControllerId, RefusalReason, Status
from fallow.infra.clock import mono_s, unix_ms
from fallow.infra.records import Record, StreamEntry
from fallow.infra.store import Accepted, AlreadyRecorded, Store, StoreError, StreamFull

MAX_ARGS_BYTES = 1 << 20
FORBIDDEN_PARAMETERS = "Request defines parameters that are not allowed (e.g., reserved properties)."
OVERFULL = "Too many requests are in flight on this controller. Try again shortly."
NOT_ENTERED = (
    "The wait is over, but the invocation could not be entered into the durable queue. It may leave no record:"
)
STREAM_FULL = "The queue of accepted invocations is full. Try again shortly."
EXPIRY_GRACE_S = 5.0  # after a client's wait: so long is tried to enter the call into the stream before giving up
NO_VM_RETRY_S = 5.0  # a larger VM may come, but not within a second
_ENTER_RETRY_S = 0.25
_MAX_TRACEPARENT = 64
_ID_HEADER = "X-Openwhisk-Activation-Id"


class Invoker:
    """Takes calls from the API. One for the whole controller."""

    def __init__(
        self,
        *,
        controller_id: ControllerId,
        actions: ActionsCache,
        ledger: Ledger,
        dispatcher: Dispatcher,
        store: Store,
        stats: Stats,
        accepting: Callable[[], bool],
    ) -> None:
        self._controller_id = controller_id
        self._actions = actions
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._store = store
        self._stats = stats
        self._accepting = accepting

    async def invoke(self, request: Call, name: str) -> web.Response:
        """The answer. A call that is turned away leaves a log line, as one that ends does."""
        try:
            return await self._invoke(request, name)
        except ApiError as e:
            if e.status in (429, 503):
                self._turned_away(request, name, e.text, e.headers.get(_ID_HEADER, ""))
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
        body = await read_body(request.request, MAX_ARGS_BYTES)
        blocking = params.flag(request.query, "blocking", False)
        wait_s = params.blocking_wait_s(request.query) if blocking else 0.0
        result_only = params.flag(request.query, "result", False)
        if body:
            require_json(request.request)
        deployed = await self._actions.get(request.namespace, name)
        if deployed is None:
            raise not_found()
        args = merged_args(deployed, body)
        if not self._accepting():
            raise unavailable(STOPPING)
        self._require_large_enough_vm(deployed.spec)
        call = self._in_flight(request, deployed, args, blocking)
        if not blocking:
            return await self._enter(request, call)
        if not self._ledger.has_room(len(args)):
            raise unavailable(OVERFULL)
        reply = await self._run(call, wait_s)
        return self._answer(request, call, reply, result_only)

    def _require_large_enough_vm(self, spec: ActionSpec) -> None:
        """Raises ApiError 503 for an action that no VM of the cluster holds, however long it waits."""
        largest_mb = self._dispatcher.too_large(spec.memory_mb)
        if largest_mb is not None:
            self._stats.count_refusal(RefusalReason.TOO_LARGE)
            text = f"The action's memory limit is {spec.memory_mb} MB, and the largest VM has {largest_mb:g} MB."
            raise unavailable(text, NO_VM_RETRY_S)

    def _in_flight(self, request: Call, deployed: Deployed, args: bytes, blocking: bool) -> InFlight:
        activation_id = ActivationId(os.urandom(16).hex())
        key = plain_key(request.auth_header) if deployed.spec.provide_api_key else ""
        now_unix_ms = unix_ms()
        return InFlight(
            activation=Activation(
                id=activation_id,
                action=deployed.spec,
                blocking=blocking,
                payload_bytes=len(args),
                accepted_unix_ms=now_unix_ms,
                arrived_unix_ms=now_unix_ms,
            ),
            action=deployed.encoded,
            args=args,
            subject=request.identity.subject,
            transaction_id=request.transaction_id,
            accepted_unix_ms=now_unix_ms,
            accepted_mono_s=mono_s(),
            traceparent=_traceparent(request),
            api_key=key,
        )

    # ---- not waiting -------------------------------------------------------------------------------------------------

    async def _enter(self, request: Call, call: InFlight) -> web.Response:
        """202 only once the call stands in the stream; a controller reads it from there."""
        accepted = await self._store.accept(self._entry(call))
        if isinstance(accepted, StreamFull):
            raise throttled(STREAM_FULL, 2.0)
        return _accepted(request, call)

    def _entry(self, call: InFlight, *, running_attempt: int = 0, controller_id: str = "") -> StreamEntry:
        """`controller_id` names the controller that has the call already: whoever reads the entry leaves it to that."""
        return StreamEntry(
            activation_id=call.activation.id,
            action=call.activation.action,
            args=call.args,
            subject=call.subject,
            transaction_id=call.transaction_id,
            accepted_unix_ms=call.accepted_unix_ms,
            traceparent=call.traceparent,
            cause=call.cause,
            running_attempt=running_attempt,
            controller_id=controller_id,
            api_key=call.api_key,
        )

    # ---- waiting -----------------------------------------------------------------------------------------------------

    async def _run(self, call: InFlight, wait_s: float) -> Reply:
        """The reply, or Expired once the call stands in the stream. A client that leaves does not end its call."""
        reply = await self._reply(call, wait_s, self._dispatcher.arrive)
        if not isinstance(reply, Expired):
            return reply
        give_up_mono_s = mono_s() + EXPIRY_GRACE_S
        while True:
            entered = await self._make_durable(call)
            if entered is not None:
                return entered
            if mono_s() >= give_up_mono_s:
                raise ApiError(
                    503, f"{NOT_ENTERED} {call.activation.id}.", {"Retry-After": "1", _ID_HEADER: call.activation.id}
                )
            reply = await self._reply(call, _ENTER_RETRY_S, None)
            if not isinstance(reply, Expired):
                return reply

    async def _reply(self, call: InFlight, wait_s: float, start: Callable[[InFlight], None] | None) -> Reply:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Reply] = loop.create_future()
        call.waiter = waiter
        if start is not None:
            start(call)
        elif call.answer is not None:
            return call.answer
        timer = loop.call_later(wait_s, _expire, waiter)
        try:
            reply = await waiter
        finally:
            timer.cancel()
        return call.answer or reply  # the answer may have come in the very turn in which the wait expired

    async def _make_durable(self, call: InFlight) -> Reply | None:
        """Enters a running call into the stream; None = not possible now. It may end while this is being done."""
        activation_id = call.activation.id
        while True:
            running = self._dispatcher.running_attempt(activation_id)
            entry = self._entry(call, running_attempt=running, controller_id=self._controller_id)
            try:
                accepted = await self._store.accept(entry)
            except StoreError:
                return call.answer
            match accepted:
                case AlreadyRecorded():
                    return Answered(record=accepted.record)
                case StreamFull():
                    return call.answer
                case Accepted():
                    if isinstance(call.answer, Answered):
                        return call.answer
                    if self._dispatcher.running_attempt(activation_id) > running:
                        continue  # started meanwhile: without a fence whoever claims the entry would start it again
                    # Where it was refused meanwhile, the entry stands all the same: it is read and run like any other.
                    self._dispatcher.made_durable(activation_id, running)
                    return Expired()
                case _:
                    assert_never(accepted)

    def _answer(self, request: Call, call: InFlight, reply: Reply, result_only: bool) -> web.Response:
        match reply:
            case Answered():
                return ended(request, reply.record, result_only)
            case Expired() | Elsewhere():
                return _accepted(request, call)
            case Refused():
                text = f"The invocation could not be placed: {reply.reason.value}."
                if reply.reason is RefusalReason.TOO_LARGE:
                    text += f" The limit is {call.activation.action.memory_mb} MB."
                overloaded = reply.reason is RefusalReason.OVERLOADED
                error = (throttled if overloaded else unavailable)(text, reply.retry_after_s)
                return refusal(error, request.transaction_id)
            case _:
                assert_never(reply)


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


def ended(request: Call, record: Record, result_only: bool) -> web.Response:
    """The answer to a blocking call that ended. An array stands alone, as clients of OpenWhisk expect."""
    bare = result_only or (record.status == Status.SUCCESS and is_array(record.result))
    body = record.result if bare else record_json(record)
    headers = {_ID_HEADER: record.activation_id}
    return answer(HTTP_STATUS[record.status], body, request.transaction_id, headers)


def _expire(waiter: asyncio.Future[Reply]) -> None:
    if not waiter.done():
        waiter.set_result(Expired())


def _accepted(request: Call, call: InFlight) -> web.Response:
    activation_id = call.activation.id
    body = dump({"activationId": activation_id})
    return answer(202, body, request.transaction_id, {_ID_HEADER: activation_id})
