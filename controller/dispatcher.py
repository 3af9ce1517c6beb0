"""The one place that tells the controller's brain what happened and carries out what it answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import assert_never

from controller import outcomes
from controller.errands import Errands
from controller.ledger import Answered, Elsewhere, InFlight, Ledger, Refused
from controller.peers import Peers
from controller.recorder import Recorder
from controller.stats import Stats
from fallow.core.cluster.events import (
    AcceptOutcome,
    ActivationArrived,
    ActivationMadeDurable,
    AttemptCompleted,
    AttemptFinished,
    AttemptReturned,
    CancelAttempt,
    ClusterEvent,
    ClusterInstruction,
    Conclude,
    DeclareLost,
    DiscardOutcome,
    Dispatch,
    FenceRaised,
    FenceRefused,
    Forget,
    RaiseFence,
    Refuse,
    VmDisconnected,
    VmJoined,
)
from fallow.core.cluster.state import ClusterState
from fallow.core.model import ActivationId, ControllerId, ReturnReason, VmId
from fallow.infra.clock import mono_s, unix_ms
from fallow.infra.link import Link
from fallow.infra.messages import Cancel, Recorded, Result, Run, Welcome
from fallow.infra.records import Record
from fallow.infra.store import FenceVerdict, Store, WriteVerdict


class Dispatcher:
    """Feeds `ClusterState` and executes its instructions. Everything here runs on the event loop and never waits."""

    def __init__(
        self,
        *,
        controller_id: ControllerId,
        cluster: ClusterState,
        ledger: Ledger,
        peers: Peers,
        store: Store,
        recorder: Recorder,
        errands: Errands,
        stats: Stats,
    ) -> None:
        self._controller_id = controller_id
        self._cluster = cluster
        self._ledger = ledger
        self._peers = peers
        self._store = store
        self._recorder = recorder
        self._errands = errands
        self._stats = stats
        self._events: deque[ClusterEvent] = deque()
        self._handling = False
        # Takes up calls of compositions, which no VM runs: set once, by whoever wires the controller.
        self.compose: Callable[[InFlight], None] | None = None
        self._results: dict[tuple[ActivationId, int], Result] = {}  # between a result's arrival and its acceptance

    # ---- what happened -----------------------------------------------------------------------------------------------

    def apply(self, event: ClusterEvent) -> None:
        """Handles the event and every event that its execution causes, in order."""
        self._events.append(event)
        self._drain()

    def _drain(self) -> None:
        if self._handling:
            return
        self._handling = True
        try:
            while self._events:
                for instruction in self._cluster.handle(self._events.popleft(), mono_s()):
                    self._execute(instruction)
        finally:
            self._handling = False

    def arrive(self, call: InFlight) -> None:
        """Takes up a call from the API or the stream."""
        self._ledger.open(call)
        if call.composition:
            assert self.compose is not None, "nobody runs compositions"
            self.compose(call)
            return
        self.apply(ActivationArrived(activation=call.activation))

    def join(self, event: VmJoined, link: Link) -> None:
        """Welcomes an invoker: its Welcome names the held attempts to cancel, and leaves before any dispatch."""
        vm_id = event.vm.id
        cancel: list[tuple[str, int]] = []
        rest: list[ClusterInstruction] = []
        for instruction in self._cluster.handle(event, mono_s()):
            if isinstance(instruction, CancelAttempt) and instruction.vm_id == vm_id:
                if self._wanted(instruction):
                    cancel.append((instruction.activation_id, instruction.attempt))
            else:
                rest.append(instruction)
        link.send(Welcome(protocol=self._peers.protocol, controller_id=self._controller_id, cancel=cancel))
        for instruction in rest:
            self._execute(instruction)
        self._settle_confirmed_while_away(event)
        self._drain()

    def _settle_confirmed_while_away(self, event: VmJoined) -> None:
        """An answered call that the VM no longer holds was recorded while the link was down, or never will be."""
        held = set(event.holds)
        for call in self._ledger.unrecorded_at(event.vm.id):
            if (call.activation.id, call.attempt) not in held:
                self._write_for_vm(call)

    def disconnected(self, vm_id: VmId) -> None:
        self.apply(VmDisconnected(vm_id=vm_id))

    def result(self, vm_id: VmId, message: Result) -> None:
        """An attempt's result. Joined with its completion where the invoker had nothing left to do."""
        activation_id = ActivationId(message.activation_id)
        key = (activation_id, message.attempt)
        self._results[key] = message
        try:
            self.apply(
                AttemptFinished(
                    vm_id=vm_id,
                    activation_id=activation_id,
                    attempt=message.attempt,
                    outcome=outcomes.outcome(message),
                )
            )
        finally:
            self._results.pop(key, None)
        if message.completed:
            self.completed(vm_id, activation_id, message.attempt)

    def completed(self, vm_id: VmId, activation_id: ActivationId, attempt: int, cpu_s: float | None = None) -> None:
        self.apply(AttemptCompleted(vm_id=vm_id, activation_id=activation_id, attempt=attempt, cpu_s=cpu_s))

    def recorded(self, message: Recorded) -> None:
        """The final records of these stand in the store, or are another controller's to write."""
        for text in message.activation_ids:
            activation_id = ActivationId(text)
            call = self._ledger.get(activation_id)
            if call is not None and call.record is not None:
                self._ledger.close(activation_id)
        for text, attempt in message.fenced:
            activation_id = ActivationId(text)
            call = self._ledger.get(activation_id)
            # An attempt that this controller cut off itself is fenced too, but is not the one it answered with.
            if call is not None and call.record is not None and call.attempt == attempt:
                self._ledger.close(activation_id)

    def made_durable(self, activation_id: ActivationId, running_attempt: int) -> None:
        """The call has an entry in the stream that says this attempt was running (0 = none)."""
        call = self._ledger.get(activation_id)
        if call is not None and not call.durable:
            call.durable = True
            self.apply(ActivationMadeDurable(activation_id=activation_id, running_attempt=running_attempt))

    def running_attempt(self, activation_id: ActivationId) -> int:
        """What a stream entry made for this call now has to name; 0 = no attempt was started."""
        call = self._ledger.get(activation_id)
        if call is not None and call.composition:
            return max(1, call.attempt)
        return self._cluster.running_attempt(activation_id)

    def too_large(self, memory_mb: float) -> float | None:
        """The memory in MB of the largest VM, if an action of that limit is larger than every VM; else None."""
        return self._cluster.too_large(memory_mb)

    # ---- what to do --------------------------------------------------------------------------------------------------

    def _execute(self, instruction: ClusterInstruction) -> None:
        match instruction:
            case Dispatch():
                self._dispatch(instruction)
            case AcceptOutcome():
                self._accept(instruction)
            case RaiseFence():
                self._raise_fence(instruction)
            case CancelAttempt():
                self._cancel(instruction)
            case DiscardOutcome():
                self._stats.fenced.inc()
            case Conclude():
                self._conclude(instruction)
            case Refuse():
                self._refuse(instruction)
            case Forget():
                self._forget(instruction)
            case DeclareLost():
                self._declare_lost(instruction)
            case _:
                assert_never(instruction)

    def _dispatch(self, it: Dispatch) -> None:
        call = self._ledger.get(it.activation_id)
        if call is None:
            raise KeyError(f"dispatch of activation {it.activation_id}, which is not in the ledger")
        call.attempt = it.attempt
        call.vm_id = it.vm_id
        call.starts += 1
        message = Run(
            activation_id=it.activation_id,
            attempt=it.attempt,
            seq=it.seq,
            action=call.action,
            args=call.args,
            cap_cores=it.cap_cores,
            subject=call.subject,
            transaction_id=call.transaction_id,
            accepted_unix_ms=call.accepted_unix_ms,
            blocking=call.activation.blocking,
            traceparent=call.traceparent,
            cause=call.cause,
            api_key=call.api_key,
            caused_by=call.caused_by,
        )
        info = self._peers.info(it.vm_id)
        if info is None or not self._peers.send(it.vm_id, message):
            self._events.append(
                AttemptReturned(
                    vm_id=it.vm_id,
                    activation_id=it.activation_id,
                    attempt=it.attempt,
                    reason=ReturnReason.UNREACHABLE,
                )
            )
            return
        call.vm_kind, call.vm_price, call.vm_speed = info.kind, info.price, info.speed
        call.sent_unix_ms = unix_ms()
        self._stats.dispatched(call, info.kind, it.long, mono_s())

    def _accept(self, it: AcceptOutcome) -> None:
        call = self._ledger.get(it.activation_id)
        result = self._results.get((it.activation_id, it.attempt))
        if call is None or result is None:
            raise KeyError(f"outcome of activation {it.activation_id} was accepted, but is not here")
        record = outcomes.record(call, result, it.vm_id)
        call.vm_id = it.vm_id
        call.attempt = it.attempt
        self._ledger.answered(call, record, it.vm_id)
        call.reply(Answered(record=record))
        self._stats.ended(call, record)

    def _raise_fence(self, it: RaiseFence) -> None:
        async def raise_it() -> None:
            verdict = await self._store.raise_fence(
                it.activation_id, expect=it.expect, attempt=it.attempt, controller_id=self._controller_id
            )
            self._stats.fence_raised(verdict)
            if verdict is FenceVerdict.RAISED:
                self.apply(FenceRaised(activation_id=it.activation_id, attempt=it.attempt))
            else:
                recorded = verdict is FenceVerdict.RECORDED
                self.apply(FenceRefused(activation_id=it.activation_id, attempt=it.attempt, recorded=recorded))

        self._errands.add(raise_it)

    def _wanted(self, it: CancelAttempt) -> bool:
        """An attempt whose outcome was accepted is over already; cancelling it could only lose its record."""
        call = self._ledger.get(it.activation_id)
        return call is None or call.record is None or call.attempt != it.attempt

    def _cancel(self, it: CancelAttempt) -> None:
        if self._wanted(it):
            self._peers.send(it.vm_id, Cancel(activation_id=it.activation_id, attempt=it.attempt))

    def _conclude(self, it: Conclude) -> None:
        call = self._ledger.get(it.activation_id)
        if call is None:
            raise KeyError(f"conclusion of activation {it.activation_id}, which is not in the ledger")
        self.conclude(call, outcomes.concluded(call, it, unix_ms()))

    def conclude(self, call: InFlight, record: Record) -> None:
        """Ends a call with a record that no invoker writes: the client hears of it once it stands."""
        self._ledger.answered(call, record, None)
        call.vm_id = None
        self._recorder.submit(record, self._concluded)

    def _concluded(self, record: Record, verdict: WriteVerdict) -> None:
        """The client hears of a conclusion only once it is the record, or hears what the record says instead."""
        activation_id = ActivationId(record.activation_id)
        match verdict:
            case WriteVerdict.WRITTEN:
                call = self._ledger.close(activation_id)
                if call is not None:
                    call.reply(Answered(record=record))
                    self._stats.ended(call, record)
            case WriteVerdict.EXISTS:
                self._answer_with_stored(activation_id)
            case WriteVerdict.FENCED:
                self.give_away(activation_id)
            case _:
                assert_never(verdict)

    def _refuse(self, it: Refuse) -> None:
        self.refuse(it.activation_id, Refused(reason=it.reason, retry_after_s=it.retry_after_s))

    def refuse(self, activation_id: ActivationId, reply: Refused) -> None:
        """Ends a call that was never started and leaves no record."""
        call = self._ledger.close(activation_id)
        if call is not None:
            self._stats.refused(call, reply.reason)
            call.reply(reply)

    def _forget(self, it: Forget) -> None:
        if it.recorded:
            self._answer_with_stored(it.activation_id)
        else:
            self.give_away(it.activation_id)

    def give_away(self, activation_id: ActivationId) -> None:
        """The call has ended, or is another controller's: its record will be found in the store."""
        call = self._ledger.close(activation_id)
        if call is not None:
            call.reply(Elsewhere())

    def _answer_with_stored(self, activation_id: ActivationId) -> None:
        async def read() -> None:
            call = self._ledger.get(activation_id)
            if call is None:
                return
            record = await self._store.get_record(call.activation.action.caller_namespace, activation_id)
            self._ledger.close(activation_id)
            # None: trimmed between the two; whoever asks the store later learns the same.
            call.reply(Elsewhere() if record is None else Answered(record=record))
            if record is not None:
                self._stats.ended(call, record)

        self._errands.add(read)

    def _declare_lost(self, it: DeclareLost) -> None:
        self._stats.vms_lost.inc()
        for call in self._ledger.unrecorded_at(it.vm_id):
            self._write_for_vm(call)
        if not it.keep_link:
            self._peers.drop(it.vm_id)

    def _write_for_vm(self, call: InFlight) -> None:
        """Writes the record of an answered call in place of its VM. If the VM wrote it after all, that one stands."""
        if call.record is not None:
            self._recorder.submit(outcomes.without_logs(call.record), self._written_for_vm)

    def _written_for_vm(self, record: Record, _verdict: WriteVerdict) -> None:
        self._ledger.close(ActivationId(record.activation_id))
