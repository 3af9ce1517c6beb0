"""Which VMs a placement could not look at, and why: draining, full, lost, or closed to this very call.

For most calls the list is the same until a VM changes, so it is made once and kept.
"""

from __future__ import annotations

from fallow.core.cluster.bookings import Call, Vm
from fallow.core.cluster.vm_table import VmTable
from fallow.core.lifecycle import VmState
from fallow.core.why.placement import PassedOver

KEPT = 16  # VMs a placement tells of


class PassedOverVms:
    """Reads the table; `stale` is to be called whenever a VM's usability, or the reason for it, may have changed."""

    def __init__(self, table: VmTable) -> None:
        self._table = table
        self._kept: dict[tuple[str, int], tuple[PassedOver, ...]] = {}  # by runtime and memory; no VM hidden

    def stale(self) -> None:
        self._kept.clear()

    def by(self, call: Call) -> tuple[PassedOver, ...]:
        """The first KEPT VMs that the call may not be given to now, unusable ones first.

        O(1) unless stale; O(VMs) for a call that a VM gave back.
        """
        if call.avoid is not None:
            return self._found(call)
        action = call.activation.action
        key = (action.kind, action.memory_mb)
        known = self._kept.get(key)
        if known is None:
            known = self._kept[key] = self._found(call)
        return known

    def _found(self, call: Call) -> tuple[PassedOver, ...]:
        runtime, memory_mb = call.activation.action.kind, call.activation.action.memory_mb
        found = [_passed(vm, why_unusable(vm)) for vm in self._table if not vm.usable]
        for vm in self._table:
            if vm.usable and call.hidden(vm):
                found.append(_passed(vm, "gave this call back and has not reported since"))
            elif vm.usable and runtime not in vm.info.runtimes:
                found.append(_passed(vm, f"does not offer {runtime}"))
            elif vm.usable and not vm.holds(memory_mb):
                found.append(_passed(vm, f"has {vm.report.capacity.memory_mb:g} MB, less than the action's limit"))
        return tuple(found[:KEPT])


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
