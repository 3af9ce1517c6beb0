"""The calls that wait for a VM: who goes first, who may not wait, who has waited too long."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fallow.core.cluster.bookings import Call
from fallow.core.cluster.deadlines import Deadlines
from fallow.core.cluster.limits import ClusterLimits
from fallow.core.cluster.placing import Placer
from fallow.core.cluster.vm_table import VmTable
from fallow.core.cluster.waiting import WaitingRoom
from fallow.core.lifecycle import CallState
from fallow.core.model import ActivationId, RefusalReason

# One pass over the waiting room: enough that no freed slot stays unused until the next event, few enough that a pass
# costs microseconds. Calls sent in one pass have not been seen by their VMs yet, so more at once would only overfill.
TRIES, TAKES = 8, 64
LOOK_S = 1.0  # how often a waiting call is looked at for having waited too long


class Queue:
    """Two waiting rooms. Calls that were placed before, and durable ones, are exempt from the bounds and go first."""

    def __init__(self, *, limits: ClusterLimits, table: VmTable, placer: Placer) -> None:
        self._limits = limits
        self._table = table
        self._placer = placer
        self._urgent: WaitingRoom[Call] = WaitingRoom()
        self._room: WaitingRoom[Call] = WaitingRoom()
        self._looks: Deadlines[ActivationId] = Deadlines(grain_s=0.5)
        self._absent_since_s: float | None = None  # since when no VM at all is there

    def __iter__(self) -> Iterator[Call]:
        yield from self._urgent
        yield from self._room

    @property
    def count(self) -> int:
        return self._urgent.count + self._room.count

    @property
    def urgent_count(self) -> int:
        return self._urgent.count

    def must_wait(self, call: Call) -> bool:
        """Do others of its action wait already? Then it may not overtake them."""
        spec = call.activation.action
        return self._room_for(call).holds_action(spec.caller_namespace, spec.container_key)

    def is_full_for(self, call: Call) -> bool:
        room, limits = self._room_for(call), self._limits
        if room is self._urgent:
            return False
        too_many = room.count >= limits.waiting_calls
        return too_many or room.size_bytes + call.activation.payload_bytes > limits.waiting_bytes

    def add(self, call: Call, now_s: float) -> None:
        spec = call.activation.action
        call.waits_since_s = now_s
        room = self._room_for(call)
        room.add(call.id, spec.caller_namespace, spec.container_key, call.activation.payload_bytes, call)
        self._look_again(call, now_s + min(self._limits.no_vm_wait_s, self._limits.max_wait_s))

    def remove(self, call: Call) -> None:
        """Raises KeyError if it does not wait."""
        (self._urgent if call.id in self._urgent else self._room).remove(call.id)
        self._looks.drop(call.id)

    def never_refuse(self, call: Call) -> None:
        """It was accepted for good."""
        self._looks.drop(call.id)

    def offer(self, take: Callable[[Call], bool]) -> None:
        """Offer room to a bounded number of calls in turn; `take` places one and says so, or leaves it as it is."""

        def take_and_stop_looking(call: Call) -> bool:
            taken = take(call)
            if taken:
                self._looks.drop(call.id)
            return taken

        for room in (self._urgent, self._room):
            if room.count and self._table.any_usable:
                room.offer(take_and_stop_looking, tries=TRIES, takes=TAKES)

    def take_out_overdue(self, now_s: float) -> list[tuple[Call, RefusalReason]]:
        """Remove the calls that have waited too long, with the reason why none could take them. Asked at every tick."""
        if self._table.any_present:
            self._absent_since_s = None
        elif self._absent_since_s is None:
            self._absent_since_s = now_s
        overdue: list[tuple[Call, RefusalReason]] = []
        for activation_id in self._looks.due(now_s):
            call = self._room.get(activation_id) or self._urgent.get(activation_id)
            if call is None:
                continue
            reason = self._verdict(call, now_s)
            if reason is None:
                self._look_again(call, min(now_s + LOOK_S, call.waits_since_s + self._limits.max_wait_s))
            else:
                self.remove(call)
                overdue.append((call, reason))
        return overdue

    def _verdict(self, call: Call, now_s: float) -> RefusalReason | None:
        limits = self._limits
        waited_s = now_s - call.waits_since_s
        if waited_s >= limits.max_wait_s:
            return RefusalReason.WAITED
        if waited_s < limits.no_vm_wait_s:
            return None
        reason = self._placer.missing(call.activation.action)
        if reason is RefusalReason.NO_VM and not self._absent_for(limits.no_vm_wait_s, now_s):
            return None
        return reason

    def _absent_for(self, span_s: float, now_s: float) -> bool:
        return self._absent_since_s is not None and now_s - self._absent_since_s >= span_s

    def _look_again(self, call: Call, at_s: float) -> None:
        # A durable call was accepted for good, and a call that was started must not end as if it never was.
        if not call.activation.durable and call.attempt == 1:
            self._looks.set(call.id, at_s)

    def _room_for(self, call: Call) -> WaitingRoom[Call]:
        urgent = call.activation.durable or call.dispatches or call.attempt > 1
        return self._urgent if urgent else self._room

    def validate(self) -> None:
        """Raises AssertionError where a call waits twice or in another state. For tests."""
        ids = [call.id for call in self]
        assert len(ids) == len(set(ids)) == self.count, "a call waits twice"
        for call in self:
            assert call.life.state is CallState.WAITING, f"{call.id} waits in state {call.life.state}"
        for room in (self._urgent, self._room):
            size = sum(call.activation.payload_bytes for call in room)
            assert size == room.size_bytes, f"waiting calls hold {size} bytes, {room.size_bytes} were counted"
