"""The controller's brain: what happened goes in, what is to be done comes out.

`ClusterState.handle(event, now_s)` is synchronous and deterministic. It knows no network, store or clock: the
dispatcher feeds it every fact in the order in which it learns of it and carries out the instructions in the order
given. The way of a call is the table of `CallLifecycle`, that of a VM the one of `VmLifecycle`. This file holds what
happens to VMs, `call_flow.py` what happens to calls.

Rules that hold everywhere:
- A call has one present attempt and is booked on at most one VM. Messages about any other (VM, attempt) change nothing;
  every AttemptFinished is answered by exactly one AcceptOutcome or DiscardOutcome.
- Every call ends in exactly one of AcceptOutcome, Conclude, Refuse, Forget.
- An attempt is cut off by its VM's end (lost, evicted), by its own deadline, or by ending without a result. Then either
  the next attempt is fenced and placed, or the call is concluded: not idempotent, or its attempts are used up.
- A dispatch that is given back, or provably never reached its VM, was no attempt and keeps its number.

Cost: O(1) an event about a call, plus what the policy's walk costs; a pass over the waiting room offers room to a
bounded number of calls. An event about a VM costs O(this controller's calls on it).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from fallow.core.cluster.bookings import Call, Vm, VmStatus
from fallow.core.cluster.call_flow import CallFlow
from fallow.core.cluster.deadlines import Deadlines
from fallow.core.cluster.events import (
    ActivationArrived,
    ActivationMadeDurable,
    AttemptCompleted,
    AttemptFinished,
    AttemptReturned,
    CancelAttempt,
    ClusterEvent,
    ClusterInstruction,
    ControllersChanged,
    DeclareLost,
    FenceRaised,
    FenceRefused,
    Ticked,
    VmDisconnected,
    VmJoined,
    VmReported,
)
from fallow.core.cluster.limits import ClusterLimits
from fallow.core.cluster.vm_table import VmTable
from fallow.core.eviction import Strategy
from fallow.core.lifecycle import CallState, VmEvent, VmState
from fallow.core.model import ActivationId, ReturnReason, VmId, VmReport
from fallow.core.policies.base import Policy
from fallow.core.why.story import CoresChange, StepKind, Story

__all__ = ["ClusterLimits", "ClusterState"]

LOST_SHOWN_S = 120.0  # how long a lost VM still stands in the list
# Reasons that hold for the next call too: the VM gets none before its next report, which tells whether that has passed.
SHUTTING = (ReturnReason.FULL, ReturnReason.DRAINING, ReturnReason.UNHEALTHY, ReturnReason.UNREACHABLE)
NOTICE_MOVED_S = 0.5  # a deadline that differs by less from the last one told is the same: reports take time to come
STALL_S = 1.0  # ticks come four times a second: a longer gap is this process's own, not the VMs' silence


class ClusterState:
    """Decides for one controller. Not thread-safe; `now_s` must never go back."""

    def __init__(self, *, policy: Policy, strategy: Strategy, limits: ClusterLimits) -> None:
        self._policy = policy
        self._limits = limits
        self._table = VmTable()
        self._timers: Deadlines[VmId] = Deadlines()  # when to look at a VM again
        self._ticked_s: float | None = None
        self._flow = CallFlow(policy=policy, strategy=strategy, limits=limits, table=self._table)

    def handle(self, event: ClusterEvent, now_s: float) -> list[ClusterInstruction]:
        """Take in one fact. The instructions are to be carried out in order; an empty list is usual."""
        flow = self._flow
        match event:
            case ActivationArrived():
                flow.arrived(event.activation, now_s)
            case AttemptFinished():
                flow.finished(event.vm_id, event.activation_id, event.attempt, event.outcome, now_s)
            case AttemptCompleted():
                if event.cpu_s is not None:
                    flow.stories.used(event.activation_id, event.attempt, event.vm_id, event.cpu_s, now_s)
                flow.completed(event.vm_id, event.activation_id, event.attempt, now_s)
            case VmReported():
                self._reported(event, now_s)
            case FenceRaised():
                flow.fence_raised(event.activation_id, event.attempt, now_s)
            case FenceRefused():
                flow.fence_refused(event.activation_id, event.attempt, event.recorded, now_s)
            case AttemptReturned():
                self._returned(event, now_s)
            case ActivationMadeDurable():
                flow.made_durable(event.activation_id, event.running_attempt, now_s)
            case VmJoined():
                self._joined(event, now_s)
            case VmDisconnected():
                self._disconnected(event.vm_id, now_s)
            case ControllersChanged():
                self._table.controllers = max(1, event.live)
            case Ticked():
                self._tick(now_s)
            case _:
                assert_never(event)
        return flow.take_instructions(now_s)

    # -- readers

    @property
    def waiting(self) -> int:
        """Calls in the waiting room."""
        return self._flow.waiting

    @property
    def in_flight(self) -> int:
        """Calls that are not over: waiting, fencing, on a VM, or finished there with logs still to come."""
        return self._flow.in_flight

    def room_for_durable(self) -> int:
        """How many durable calls may be read from the stream now; 0 while no VM is usable, so that others read them."""
        return self._flow.room_for_durable()

    def too_large(self, memory_mb: float) -> float | None:
        """The memory in MB of the largest VM, if an action of that limit is larger than every VM; else None."""
        return self._table.too_large(memory_mb)

    def running_attempt(self, activation_id: ActivationId) -> int:
        """What a stream entry made for this call now has to name: the running attempt, or the fence; 0 = none."""
        return self._flow.running_attempt(activation_id)

    def counters(self) -> Mapping[str, int]:
        """Totals since the start by name (`placed_short_harvest`, `returned_full`, `cut_off`, ...); absent = 0.

        `evicted_calls` are those that evictions cut off at least once, `evicted_unforeseen` those of them that had been
        taken for short; how they ended: `evicted_succeeded`, `evicted_errored` (the function's own error),
        `evicted_not_idempotent`, `evicted_used_up`. The rest is under way or belongs to another controller.
        """
        return dict(self._flow.counters)

    def why(self, activation_id: ActivationId, now_s: float | None = None) -> Story | None:
        """The story of one of the last `why_kept` calls; None = not known (any more).

        The time of a call that is not over is summed up to `now_s` (None: to its last step).
        """
        return self._flow.stories.tell(activation_id, now_s)

    def vms(self, now_s: float) -> list[VmStatus]:
        """Every VM, lost ones for a while too, in the order of joining."""
        return [vm.status(now_s) for vm in self._table]

    def validate(self) -> None:
        """Raises AssertionError where what is kept contradicts itself. O(calls + VMs): for tests."""
        self._table.validate()
        self._flow.validate()

    # -- VMs: joining, reporting

    def _joined(self, event: VmJoined, now_s: float) -> None:
        vm = self._table.get(event.vm.id)
        if vm is None:
            vm = Vm(event.vm, event.report, now_s)
            vm.seq = event.report.seen  # it was known before it was forgotten: never use a number twice
            self._table.add(vm)
            self._connect(vm, event, now_s)
            self._cancel(vm, event.holds)
            return
        same = vm.info.incarnation == event.vm.incarnation
        if not same and vm.life.state is not VmState.LOST:
            self._declare_lost(vm, "its invoker was replaced by a new process", now_s, keep_link=True)
        was_lost = vm.life.state is VmState.LOST
        vm.life.advance(VmEvent.REJOINED)
        if not same:
            vm.seq = event.report.seen
            vm.unwanted.clear()
        self._connect(vm, event, now_s)
        if was_lost:  # everything there was cut off: what it still holds is wanted no more
            self._cancel(vm, event.holds)
        else:
            self._reconcile(vm, event, now_s)

    def _connect(self, vm: Vm, event: VmJoined, now_s: float) -> None:
        self._table.set_present(vm, False)
        self._set_usable(vm, False, now_s)
        if vm.info != event.vm:
            if vm.info.kind is not event.vm.kind:
                self._ring_off(vm, now_s)
            self._table.describe_anew(vm, event.vm)
        vm.connected = True
        self._take_report(vm, event.report, now_s)
        self._timers.set(vm.info.id, now_s)

    def _cancel(self, vm: Vm, holds: tuple[tuple[ActivationId, int], ...]) -> None:
        vm.unwanted.clear()
        for activation_id, attempt in holds:
            self._flow.emit(CancelAttempt(vm_id=vm.info.id, activation_id=activation_id, attempt=attempt))

    def _reconcile(self, vm: Vm, event: VmJoined, now_s: float) -> None:
        """The same process dialled again: keep what it holds of ours, move what it does not, cancel what moved."""
        held = frozenset(event.holds)
        unwanted = [
            hold for hold in event.holds if hold in vm.unwanted or self._flow.is_current(vm, *hold) is False
        ]  # a hold of a call that is over and was never cut off is an answer not recorded yet: to be left alone
        self._cancel(vm, tuple(unwanted))
        for call in list(vm.calls.values()):
            if (call.id, call.attempt) in held:
                continue
            if call.life.state is CallState.FINISHED:
                self._flow.free(call, now_s)
            elif call.seq > event.report.seen:
                self._flow.send_back(call, "the dispatch was lost with the link", now_s)
            else:
                self._flow.cut_off(call, "the link to its VM broke and the VM does not hold it any more", now_s)

    def _reported(self, event: VmReported, now_s: float) -> None:
        vm = self._table.get(event.vm_id)
        if vm is not None and vm.connected:  # else: read from a link that was given up
            self._take_report(vm, event.report, now_s)

    def _take_report(self, vm: Vm, report: VmReport, now_s: float) -> None:
        if report.capacity.memory_mb != vm.report.capacity.memory_mb:
            self._flow.passed_over.stale()
        before = vm.report.capacity.cpu_cores
        vm.take_report(report, now_s)
        if report.capacity.cpu_cores != before:
            _tell_cores(vm, CoresChange(before=before, after=report.capacity.cpu_cores), now_s)
        for activation_id, attempt, cpu_s in report.used_by:
            self._flow.stories.used(activation_id, attempt, vm.info.id, cpu_s, now_s)
        if report.notice_left_s is not None:
            self._noticed(vm, now_s + report.notice_left_s, now_s)
        elif vm.deadline_s is not None:
            vm.deadline_s, vm.deadline_passed = None, False
            self._flow.counters["notices_withdrawn"] += 1
            _tell_calls(vm, f"the eviction of {vm.info.id} was called off", now_s)
            if vm.life.state is VmState.DRAINING:
                vm.life.advance(VmEvent.WITHDRAWN)
        if not vm.deadline_passed:
            self._ring_on(vm, now_s)
        self._refresh(vm, now_s)

    def _noticed(self, vm: Vm, deadline_s: float, now_s: float) -> None:
        if vm.deadline_s is None:
            self._flow.counters["notices"] += 1
            _tell_calls(vm, f"{vm.info.id} is to be evicted in {deadline_s - now_s:.1f} s", now_s)
        elif abs(deadline_s - vm.deadline_s) > NOTICE_MOVED_S:
            _tell_calls(vm, f"the eviction of {vm.info.id} was moved: it is due in {deadline_s - now_s:.1f} s", now_s)
        if vm.life.state is VmState.UP:
            vm.life.advance(VmEvent.NOTICED)
        vm.deadline_s = deadline_s
        if deadline_s > now_s:
            vm.deadline_passed = False  # moved to later
        self._timers.set(vm.info.id, min(deadline_s, now_s + self._limits.lost_after_s))

    def _returned(self, event: AttemptReturned, now_s: float) -> None:
        call = self._flow.current(event.vm_id, event.activation_id, event.attempt)
        if call is None or call.vm is None:
            return
        vm = call.vm
        call.hide(vm, for_good=event.reason is ReturnReason.UNSUPPORTED)
        if event.reason in SHUTTING:
            vm.shut = True
            self._refresh(vm, now_s)
        self._flow.counters[f"returned_{event.reason.name.lower()}"] += 1
        self._flow.send_back(call, event.reason.value, now_s, event.waits)

    # -- VMs: silence, loss, eviction

    def _disconnected(self, vm_id: VmId, now_s: float) -> None:
        vm = self._table.get(vm_id)
        if vm is None or not vm.connected:
            return
        vm.life.advance(VmEvent.DISCONNECTED)
        vm.connected = False
        vm.disconnected_s = now_s
        self._refresh(vm, now_s)
        self._timers.set(vm_id, now_s + min(self._limits.reconnect_grace_s, self._limits.lost_after_s))

    def _tick(self, now_s: float) -> None:
        if self._ticked_s is not None and now_s - self._ticked_s > STALL_S:
            # This process did not run, so nobody was heard: the VMs are not to be blamed for that time.
            for vm in self._table:
                vm.heard_s = min(now_s, vm.heard_s + now_s - self._ticked_s)
                vm.disconnected_s = min(now_s, vm.disconnected_s + now_s - self._ticked_s)
        self._ticked_s = now_s
        for vm_id in self._timers.due(now_s):
            due = self._table.get(vm_id)
            if due is not None:
                self._look_at(due, now_s)
        self._flow.tick(now_s)

    def _look_at(self, vm: Vm, now_s: float) -> None:
        """Do what time alone has made due for this VM, and set the timer for the next such moment."""
        limits = self._limits
        if vm.life.state is not VmState.LOST:
            if vm.deadline_s is not None and vm.deadline_s <= now_s and not vm.deadline_passed:
                self._deadline(vm, now_s)
            if not vm.connected and now_s - vm.disconnected_s >= limits.reconnect_grace_s:
                self._declare_lost(vm, "its link closed and it did not come back", now_s)
            elif now_s - vm.heard_s >= limits.lost_after_s:
                self._declare_lost(vm, f"it said nothing for {now_s - vm.heard_s:.1f} s", now_s)
        if vm.on_ring and now_s - vm.heard_s >= limits.off_ring_after_s:
            self._ring_off(vm, now_s)
        if vm.life.state is VmState.LOST and now_s - vm.lost_s >= LOST_SHOWN_S:
            self._ring_off(vm, now_s)
            vm.life.advance(VmEvent.FORGOTTEN)
            self._table.remove(vm)
            self._flow.passed_over.stale()
            return
        self._timers.set(vm.info.id, self._next_look(vm, now_s))

    def _next_look(self, vm: Vm, now_s: float) -> float:
        limits = self._limits
        moments = [vm.heard_s + limits.off_ring_after_s] if vm.on_ring else []
        if vm.life.state is VmState.LOST:
            moments.append(vm.lost_s + LOST_SHOWN_S)
        else:
            moments.append(vm.heard_s + limits.lost_after_s)
            if not vm.connected:
                moments.append(vm.disconnected_s + limits.reconnect_grace_s)
            if vm.deadline_s is not None and not vm.deadline_passed:
                moments.append(vm.deadline_s)
        return max(now_s, min(moments))

    def _deadline(self, vm: Vm, now_s: float) -> None:
        """The announced eviction is due: what runs there starts elsewhere now, not when the silence is noticed."""
        self._count_eviction(vm)
        self._ring_off(vm, now_s)
        for call in _running(vm):
            self._flow.cut_off(call, f"{vm.info.id} was evicted while it ran", now_s, evicted=True)

    def _count_eviction(self, vm: Vm) -> None:
        vm.deadline_passed = True
        self._flow.counters["evictions"] += 1
        if _running(vm):
            self._flow.counters["evictions_with_loss"] += 1

    def _declare_lost(self, vm: Vm, cause: str, now_s: float, *, keep_link: bool = False) -> None:
        evicted = vm.deadline_s is not None
        if evicted and not vm.deadline_passed:  # it went a little before its time
            self._count_eviction(vm)
        vm.life.advance(VmEvent.DECLARED_LOST)
        vm.connected = False
        vm.lost_s = now_s
        self._flow.counters["vms_lost"] += 1
        self._refresh(vm, now_s)
        self._flow.emit(DeclareLost(vm_id=vm.info.id, keep_link=keep_link))
        for call in list(vm.calls.values()):
            if call.life.state is CallState.FINISHED:
                self._flow.free(call, now_s)  # answered: its record is the dispatcher's to write
            else:
                self._flow.cut_off(call, f"{vm.info.id} was lost while it ran: {cause}", now_s, evicted=evicted)

    # -- VMs: what policies are told

    def _refresh(self, vm: Vm, now_s: float) -> None:
        """Bring usability up to date with everything it depends on."""
        self._table.set_present(vm, vm.connected and vm.life.state is VmState.UP)
        self._set_usable(vm, vm.on_ring and vm.could_be_used(), now_s)
        if vm.usable:
            self._flow.room_may_have_appeared()

    def _set_usable(self, vm: Vm, usable: bool, now_s: float) -> None:
        if not (usable and vm.usable):
            self._flow.passed_over.stale()
        if self._table.set_usable(vm, usable) and vm.on_ring:
            self._policy.vm_usable(vm.info.id, usable, now_s)

    def _ring_on(self, vm: Vm, now_s: float) -> None:
        if not vm.on_ring:
            vm.on_ring = True
            self._policy.vm_joined(vm.info.id, vm.info.kind, now_s)
            self._policy.vm_usable(vm.info.id, vm.usable, now_s)

    def _ring_off(self, vm: Vm, now_s: float) -> None:
        if vm.on_ring:
            self._set_usable(vm, False, now_s)
            vm.on_ring = False
            self._policy.vm_left(vm.info.id, now_s)


def _tell_calls(vm: Vm, note: str, now_s: float) -> None:
    """Into the stories of all calls on the VM."""
    for call in vm.calls.values():
        call.log.add(now_s, StepKind.NOTICE, vm.info.id, note)


def _tell_cores(vm: Vm, change: CoresChange, now_s: float) -> None:
    for call in vm.calls.values():
        if call.life.state is CallState.DISPATCHED:
            call.log.add(now_s, StepKind.CORES, vm.info.id, "", change)


def _running(vm: Vm) -> list[Call]:
    return [call for call in vm.calls.values() if call.life.state is CallState.DISPATCHED]
