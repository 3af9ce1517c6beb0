"""The calls this controller answers for, from arrival until their final record is confirmed.

A call is *open* while an attempt may still answer it, then *answered*: its outcome is kept, because the machine that
produced it may die before its record is written. Answered calls count against the bounds as open ones do, so a store
that is away for long shows as refused calls and never as lost ones.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from fallow.core.model import Activation, ActivationId, RefusalReason, VmId, VmKind
from fallow.infra.clock import mono_s
from fallow.infra.records import Record

_ENTRY_S = 0.1  # from the stream a call is read within that, here or by another controller
_CALL_OVERHEAD_BYTES = 1024  # of the objects around a call's bytes, roughly


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The call has ended as this record says (its logs may still be on their way)."""

    record: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The call was never placed and leaves no record."""

    reason: RefusalReason
    retry_after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """Another controller owns the call now; its record will be found in the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """The client's wait is over; the call goes on."""


Reply = Answered | Refused | Elsewhere | Expired


@dataclass(slots=True, kw_only=True, eq=False)
class InFlight:
    """One call; changed by the dispatcher and the ledger only."""

    activation: Activation
    action: bytes  # the encoded ActionSpec
    args: bytes
    subject: str
    transaction_id: str
    accepted_unix_ms: int
    accepted_mono_s: float
    traceparent: str = ""
    cause: str = ""
    caused_by: str = ""
    api_key: str = ""
    components: tuple[str, ...] = ()  # of a sequence
    composition: str = ""  # as of StreamEntry: "" = an invoker runs it
    durable: bool = False  # it has an entry in the stream
    waiter: asyncio.Future[Reply] | None = None
    answer: Reply | None = None  # what there is to say to the client, waiting or not
    attempt: int = 0  # the last one dispatched; 0 = none yet
    starts: int = 0  # dispatches, returned ones included
    sent_unix_ms: int = 0  # when the last one left; 0 = none yet
    vm_id: VmId | None = None  # where that was sent
    vm_kind: VmKind | None = None
    vm_price: float | None = None
    vm_speed: float | None = None
    record: Record | None = None  # the accepted outcome
    bytes_held: int = 0

    def reply(self, reply: Reply) -> None:
        """Keeps the answer, and hands it to the client if one waits at this moment."""
        self.answer = reply
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(reply)


