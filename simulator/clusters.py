"""Clusters of VMs: the published evaluation's, and generated ones of any size."""

from __future__ import annotations

from fallow.core.model import VmId, VmKind
from fallow.traces.vms import Life
from simulator.model import SimVm

MEMORY_MB = 16 * 1024.0
NORMAL = (26, 24, 15, 28, 16, 18, 20, 22, 5, 6)  # cores of the published evaluation's "Normal" cluster
DEDICATED = (18,) * 10


def constant(cores: tuple[int, ...], kind: VmKind = VmKind.HARVEST, memory_mb: float = MEMORY_MB) -> list[SimVm]:
    """VMs that keep their cores and are never evicted."""
    return [
        SimVm(
            kind=kind,
            memory_mb=memory_mb,
            life=Life(vm_id=VmId(f"h{n}"), join_s=0.0, steps=((0.0, float(count)),), end_s=None),
        )
        for n, count in enumerate(cores, start=1)
    ]
