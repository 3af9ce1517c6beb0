"""The controller's VMs: what each last said, what this controller booked there, and how policies see them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from fallow.core.cluster.bookings import Call, Vm
from fallow.core.lifecycle import CallState, VmState
from fallow.core.model import VmId, VmInfo, VmKind
from fallow.core.policies.base import VmView
from fallow.core.ring import Ring


class VmTable:
    """All VMs that are not gone. As a `ClusterView` it shows what policies may know."""

    def __init__(self) -> None:
        self._vms: dict[VmId, Vm] = {}
        self._rings = {kind: Ring() for kind in VmKind}
        self._usable: Counter[tuple[VmKind, str]] = Counter()  # by kind and runtime offered
        self._present: Counter[tuple[VmKind, str]] = Counter()
        self._usable_of: Counter[VmKind] = Counter()
        self._present_of: Counter[VmKind] = Counter()
        self.controllers = 1

    def __iter__(self) -> Iterator[Vm]:
        return iter(self._vms.values())

    def get(self, vm_id: VmId) -> Vm | None:
        return self._vms.get(vm_id)

    def known(self, vm_id: VmId) -> Vm:
        """Raises KeyError if it is gone."""
        return self._vms[vm_id]

    def add(self, vm: Vm) -> None:
        self._vms[vm.info.id] = vm
        self._rings[vm.info.kind].add(vm.info.id)

    def remove(self, vm: Vm) -> None:
        """Forget a VM, which must be neither present nor usable."""
        del self._vms[vm.info.id]
        self._rings[vm.info.kind].remove(vm.info.id)

    def describe_anew(self, vm: Vm, info: VmInfo) -> None:
        """Take over what a VM says of itself when it joins again. It must be neither present nor usable."""
        self._rings[vm.info.kind].remove(vm.info.id)
        vm.info = info
        vm.placed_names = (f"placed_short_{info.kind}", f"placed_long_{info.kind}")
        vm.view = None
        self._rings[info.kind].add(info.id)

    # -- ClusterView

    def vm(self, vm_id: VmId) -> VmView:
        return self._vms[vm_id].as_view()

    def vm_ids(self, kind: VmKind) -> Sequence[VmId]:
        return self._rings[kind].ids

    # -- flags, and how many VMs have them

    def set_present(self, vm: Vm, present: bool) -> None:
        if present != vm.present:
            vm.present = present
            _count(self._present, self._present_of, vm, 1 if present else -1)

    def set_usable(self, vm: Vm, usable: bool) -> bool:
        """True if that was news."""
        if usable == vm.usable:
            return False
        vm.usable = usable
        vm.view = None
        _count(self._usable, self._usable_of, vm, 1 if usable else -1)
        return True

    def usable(self, kind: VmKind, runtime: str) -> int:
        """How many VMs of the kind may be given a call of that runtime now."""
        return self._usable[kind, runtime]

    def present(self, kind: VmKind, runtime: str) -> int:
        """How many are up and connected and offer the runtime, with room or without."""
        return self._present[kind, runtime]

    @property
    def any_present(self) -> bool:
        return any(self._present_of.values())

    @property
    def any_usable(self) -> bool:
        return any(self._usable_of.values())

    def too_large(self, memory_mb: float) -> float | None:
        """The memory of the largest VM that is not lost, if that is less; None also where there is no VM.

        O(1) where the first VM is large enough; O(VMs) at worst.
        """
        largest_mb = 0.0
        for vm in self:
            if vm.life.state is not VmState.LOST:
                if vm.holds(memory_mb):
                    return None
                largest_mb = max(largest_mb, vm.report.capacity.memory_mb)
        return largest_mb or None

    def all_offer(self, kind: VmKind, runtime: str) -> bool:
        """Does every usable VM of the kind offer the runtime? The usual case, which spares a hiding view."""
        return self._usable[kind, runtime] == self._usable_of[kind]

    # -- invariants

    def validate(self) -> None:
        """Raises AssertionError where a sum or a count is not what the VMs say. For tests."""
        for name, counts in (("usable", self._usable), ("present", self._present)):
            fresh: Counter[tuple[VmKind, str]] = Counter()
            for vm in self:
                if getattr(vm, name):
                    fresh.update((vm.info.kind, runtime) for runtime in dict.fromkeys(vm.info.runtimes))
            assert fresh == +counts, f"{name}: counted {dict(+counts)}, are {dict(fresh)}"
        for vm in self:
            unseen = [c for c in vm.calls.values() if c.seq > vm.report.seen]
            assert sorted(vm.unseen) == sorted(c.seq for c in unseen), f"{vm.info.id}: unseen bookings differ"
            assert abs(vm.extra_cpu - sum(c.booked_cpu for c in unseen)) < 1e-6, f"{vm.info.id}: CPU bookings differ"
            assert abs(vm.extra_mb - sum(c.booked_mb for c in unseen)) < 1e-3, f"{vm.info.id}: memory bookings differ"
            cpu, memory_mb = (sum(getattr(c, name) for c in vm.calls.values()) for name in ("booked_cpu", "booked_mb"))
            assert abs(vm.booked_cpu - cpu) < 1e-6, f"{vm.info.id}: CPU of the calls in flight differs"
            assert abs(vm.booked_mb - memory_mb) < 1e-3, f"{vm.info.id}: memory of the calls in flight differs"
            for call in vm.calls.values():
                assert call.vm is vm, f"{call.id} is booked on {vm.info.id} and knows nothing of it"
                assert call.life.state in (CallState.DISPATCHED, CallState.FINISHED), f"{call.id}: {call.life.state}"
            assert not vm.usable or vm.could_be_used(), f"{vm.info.id} is usable and should not be"
            assert not vm.usable or (vm.on_ring and vm.life.state is VmState.UP), f"{vm.info.id} is usable off the ring"
            view = vm.as_view()
            assert view.usable == vm.usable, f"{vm.info.id}: stale view"
            assert view.in_flight == len(vm.calls), f"{vm.info.id}: stale view"
            assert (view.booked.cpu_cores, view.booked.memory_mb) == (vm.booked_cpu, vm.booked_mb), "stale view"


class HidingView:
    """The table as one call sees it: VMs that may not take it look unusable."""

    __slots__ = ("_call", "_table")

    def __init__(self, table: VmTable, call: Call) -> None:
        self._table = table
        self._call = call

    @property
    def controllers(self) -> int:
        return self._table.controllers

    def vm_ids(self, kind: VmKind) -> Sequence[VmId]:
        return self._table.vm_ids(kind)

    def vm(self, vm_id: VmId) -> VmView:
        view = self._table.vm(vm_id)
        vm = self._table.get(vm_id)
        assert vm is not None
        if view.usable and not may_take(vm, self._call):
            return replace(view, usable=False)
        return view


def may_take(vm: Vm, call: Call) -> bool:
    """Is the VM usable and large enough, does it offer the runtime, and has it not just given this call back?"""
    spec = call.activation.action
    return vm.usable and spec.kind in vm.info.runtimes and vm.holds(spec.memory_mb) and not call.hidden(vm)


def _count(by_runtime: Counter[tuple[VmKind, str]], by_kind: Counter[VmKind], vm: Vm, change: int) -> None:
    by_kind[vm.info.kind] += change
    for runtime in dict.fromkeys(vm.info.runtimes):
        by_runtime[vm.info.kind, runtime] += change
