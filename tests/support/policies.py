"""What the tests of placement policies share: a cluster of plain views, and calls."""

from __future__ import annotations

from collections.abc import Sequence

from fallow.core.model import ActionSpec, Activation, ActivationId, Resources, VmId, VmKind
from fallow.core.policies.base import VmView
from fallow.core.ring import position_of

PYTHON = "python:3"


class FakeCluster:
    """A ClusterView over plain VmViews."""

    def __init__(self, vms: Sequence[VmView], controllers: int = 1) -> None:
        self.views = {vm.id: vm for vm in vms}
        self.controllers = controllers
        self.looked_at: list[VmId] = []

    def vm(self, vm_id: VmId) -> VmView:
        self.looked_at.append(vm_id)
        return self.views[vm_id]

    def vm_ids(self, kind: VmKind) -> Sequence[VmId]:
        return sorted((i for i, vm in self.views.items() if vm.kind is kind), key=lambda i: (position_of(i), i))


def make_vm(
    name: str,
    *,
    cores: float = 8.0,
    used: float = 0.0,
    memory_mb: float = 8192.0,
    used_mb: float = 0.0,
    usable: bool = True,
    kind: VmKind = VmKind.HARVEST,
    runtimes: tuple[str, ...] = (PYTHON,),
    booked: float = 0.0,
    booked_mb: float = 0.0,
) -> VmView:
    return VmView(
        id=VmId(name),
        kind=kind,
        speed=1.0,
        price=1.0,
        capacity=Resources(cpu_cores=cores, memory_mb=memory_mb),
        used=Resources(cpu_cores=used, memory_mb=used_mb),
        booked=Resources(cpu_cores=booked, memory_mb=booked_mb),
        in_flight=0,
        queued=0,
        usable=usable,
        runtimes=runtimes,
    )


def make_call(name: str = "f", memory_mb: int = 256) -> Activation:
    spec = ActionSpec(namespace="ns", name=name, version="0.0.1", revision="1", kind=PYTHON, memory_mb=memory_mb)
    return Activation(id=ActivationId("0" * 32), action=spec, blocking=True)
