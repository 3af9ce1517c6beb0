"""Clusters of VMs: the published evaluation's, generated ones of any size, and those of trace files."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from fallow.core.model import VmId, VmKind
from fallow.traces.generated.core_sizes import draw_cores
from fallow.traces.generated.draws import stream
from fallow.traces.generated.vms import draw_lives, draw_vm_traces
from fallow.traces.vms import Life, VmTrace, lives
from simulator.model import SimVm

MEMORY_MB = 16 * 1024.0  # of a typical Harvest VM, Zhang et al., SOSP 2021, section 2
NORMAL = (26, 24, 15, 28, 16, 18, 20, 22, 5, 6)  # cores of the evaluation's "Normal" cluster, section 6
DEDICATED = (18,) * 10
ACTIVE_TOTAL = (104, 204)  # between what the cores of the "Active" cluster sum to
ACTIVE_CORES = (6, 32)  # ... and one VM of it has
ACTIVE_CHANGE_S = 200.0  # mean time between changes of one VM: six in 20 min, as the one VM that was published
MAX_VMS = 100_000


def constant(cores: Sequence[float], kind: VmKind = VmKind.HARVEST, memory_mb: float = MEMORY_MB) -> list[SimVm]:
    """VMs that keep their cores and are never evicted."""
    letter = kind.value[0]
    return [
        SimVm(
            kind=kind,
            memory_mb=memory_mb,
            life=Life(vm_id=VmId(f"{letter}{n}"), join_s=0.0, steps=((0.0, float(count)),), end_s=None),
        )
        for n, count in enumerate(cores, start=1)
    ]


def active(*, seed: int, window_s: float) -> list[SimVm]:
    """Ten VMs whose cores change all the time, within the totals that were published of the "Active" cluster.

    Generated: of its VMs only one was published. Starts at "Normal"; each change of a VM takes the sum as near as that
    VM can to a total drawn evenly from the published range, so VMs swing between few cores and many, as the one did.
    """
    dice = random.Random(f"{seed}:active")
    cores = [float(min(max(count, ACTIVE_CORES[0]), ACTIVE_CORES[1])) for count in NORMAL]
    steps = [[(0.0, count)] for count in cores]
    at_s = dice.expovariate(len(cores) / ACTIVE_CHANGE_S)
    while at_s < window_s:
        vm = dice.randrange(len(cores))
        others = sum(cores) - cores[vm]
        wanted = float(min(max(dice.randint(*ACTIVE_TOTAL) - others, ACTIVE_CORES[0]), ACTIVE_CORES[1]))
        if wanted != cores[vm]:
            cores[vm] = wanted
            steps[vm].append((round(at_s, 3), wanted))
        at_s += dice.expovariate(len(cores) / ACTIVE_CHANGE_S)
    return [
        SimVm(
            kind=VmKind.HARVEST,
            memory_mb=MEMORY_MB,
            life=Life(vm_id=VmId(f"h{n}"), join_s=0.0, steps=tuple(own), end_s=None),
        )
        for n, own in enumerate(steps, start=1)
    ]


def generated(*, vms: int, seed: int, window_s: float) -> list[SimVm]:
    """Harvest VMs drawn from the published distributions: 10 to 100,000 of them."""
    return traced(draw_vm_traces(seed=seed, vms=vms, window_s=window_s))


def short_lived(*, vms: int, seed: int, window_s: float, speedup: float) -> list[SimVm]:
    """Harvest VMs whose lives, and the times they are away, are as published but `speedup` times shorter.

    Their cores stay as they were drawn: this is for what evictions do.
    """
    lived = draw_lives(seed=seed, vms=vms, window_s=window_s * speedup)
    rng = stream(seed, "short-lived cores")
    found: list[SimVm] = []
    seen: Counter[int] = Counter()
    for vm, born_s, end_s in zip(lived.vm.tolist(), lived.born_s.tolist(), lived.end_s.tolist(), strict=True):
        seen[vm] += 1
        join_s = max(0.0, born_s / speedup)
        name = f"h{vm + 1}" if seen[vm] == 1 else f"h{vm + 1}.{seen[vm]}"
        steps = ((0.0, float(draw_cores(rng))),)
        life = Life(vm_id=VmId(name), join_s=join_s, steps=steps, end_s=end_s / speedup - join_s)
        found.append(SimVm(kind=VmKind.HARVEST, memory_mb=MEMORY_MB, life=life))
    return found


def traced(traces: Sequence[VmTrace], memory_mb: float = MEMORY_MB) -> list[SimVm]:
    """The VMs of traces, life by life."""
    return [SimVm(kind=VmKind.HARVEST, memory_mb=memory_mb, life=life) for trace in traces for life in lives(trace)]
