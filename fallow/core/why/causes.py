"""Where a call's time went: the causes, and how the time on a VM falls to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from fallow.core.attempt_waits import AttemptWaits
from fallow.core.model import Outcome


class Cause(StrEnum):
    """What a call's time was spent on, from its acceptance to its answer. The order is that of a call's way."""

    BEFORE = "before"  # accepted, and not yet taken up by the controller that tells
    ROOM = "waiting_room"  # in the controller, since no VM could take it
    STORE = "store"  # for the store's word that this attempt may start (the fence)
    WAY = "way"  # controller to VM and back, and what neither side measured
    VM_CPU = "vm_queue_cpu"
    VM_MEMORY = "vm_queue_memory"
    VM_STARTS = "vm_queue_starts"
    SHRINK = "vm_queue_shrink"
    START = "container_start"
    VM_OTHER = "vm_other"  # in the VM, and not told apart: hand-over, fetching code, or a VM that does not tell
    INIT = "init"
    RUN = "run"
    CUT_OFF = "cut_off"  # in attempts that were cut off
    ON_VM = "on_vm_so_far"  # of an attempt that is not over: its VM has not told yet

    __hash__ = str.__hash__  # Enum's own is Python code


@dataclass(slots=True)
class Spent:
    """Seconds by cause; causes of no time are absent. All are positive."""

    by_cause: dict[Cause, float] = field(default_factory=dict)
    disagreed_s: float = 0.0  # by so much VMs measured more than the controller saw pass

    @property
    def total_s(self) -> float:
        return sum(self.by_cause.values())

    def add(self, cause: Cause, span_s: float) -> None:
        if span_s > 0:
            self.by_cause[cause] = self.by_cause.get(cause, 0.0) + span_s

    def add_on_vm(self, span_s: float, outcome: Outcome | None, waits: AttemptWaits | None) -> None:
        """The span from a dispatch to its end here, which the VM measured in parts; the rest was on the way.

        Two clocks measure: where the VM's parts exceed the span they are scaled to it, and the excess is noted.
        """
        parts = on_vm(outcome, waits)
        measured_s = sum(parts.values())
        scale = 1.0
        if measured_s > span_s:
            self.disagreed_s += measured_s - span_s
            scale = span_s / measured_s
        for cause, part_s in parts.items():
            self.add(cause, part_s * scale)
        if scale == 1.0:
            self.add(Cause.WAY, span_s - measured_s)

    def copy(self) -> Spent:
        return Spent(dict(self.by_cause), self.disagreed_s)


def on_vm(outcome: Outcome | None, waits: AttemptWaits | None) -> dict[Cause, float]:
    """What the VM measured of one attempt; without an outcome the attempt never started. Nothing is negative."""
    parts = {}
    if waits is not None:
        parts = {
            Cause.VM_CPU: waits.cpu_s,
            Cause.VM_MEMORY: waits.memory_s,
            Cause.VM_STARTS: waits.starts_s,
            Cause.SHRINK: waits.shrink_s,
            Cause.START: waits.start_s,
        }
    if outcome is not None:
        parts[Cause.VM_OTHER] = max(0.0, outcome.wait_s - sum(parts.values()))
        parts[Cause.INIT] = outcome.init_s or 0.0
        parts[Cause.RUN] = outcome.run_s
    return parts