class Ledger:
    """All calls in flight, bounded in number and bytes."""

    def __init__(self, *, max_calls: int, max_bytes: int) -> None:
        self._max_calls = max_calls
        self._max_bytes = max_bytes
        self._calls: dict[ActivationId, InFlight] = {}
        self._unrecorded: dict[VmId, dict[ActivationId, None]] = {}  # answered calls by the VM that answered
        self._entering: dict[ActivationId, tuple[str, float]] = {}  # namespace, and until when they count (mono_s)
        self._running: Counter[str] = Counter()  # open calls that VMs run, by the namespace they are made for
        self.bytes_held = 0

    def __len__(self) -> int:
        return len(self._calls)

    def __contains__(self, activation_id: ActivationId) -> bool:
        return activation_id in self._calls

    def get(self, activation_id: ActivationId) -> InFlight | None:
        return self._calls.get(activation_id)

    def has_room(self, payload_bytes: int) -> bool:
        """Whether one more call with so many bytes of arguments stays within the bounds."""
        size = self.bytes_held + payload_bytes + _CALL_OVERHEAD_BYTES
        return len(self._calls) < self._max_calls and size <= self._max_bytes

    def room(self) -> int:
        """How many more calls may be taken, by number; 0 also where the bytes are used up."""
        return max(0, self._max_calls - len(self._calls)) if self.bytes_held < self._max_bytes else 0

    def running_of(self, namespace: str) -> int:
        """Calls of that namespace that are not over, or that were just entered into the stream; O(1).

        A composition is one of them, from its beginning to its end; its parts are not.
        """
        now_s = mono_s()
        while self._entering:
            activation_id, (_, until_mono_s) = next(iter(self._entering.items()))
            if now_s < until_mono_s:
                break
            self.not_entering(activation_id)
        return self._running[namespace]

    def entering(self, call: InFlight) -> None:
        """A call on its way into the stream counts as running, until it is opened here or may be elsewhere."""
        if not call.caused_by:
            namespace = call.activation.action.caller_namespace
            self._entering[call.activation.id] = (namespace, mono_s() + _ENTRY_S)
            self._count(namespace, 1)

    def not_entering(self, activation_id: ActivationId) -> None:
        """The call does not stand in the stream, or counts as what it has become."""
        entry = self._entering.pop(activation_id, None)
        if entry is not None:
            self._count(entry[0], -1)

    def _count(self, namespace: str, step: int) -> None:
        self._running[namespace] += step
        if not self._running[namespace]:
            del self._running[namespace]

    def _ran(self, call: InFlight, step: int) -> None:
        if not call.caused_by:
            self._count(call.activation.action.caller_namespace, step)

    def under_way(self) -> Iterator[tuple[str, str]]:
        """Id and "namespace/[package/]action" of the calls that have not ended yet, oldest first; O(n)."""
        for call in self._calls.values():
            if call.record is None:
                action = call.activation.action
                yield call.activation.id, f"{action.namespace}/{action.name}"

    @property
    def durable(self) -> int:
        """Calls here that have an entry in the stream; O(n)."""
        return sum(call.durable for call in self._calls.values())

    @property
    def unrecorded(self) -> int:
        return sum(len(ids) for ids in self._unrecorded.values())

    def waiters(self) -> list[asyncio.Future[Reply]]:
        """The waits of clients that have no answer yet; O(n), for the shutdown.

        For a part of a composition no client waits: the whole has a client, or is taken over by another controller.
        """
        calls = (call for call in self._calls.values() if not call.caused_by)
        return [call.waiter for call in calls if call.waiter is not None and not call.waiter.done()]

    def open(self, call: InFlight) -> None:
        """Takes a call up. Raises ValueError where its id is in flight already."""
        if call.activation.id in self._calls:
            raise ValueError(f"activation {call.activation.id} is in flight already")
        call.bytes_held = len(call.args) + _CALL_OVERHEAD_BYTES
        self.bytes_held += call.bytes_held
        self._calls[call.activation.id] = call
        self.not_entering(call.activation.id)
        self._ran(call, 1)

    def answered(self, call: InFlight, record: Record, vm_id: VmId | None) -> None:
        """The outcome is accepted: it is kept until recorded, and the arguments are not needed any more."""
        if call.record is None:
            self._ran(call, -1)
        call.record = record
        call.args = b""
        self.bytes_held -= call.bytes_held
        call.bytes_held = len(record.result) + _CALL_OVERHEAD_BYTES
        self.bytes_held += call.bytes_held
        if vm_id is not None:
            self._unrecorded.setdefault(vm_id, {})[call.activation.id] = None

    def unrecorded_at(self, vm_id: VmId) -> Iterator[InFlight]:
        """Answered calls whose records that VM has not confirmed, oldest first."""
        for activation_id in tuple(self._unrecorded.get(vm_id, ())):
            yield self._calls[activation_id]

    def close(self, activation_id: ActivationId) -> InFlight | None:
        """Forgets a call: recorded, refused, or another controller's. None where it is not here."""
        call = self._calls.pop(activation_id, None)
        if call is None:
            return None
        self.bytes_held -= call.bytes_held
        if call.record is None:
            self._ran(call, -1)
        elif call.vm_id is not None:
            at_vm = self._unrecorded.get(call.vm_id)
            if at_vm is not None:
                at_vm.pop(activation_id, None)
                if not at_vm:
                    del self._unrecorded[call.vm_id]
        return call
