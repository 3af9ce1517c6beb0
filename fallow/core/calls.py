"""One call as its controller tracks it, from arrival to the end."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fallow.core.lifecycle import CallLifecycle
from fallow.core.model import Activation, Outcome, VmId
from fallow.core.why import StepKind, StoryLog

if TYPE_CHECKING:
    from fallow.core.vm_table import Vm


class Call:
    """Mutable, owned by `ClusterState` alone."""

    __slots__ = (
        "activation",
        "arrived_s",
        "asked_expect",
        "attempt",
        "avoid",
        "booked_cpu",
        "booked_mb",
        "dispatched_s",
        "dispatches",
        "evictions",
        "fence",
        "id",
        "life",
        "log",
        "outcome",
        "seq",
        "vm",
        "waits_since_s",
    )

    def __init__(self, activation: Activation, now_s: float) -> None:
        self.id = activation.id
        self.activation = activation
        self.arrived_s = now_s
        self.life = CallLifecycle()
        self.log = StoryLog(activation, now_s)
        self.attempt = 0  # the attempt that runs, or is next to start
        self.fence = activation.attempts  # as far as this controller knows it; 0 = absent
        self.asked_expect = 0  # of the RaiseFence that is out
        self.vm: Vm | None = None  # where it is booked
        self.seq = 0  # the number of its dispatch there
        self.booked_cpu = 0.0
        self.booked_mb = 0.0
        self.dispatches = 0
        self.dispatched_s = 0.0  # when, the last time
        self.evictions = 0  # attempts that evictions cut off
        self.outcome: Outcome | None = None  # the accepted one, until the slot is free
        self.waits_since_s = 0.0
        # VMs hidden from it: while they stand at this number of reports, or while this incarnation lives
        self.avoid: dict[VmId, int | str] | None = None

    def number(self, attempt: int) -> None:
        """Make this the attempt that starts next."""
        self.attempt = self.log.attempt = attempt

    @property
    def needs_fence(self) -> bool:
        """Must the fence be raised before this attempt starts? Only a first attempt outside the stream needs none."""
        if self.attempt == 1 and not self.activation.durable:
            return False
        return self.fence != self.attempt

    def make_durable(self, now_s: float) -> None:
        self.activation = replace(self.activation, durable=True)
        self.log.durable = True
        self.log.add(now_s, StepKind.DURABLE, self.vm.info.id if self.vm else None)

    def hide(self, vm: Vm, *, for_good: bool) -> None:
        """Do not place it on this VM before the VM's next report, or (`for_good`) as long as its invoker lives."""
        if self.avoid is None:
            self.avoid = {}
        self.avoid[vm.info.id] = vm.info.incarnation if for_good else vm.reports

    def hidden(self, vm: Vm) -> bool:
        at = None if self.avoid is None else self.avoid.get(vm.info.id)
        return at is not None and at in (vm.info.incarnation, vm.reports)
