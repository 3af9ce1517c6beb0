"""What happens to calls: fenced, placed, queued, cut off, answered, ended. `ClusterState`'s part that moves them."""

from __future__ import annotations

from collections import Counter

from fallow.core.attempt_waits import AttemptWaits
from fallow.core.cluster.bookings import Call, Vm
from fallow.core.cluster.deadlines import Deadlines
from fallow.core.cluster.events import (
    AcceptOutcome,
    CancelAttempt,
    ClusterInstruction,
    Conclude,
    DiscardOutcome,
    Dispatch,
    Forget,
    RaiseFence,
    Refuse,
)
from fallow.core.cluster.learning import Learner
from fallow.core.cluster.limits import ClusterLimits
from fallow.core.cluster.placing import Placer
from fallow.core.cluster.queueing import Queue
from fallow.core.cluster.stories import Stories
from fallow.core.cluster.vm_table import VmTable
from fallow.core.eviction import Strategy
from fallow.core.lifecycle import CallEvent, CallState, VmState
from fallow.core.model import ActionSpec, Activation, ActivationId, Outcome, RefusalReason, Status, VmId
from fallow.core.policies.base import Policy
from fallow.core.why.placement import Placement
from fallow.core.why.story import StepKind


class CallFlow:
    """Owns the calls. Collects instructions until `take_instructions`."""

    def __init__(self, *, policy: Policy, strategy: Strategy, limits: ClusterLimits, table: VmTable) -> None:
        self._policy = policy
        self._learner = Learner(policy=policy, strategy=strategy)
        self._limits = limits
        self._table = table
        self._placer = Placer(policy=policy, strategy=strategy, table=table)
        self._calls: dict[ActivationId, Call] = {}
        self._queue = Queue(limits=limits, table=table, placer=self._placer)
        self._attempt_ends: Deadlines[ActivationId] = Deadlines()
        self.passed_over = self._placer.passed_over
        self.stories = Stories(limits.why_kept, self._calls)
        self._out: list[ClusterInstruction] = []
        self._fencing = 0
        self._room_appeared = False
        self.counters: Counter[str] = Counter()

    # -- readers

    @property
    def waiting(self) -> int:
        return self._queue.count

    @property
    def in_flight(self) -> int:
        return len(self._calls)

    def current(self, vm_id: VmId, activation_id: ActivationId, attempt: int) -> Call | None:
        """The call, if this is its present attempt and is dispatched to this VM without an answer so far."""
        call = self._calls.get(activation_id)
        if call is None or call.vm is None or call.vm.info.id != vm_id or call.attempt != attempt:
            return None
        return call if call.life.state is CallState.DISPATCHED else None

    def is_current(self, vm: Vm, activation_id: ActivationId, attempt: int) -> bool | None:
        """Is this the call's present attempt, answered or not, on this VM? None = the call is not known."""
        call = self._calls.get(activation_id)
        return None if call is None else call.vm is vm and call.attempt == attempt

    def running_attempt(self, activation_id: ActivationId) -> int:
        call = self._calls.get(activation_id)
        if call is None:
            return 0
        return call.attempt if call.vm is not None else call.fence

    def room_for_durable(self) -> int:
        # Half the room, so that what the stream holds never keeps blocking calls from waiting.
        if not self._table.any_usable:
            return 0
        return max(0, self._limits.waiting_calls // 2 - self._queue.urgent_count - self._fencing)

    # -- instructions

    def emit(self, instruction: ClusterInstruction) -> None:
        self._out.append(instruction)

    def take_instructions(self, now_s: float) -> list[ClusterInstruction]:
        """What is to be done, after room that may have appeared was offered to the waiting calls."""
        if self._room_appeared:
            self._room_appeared = False
            if self._queue.count:
                self._offer_room(now_s)
        out, self._out = self._out, []
        return out

    def room_may_have_appeared(self) -> None:
        self._room_appeared = True

    def _offer_room(self, now_s: float) -> None:
        def take(call: Call) -> bool:
            placement = self._placer.find(call, now_s)
            if placement is not None:
                self._dispatch(call, placement, now_s)
            return placement is not None

        self._queue.offer(take)

    # -- arrival, fence, placement

    def arrived(self, activation: Activation, now_s: float) -> None:
        known = self._calls.get(activation.id)
        if known is not None:
            # Read back from the stream, where a blocking call of ours was entered when its wait expired.
            if activation.durable and not known.activation.durable:
                self.made_durable(activation.id, None, now_s)
            return
        call = Call(activation, now_s)
        self._calls[call.id] = call
        self.stories.keep(call.id, call.log)
        self.counters["arrived"] += 1
        self._policy.arrived(activation.action.key, now_s)
        started = activation.attempts
        if started and not activation.action.idempotent:
            call.number(started)
            self._conclude(
                call, "The controller that started it is gone and the action is not idempotent: outcome unknown.", now_s
            )
        elif started >= self._limits.max_attempts:
            call.number(started)
            self._conclude(call, f"All {started} attempts were cut off.", now_s)
        else:
            call.number(started + 1)
            self._start(call, now_s)

    def _start(self, call: Call, now_s: float) -> None:
        """Bring a call in state PLACING on its way: to the store, to a VM, or into the waiting room."""
        if call.needs_fence:
            self._ask_fence(call, now_s)
            return
        if self._queue.must_wait(call):
            self._defer(call, "others of its action wait already and go first", now_s)
            return
        placement = self._placer.find(call, now_s)
        if placement is not None:
            self._dispatch(call, placement, now_s)
        else:
            self._defer(call, "no VM that may take it is usable", now_s)

    def _ask_fence(self, call: Call, now_s: float) -> None:
        if call.life.state is not CallState.FENCING:
            self._fencing += 1
        call.life.advance(CallEvent.FENCE_ASKED)
        call.asked_expect = call.fence
        call.log.add(now_s, StepKind.FENCE_ASKED)
        self.emit(RaiseFence(activation_id=call.id, expect=call.fence, attempt=call.attempt))

    def fence_raised(self, activation_id: ActivationId, attempt: int, now_s: float) -> None:
        call = self._fencing_call(activation_id, attempt)
        if call is None:
            return
        self._fencing -= 1
        call.fence = attempt
        call.life.advance(CallEvent.FENCE_RAISED)
        call.log.add(now_s, StepKind.FENCE_RAISED)
        self._start(call, now_s)

    def fence_refused(self, activation_id: ActivationId, attempt: int, recorded: bool, now_s: float) -> None:
        call = self._fencing_call(activation_id, attempt)
        if call is None:
            return
        if not recorded and call.asked_expect == 0 and call.dispatches and call.activation.action.idempotent:
            # Most likely nobody else: the call's own new stream entry set the fence to the running attempt 1 while the
            # answer was under way. Should another controller have started it, one of the two is fenced off.
            call.fence = max(call.fence, 1)
            call.number(call.fence + 1)
            self._ask_fence(call, now_s)
            return
        self._fencing -= 1
        self.counters["forgotten"] += 1
        note = "a record exists" if recorded else "another controller raised the fence"
        call.log.add(now_s, StepKind.FORGOTTEN, None, note)
        self._end(call)
        self.emit(Forget(activation_id=call.id, recorded=recorded))

    def _fencing_call(self, activation_id: ActivationId, attempt: int) -> Call | None:
        call = self._calls.get(activation_id)
        if call is None or call.life.state is not CallState.FENCING or call.attempt != attempt:
            return None
        return call

    def _dispatch(self, call: Call, placement: Placement, now_s: float) -> None:
        vm, decision, spec = self._table.known(placement.info.id), placement.decision, call.activation.action
        call.long = placement.long
        call.life.advance(CallEvent.PLACED)
        seq = vm.book(call, decision.cpu_cores, decision.memory_mb)
        call.dispatches += 1
        call.dispatched_s = now_s
        call.log.add(now_s, StepKind.PLACED, vm.info.id, placement.reason, placement)
        self._attempt_ends.set(call.id, now_s + self._attempt_limit_s(spec))
        self.counters["dispatched"] += 1
        self.counters[vm.placed_names[call.long]] += 1
        if call.dispatches == 2:
            self.counters["replaced"] += 1
        self.emit(
            Dispatch(
                vm_id=vm.info.id,
                activation_id=call.id,
                attempt=call.attempt,
                seq=seq,
                cap_cores=decision.cap_cores,
                long=call.long,
            )
        )

    def _attempt_limit_s(self, spec: ActionSpec) -> float:
        limits = self._limits
        return limits.max_queue_wait_s + limits.start_limit_s + 2 * spec.timeout_s + limits.deadline_margin_s

    def _defer(self, call: Call, note: str, now_s: float) -> None:
        missing = self._placer.missing(call.activation.action)
        if self._queue.is_full_for(call):
            self._refuse(call, missing or RefusalReason.OVERLOADED, now_s)
            return
        call.life.advance(CallEvent.DEFERRED)
        call.log.add(now_s, StepKind.WAITED, None, missing or note, self._placer.passed_over.by(call))
        self._queue.add(call, now_s)

    # -- on a VM

    def send_back(self, call: Call, note: str, now_s: float, waits: AttemptWaits | None = None) -> None:
        """A dispatch that was no attempt: place the same number again."""
        self._release(call, StepKind.RETURNED, note, now_s, waits)
        call.life.advance(CallEvent.RETURNED)
        self.counters["returned"] += 1
        self._start(call, now_s)

    def cut_off(self, call: Call, cause: str, now_s: float, *, evicted: bool = False, ended: bool = False) -> None:
        """The present attempt will not answer: start the next, or conclude. `ended` = nothing of it runs any more."""
        vm = call.vm
        assert vm is not None, f"{call.id} is on no VM"
        if not ended:
            vm.disown(call)
            if vm.connected:
                self.emit(CancelAttempt(vm_id=vm.info.id, activation_id=call.id, attempt=call.attempt))
        self._release(call, StepKind.CUT_OFF, cause, now_s)
        self.counters["cut_off"] += 1
        if evicted:
            self._evicted(call, now_s)
        if not call.activation.action.idempotent:
            if call.evictions:
                self.counters["evicted_not_idempotent"] += 1
            text = f"Cut off: {cause}. The action is not idempotent, so it was not started again: outcome unknown."
            self._conclude(call, text, now_s, evicted=evicted)
        elif call.attempt >= self._limits.max_attempts:
            if call.evictions:
                self.counters["evicted_used_up"] += 1
            text = f"Cut off: {cause}. This was the last of {call.attempt} attempts."
            self._conclude(call, text, now_s, evicted=evicted)
        else:
            call.number(call.attempt + 1)
            self._ask_fence(call, now_s)

    def _evicted(self, call: Call, now_s: float) -> None:
        """An eviction cut the present attempt off: count the call, once, and learn that it was not short enough."""
        if not call.evictions:
            self.counters["evicted_calls"] += 1
            self.counters["evicted_unforeseen"] += not call.long
        call.evictions += 1
        self._learner.evicted(call, now_s)

    def finished(self, vm_id: VmId, activation_id: ActivationId, attempt: int, outcome: Outcome, now_s: float) -> None:
        call = self.current(vm_id, activation_id, attempt)
        if call is None or outcome.evicted:
            self.counters["discarded"] += 1
            self.emit(DiscardOutcome(vm_id=vm_id, activation_id=activation_id, attempt=attempt))
            if call is not None:
                self.cut_off(call, f"{vm_id} was evicted while it ran", now_s, evicted=True, ended=True)
            else:
                self.stories.late_result(activation_id, attempt, vm_id, now_s)
            return
        call.life.advance(CallEvent.ANSWERED)
        call.outcome = outcome
        self.counters["finished"] += 1
        if call.evictions:
            self.counters["evicted_succeeded" if outcome.status is Status.SUCCESS else "evicted_errored"] += 1
        call.log.add(now_s, StepKind.FINISHED, vm_id, outcome.status.text, outcome)
        self.emit(AcceptOutcome(vm_id=vm_id, activation_id=activation_id, attempt=attempt))

    def completed(self, vm_id: VmId, activation_id: ActivationId, attempt: int, now_s: float) -> None:
        call = self._calls.get(activation_id)
        if call is None or call.vm is None or call.vm.info.id != vm_id or call.attempt != attempt:
            vm = self._table.get(vm_id)
            if vm is not None:
                vm.unwanted.pop((activation_id, attempt), None)
        elif call.life.state is CallState.FINISHED:
            self.free(call, now_s)
        else:
            self.cut_off(call, f"it ended on {vm_id} without a result", now_s, ended=True)

    def free(self, call: Call, now_s: float) -> None:
        """An answered call leaves its VM: give back its booking and learn from it."""
        vm = call.vm
        assert vm is not None, f"{call.id} is on no VM"
        vm.release(call)
        self._room_appeared = True
        self.counters["completed"] += 1
        call.life.advance(CallEvent.RELEASED)
        self._learner.completed(call, now_s)
        self._forget(call)

    def _release(self, call: Call, what: StepKind, note: str, now_s: float, waits: AttemptWaits | None = None) -> None:
        vm = call.vm
        assert vm is not None, f"{call.id} is on no VM"
        call.log.add(now_s, what, vm.info.id, note, waits)
        vm.release(call)
        self._attempt_ends.drop(call.id)
        self._room_appeared = True

    # -- durable, time

    def made_durable(self, activation_id: ActivationId, running_attempt: int | None, now_s: float) -> None:
        call = self._calls.get(activation_id)
        if call is None:
            return  # over in the meantime
        if running_attempt is None:
            running_attempt = call.attempt if call.vm is not None else 0
        call.fence = max(call.fence, running_attempt)
        call.make_durable(now_s)
        self._queue.never_refuse(call)
        if call.life.state is CallState.WAITING and call.needs_fence:
            self._queue.remove(call)
            self._ask_fence(call, now_s)

    def tick(self, now_s: float) -> None:
        for activation_id in self._attempt_ends.due(now_s):
            call = self._calls[activation_id]
            if call.life.state is CallState.FINISHED:
                self.free(call, now_s)  # its Completed never came
            else:
                limit_s = self._attempt_limit_s(call.activation.action)
                self.counters["overdue"] += 1
                self.cut_off(call, f"no answer within {limit_s:g} s", now_s)
        for call, reason in self._queue.take_out_overdue(now_s):
            self._refuse(call, reason, now_s)
        self._room_appeared = True

    # -- ends

    def _conclude(self, call: Call, error: str, now_s: float, *, evicted: bool = False) -> None:
        self.counters["concluded"] += 1
        call.log.add(now_s, StepKind.CONCLUDED, None, error)
        self._end(call)
        fence = max(call.attempt, call.fence)
        self.emit(Conclude(activation_id=call.id, fence=fence, status=Status.WHISK_ERROR, error=error, evicted=evicted))

    def _refuse(self, call: Call, reason: RefusalReason, now_s: float) -> None:
        self.counters[f"refused_{reason.name.lower()}"] += 1
        call.log.add(now_s, StepKind.REFUSED, None, reason.value)
        self._end(call)
        # A slot may be free any moment; a VM that is not there takes longer to come.
        retry_after_s = 1.0 if reason in (RefusalReason.OVERLOADED, RefusalReason.WAITED) else self._limits.no_vm_wait_s
        self.emit(Refuse(activation_id=call.id, reason=reason, retry_after_s=retry_after_s))

    def _end(self, call: Call) -> None:
        call.life.advance(CallEvent.ENDED)
        self._forget(call)

    def _forget(self, call: Call) -> None:
        call.log.ended = True
        del self._calls[call.id]
        self._attempt_ends.drop(call.id)

    def validate(self) -> None:
        self._queue.validate()
        waiting = {call.id for call in self._queue}
        fencing = 0
        for call in self._calls.values():
            state = call.life.state
            fencing += state is CallState.FENCING
            assert state not in (CallState.PLACING, CallState.CLOSED), f"{call.id} is kept in state {state}"
            assert (state is CallState.WAITING) == (call.id in waiting), f"{call.id}: {state}, waiting room disagrees"
            on_vm = state in (CallState.DISPATCHED, CallState.FINISHED)
            assert on_vm == (call.vm is not None), f"{call.id}: {state}, on {call.vm}"
            assert call.vm is None or call.vm.calls.get(call.id) is call, f"{call.id} is not booked where it runs"
            assert on_vm == (call.id in self._attempt_ends), f"{call.id}: {state} and its deadline disagree"
            if state is CallState.DISPATCHED:
                assert call.vm is not None
                assert call.vm.life.state is not VmState.LOST, f"{call.id} is on a lost VM"
        assert waiting <= self._calls.keys(), "a call that is over waits"
        assert fencing == self._fencing, f"{fencing} calls are fencing, {self._fencing} were counted"
        booked = sum(len(vm.calls) for vm in self._table)
        assert booked == sum(call.vm is not None for call in self._calls.values()), "a booking has no call"
