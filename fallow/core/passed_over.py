"""Which VMs a placement could not look at, and why: draining, full, lost, or closed to this very call.

The list of VMs that nobody may use is the same for every call until a VM changes, so it is made once and kept; asking
for it costs nothing while every VM is usable.
"""

from __future__ import annotations

from fallow.core.calls import Call
from fallow.core.lifecycle import VmState
from fallow.core.placement import PassedOver
from fallow.core.vm_table import Vm, VmTable

KEPT = 16  # VMs a placement tells of


class PassedOverVms:
    """Reads the table; `stale` is to be called whenever a VM's usability, or the reason for it, may have changed."""

    def __init__(self, table: VmTable) -> None:
        self._table = table
        self._unusable: tuple[PassedOver, ...] | None = None

    def stale(self) -> None:
        self._unusable = None

    def unusable(self) -> tuple[PassedOver, ...]:
        """The first KEPT VMs that no call may use now. O(1) unless stale, else O(VMs)."""
        if self._unusable is None:
            found = [_passed(vm, why_unusable(vm)) for vm in self._table if not vm.usable]
            self._unusable = tuple(found[:KEPT])
        return self._unusable

    def closed_to(self, call: Call) -> tuple[PassedOver, ...]:
        """With those, the usable VMs that this call may not use. O(VMs): for calls that were given back, and where VMs
        of one kind offer different runtimes."""
        spec = call.activation.action
        found = list(self.unusable())
        for vm in self._table:
            if not vm.usable or len(found) >= KEPT:
                continue
            if call.hidden(vm):
                found.append(_passed(vm, "gave this call back and has not reported since"))
            elif spec.kind not in vm.info.runtimes:
                found.append(_passed(vm, f"does not offer {spec.kind}"))
        return tuple(found)


def why_unusable(vm: Vm) -> str:
    """The first thing that stands in the way, as a clause; judged by its state and last report."""
    report = vm.report
    if vm.life.state is VmState.LOST:
        return "is lost"
    if vm.deadline_passed:
        return "is being evicted"
    if vm.deadline_s is not None:
        return "is draining: its eviction is announced"
    if not vm.connected:
        return "is not linked to this controller now"
    if vm.shut:
        return "has just given a call back and has not reported since"
    if not report.healthy:
        return f"is not healthy: {report.health_note}" if report.health_note else "is not healthy"
    if report.full:
        return "has a full queue"
    if report.capacity.cpu_cores <= 0:
        return "has no cores"
    return "is silent"


def _passed(vm: Vm, why: str) -> PassedOver:
    return PassedOver(vm_id=vm.info.id, kind=vm.info.kind, why=why)
