"""A call as its controller tracks it, from arrival to the end, and a VM it is booked on: each refers to the other."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fallow.core.lifecycle import CallLifecycle, VmLifecycle, VmState
from fallow.core.model import Activation, ActivationId, Outcome, Resources, VmId, VmInfo, VmReport
from fallow.core.policies.base import VmView
from fallow.core.why.story import StepKind, StoryLog

UNWANTED_KEPT = 4096  # cut-off attempts remembered a VM, to cancel them if it still holds them when it dials again


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
        "long",
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
        self.long = False  # what the strategy took it for then
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


@dataclass(frozen=True, slots=True, kw_only=True)
class VmStatus:
    """One VM as an operator sees it."""

    info: VmInfo
    state: VmState
    usable: bool
    connected: bool
    report: VmReport  # its last one
    notice_left_s: float | None  # counted down to now
    in_flight: int  # this controller's calls there
    booked: Resources  # of those, what no report includes yet
    heard_ago_s: float


class Vm:
    """Mutable, owned by `ClusterState` alone."""

    __slots__ = (
        "booked_cpu",
        "booked_mb",
        "calls",
        "connected",
        "deadline_passed",
        "deadline_s",
        "disconnected_s",
        "extra_cpu",
        "extra_mb",
        "heard_s",
        "info",
        "life",
        "lost_s",
        "on_ring",
        "placed_names",
        "present",
        "report",
        "reports",
        "seq",
        "shut",
        "unseen",
        "unwanted",
        "usable",
        "view",
    )

    def __init__(self, info: VmInfo, report: VmReport, now_s: float) -> None:
        self.info = info
        self.placed_names = (f"placed_short_{info.kind}", f"placed_long_{info.kind}")  # counters of calls placed here
        self.life = VmLifecycle()
        self.report = report
        self.reports = 0  # counts them
        self.connected = False
        self.heard_s = now_s
        self.disconnected_s = now_s
        self.lost_s = now_s
        self.deadline_s: float | None = None  # of the announced eviction
        self.deadline_passed = False  # and what ran there has been cut off
        self.shut = False  # gave a call back: not usable before its next report
        self.present = False  # up and connected, with room or without
        self.usable = False
        self.on_ring = False
        self.seq = 0  # dispatches so far
        self.calls: dict[ActivationId, Call] = {}  # booked here: dispatched or finished, not yet free
        self.unseen: dict[int, Call] = {}  # of those, by seq, the ones no report includes yet
        self.extra_cpu = 0.0  # sums over `unseen`
        self.extra_mb = 0.0
        self.booked_cpu = 0.0  # sums over `calls`
        self.booked_mb = 0.0
        self.unwanted: dict[tuple[ActivationId, int], None] = {}  # cut-off attempts it may still run
        self.view: VmView | None = None  # cached until something in it changes

    def book(self, call: Call, cpu_cores: float, memory_mb: float) -> int:
        """Count the call here and return its dispatch number."""
        self.seq += 1
        call.vm, call.seq, call.booked_cpu, call.booked_mb = self, self.seq, cpu_cores, memory_mb
        self.calls[call.id] = call
        self.unseen[self.seq] = call
        self.extra_cpu += cpu_cores
        self.extra_mb += memory_mb
        self.booked_cpu += cpu_cores
        self.booked_mb += memory_mb
        self.view = None
        return self.seq

    def release(self, call: Call) -> None:
        """Give back what the call holds here. It is on no VM afterwards."""
        del self.calls[call.id]
        if self.calls:
            self.booked_cpu -= call.booked_cpu
            self.booked_mb -= call.booked_mb
        else:  # exactly nothing is left: no rounding error may pile up
            self.booked_cpu = self.booked_mb = 0.0
        if self.unseen.pop(call.seq, None) is not None:
            self._uncount(call)
        call.vm = None
        self.view = None

    def take_report(self, report: VmReport, now_s: float) -> None:
        """Bookings up to the dispatch that the report had seen are in its figures: they count no longer on top."""
        self.report = report
        self.reports += 1
        self.heard_s = now_s
        self.shut = False
        self.view = None
        while self.unseen:
            seq = next(iter(self.unseen))
            if seq > report.seen:
                break
            self._uncount(self.unseen.pop(seq))

    def _uncount(self, call: Call) -> None:
        if self.unseen:
            self.extra_cpu -= call.booked_cpu
            self.extra_mb -= call.booked_mb
        else:  # exactly nothing, as in `release`
            self.extra_cpu = self.extra_mb = 0.0

    def disown(self, call: Call) -> None:
        """Remember that the call's present attempt is not wanted here any more."""
        self.unwanted[call.id, call.attempt] = None
        if len(self.unwanted) > UNWANTED_KEPT:
            del self.unwanted[next(iter(self.unwanted))]

    def could_be_used(self) -> bool:
        """Judged by its state and last report alone."""
        return (
            self.present
            and not self.shut
            and self.report.healthy
            and not self.report.full
            and self.report.capacity.cpu_cores > 0
        )

    def holds(self, memory_mb: float) -> bool:
        """Has it that much memory, taken or free?"""
        return self.report.capacity.memory_mb >= memory_mb

    def as_view(self) -> VmView:
        if self.view is None:
            info, report = self.info, self.report
            self.view = VmView(
                id=info.id,
                kind=info.kind,
                speed=info.speed,
                price=info.price,
                capacity=report.capacity,
                used=Resources(
                    cpu_cores=report.used.cpu_cores + self.extra_cpu, memory_mb=report.used.memory_mb + self.extra_mb
                ),
                booked=Resources(cpu_cores=self.booked_cpu, memory_mb=self.booked_mb),
                in_flight=len(self.calls),
                queued=report.queued,
                usable=self.usable,
                runtimes=info.runtimes,
            )
        return self.view

    def status(self, now_s: float) -> VmStatus:
        return VmStatus(
            info=self.info,
            state=self.life.state,
            usable=self.usable,
            connected=self.connected,
            report=self.report,
            notice_left_s=None if self.deadline_s is None else max(0.0, self.deadline_s - now_s),
            in_flight=len(self.calls),
            booked=Resources(cpu_cores=self.extra_cpu, memory_mb=self.extra_mb),
            heard_ago_s=now_s - self.heard_s,
        )
