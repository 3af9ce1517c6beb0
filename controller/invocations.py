"""Calls of actions, whoever makes them: admission, the durable queue, the wait for an answer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from controller.actions_cache import Deployed
from controller.api.errors import STOPPING, ApiError, runtime_gone, throttled, unavailable
from controller.dispatcher import Dispatcher
from controller.ledger import Answered, Elsewhere, Expired, InFlight, Ledger, Refused, Reply
from controller.stats import Stats
from fallow.core.model import ActionSpec, Activation, ActivationId, ControllerId, RefusalReason
from fallow.infra.clock import mono_s, unix_ms
from fallow.infra.records import StreamEntry
from fallow.infra.store import Accepted, AlreadyRecorded, Store, StoreError, StreamFull

ID_HEADER = "X-Openwhisk-Activation-Id"
OVERFULL = "Too many requests are in flight on this controller. Try again shortly."
NOT_ENTERED = (
    "The wait is over, but the invocation could not be entered into the durable queue. It may leave no record:"
)
STREAM_FULL = "The queue of accepted invocations is full. Try again shortly."
EXPIRY_GRACE_S = 5.0  # after a client's wait: so long is tried to enter the call into the stream before giving up
NO_VM_RETRY_S = 5.0  # a larger VM may come, but not within a second
_ENTER_RETRY_S = 0.25
_LONG_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """On whose behalf a call is made."""

    namespace: str
    subject: str
    transaction_id: str
    api_key: str = ""  # "uuid:key" in plain, for actions that are given their caller's; "" = not known
    traceparent: str = ""


def mint_id() -> ActivationId:
    return ActivationId(os.urandom(16).hex())


class Invocations:
    """Takes calls. One for the whole controller."""

    def __init__(
        self,
        *,
        controller_id: ControllerId,
        ledger: Ledger,
        dispatcher: Dispatcher,
        store: Store,
        stats: Stats,
        accepting: Callable[[], bool],
        deprecated_kinds: frozenset[str] = frozenset(),
    ) -> None:
        self._controller_id = controller_id
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._store = store
        self._stats = stats
        self._accepting = accepting
        self._deprecated_kinds = deprecated_kinds

    def require_accepting(self) -> None:
        """Raises ApiError 503 where this controller takes no call any more."""
        if not self._accepting():
            raise unavailable(STOPPING)

    def admit(self, deployed: Deployed) -> None:
        """Raises ApiError 503 where no call is taken now, or none of this action ever; 400 for a deprecated kind."""
        if deployed.spec.kind in self._deprecated_kinds:
            raise runtime_gone(deployed.spec.kind)
        self.require_accepting()
        if not deployed.composition:
            self._require_large_enough_vm(deployed.spec)

    def _require_large_enough_vm(self, spec: ActionSpec) -> None:
        """Raises ApiError 503 for an action that no VM of the cluster holds, however long it waits."""
        largest_mb = self._dispatcher.too_large(spec.memory_mb)
        if largest_mb is not None:
            self._stats.count_refusal(RefusalReason.TOO_LARGE)
            text = f"The action's memory limit is {spec.memory_mb} MB, and the largest VM has {largest_mb:g} MB."
            raise unavailable(text, NO_VM_RETRY_S)

    def new(
        self,
        deployed: Deployed,
        args: bytes,
        caller: Caller,
        *,
        blocking: bool,
        activation_id: ActivationId | None = None,
        cause: str = "",
        caused_by: str = "",
        started: int | None = None,
    ) -> InFlight:
        """A call, not yet taken up. `args` is JSON text: stored parameters and the call's own are merged already.

        `started`: of a part of a durable call, how many attempts an earlier controller may have made of it (its fence):
        each start raises the fence first. None = nobody but this controller knows of the call.
        """
        now_unix_ms = unix_ms()
        spec = deployed.spec
        return InFlight(
            activation=Activation(
                id=activation_id or mint_id(),
                action=spec,
                blocking=blocking,
                durable=started is not None,
                attempts=started or 0,
                payload_bytes=len(args),
                accepted_unix_ms=now_unix_ms,
                arrived_unix_ms=now_unix_ms,
            ),
            durable=started is not None,
            action=deployed.encoded,
            args=args,
            subject=caller.subject,
            transaction_id=caller.transaction_id,
            accepted_unix_ms=now_unix_ms,
            accepted_mono_s=mono_s(),
            traceparent=caller.traceparent,
            cause=cause,
            caused_by=caused_by,
            # The controller runs a composition, whose components may want the key although it does not.
            api_key=caller.api_key if spec.provide_api_key or deployed.composition else "",
            components=deployed.components,
            composition=deployed.composition,
        )

    # ---- not waiting -------------------------------------------------------------------------------------------------

    async def enter(self, call: InFlight) -> None:
        """Returns once the call stands in the stream; a controller reads it from there.

        Raises ApiError 429 where the stream is full, StoreError.
        """
        self._ledger.entering(call)
        entered = False
        try:
            entered = not isinstance(await self._store.accept(self._entry(call)), StreamFull)
        finally:
            if not entered:
                self._ledger.not_entering(call.activation.id)
        if not entered:
            raise throttled(STREAM_FULL, 2.0)

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
            caused_by=call.caused_by,
            components=list(call.components),
            composition=call.composition,
        )

    # ---- waiting -----------------------------------------------------------------------------------------------------

    async def run(self, call: InFlight, wait_s: float) -> Reply:
        """The reply, or Expired once the call stands in the stream. A client that leaves does not end its call.

        Raises ApiError 503 where the controller has no room, or the call outlived its wait and the stream takes none.
        """
        if not self._ledger.has_room(len(call.args)):
            raise unavailable(OVERFULL)
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
                    503, f"{NOT_ENTERED} {call.activation.id}.", {"Retry-After": "1", ID_HEADER: call.activation.id}
                )
            reply = await self._reply(call, _ENTER_RETRY_S, None)
            if not isinstance(reply, Expired):
                return reply

    async def part(self, call: InFlight) -> Answered | Refused | Elsewhere:
        """The reply to a part of a composition, however long it takes: the bounds were asked when the whole came."""
        while True:
            reply = await self._reply(call, _LONG_S, self._dispatcher.arrive if call.waiter is None else None)
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


def _expire(waiter: asyncio.Future[Reply]) -> None:
    if not waiter.done():
        waiter.set_result(Expired())
