"""Join the shortest queue (JSQ): every call to the VM that would be least utilised with it. A baseline.

Idea. What matters is that no VM is busier than the others, so the load is spread as evenly as it can be, by what this
controller itself has in flight. The price is warmth: a function's calls go wherever there is most room at the moment,
over the whole cluster, so they seldom meet a container that was kept warm for them.

A call needs its memory limit and the P75 of its function's CPU utilisation, taken anew of every 100 samples; 1 core
before the first 100. For each VM, both counted with the call:
    cpu = (cores booked + cores needed) / cores     memory = (MB booked + MB needed) / MB     score = 3 cpu + 1 memory
A VM fits while neither exceeds 1. The least score of those that fit takes the call, else the least score of all.

Example. f needs 0.5 cores and 256 MB.
    h1: 4 cores, 3.0 booked, 4096 MB, 1024 booked    cpu 0.875  memory 0.3125   score 2.9375, fits
    h2: 2 cores, 0.5 booked, 4096 MB,  256 booked    cpu 0.5    memory 0.125    score 1.625, fits: takes the call
    h3: 8 cores, 1.5 booked, 1024 MB, 1024 booked    cpu 0.25   memory 1.25     score 2.0, does not fit
It books 0.5 cores and 256 MB on h2 until it is over: the next call of f finds h2 at 2.4375, still the least.

Caveats.
- Every placement looks at every VM of the kind: O(VMs).
- Bookings are what calls are expected to use. What they do use, a neighbour's load, what containers kept warm hold and
  what an invoker reports is not looked at.
- Ties go to the VM that stands first on the ring, for all functions the same one: on an idle cluster of equal VMs calls
  that do not overlap all go there.
- The estimate of a function is 1 core until it has been called a hundred times, as light as it may be.
- With several controllers a call may need more than this one's share of any VM: it is then always an overload.
- Memory is counted per call; calls that share a container (concurrency above 1) are overestimated.

What the platform does around it. Bookings are this controller's own, so with several controllers each has its share of
every VM: cores and memory are divided by their number. VMs that are draining, full or silent, that offer another
runtime or have less memory in all than the call's limit are passed over, as under every policy that looks at the view.

Source: the JSQ baseline of Zhang et al., "Faster and Cheaper Serverless Computing on Harvested Resources", SOSP 2021.
Departures: the percentile is that of the last 100 samples, by nearest rank, where theirs is that of all samples so far
in bins of 0.1 cores; VMs with fewer cores than a function's limit are not left out, as there are no such limits here.
"""

from __future__ import annotations

import math
from array import array
from collections import OrderedDict
from typing import NamedTuple

from fallow.core.model import ActionKey, Activation, Considered, Decision, VmId, VmKind
from fallow.core.policies.base import (
    ACTIONS_KEPT,
    CONSIDERED_KEPT,
    NO_CAPACITY,
    ClusterView,
    Policy,
    Rng,
    Sample,
    VmView,
    could_take,
    register,
)

CPU_WEIGHT = 3.0
MEMORY_WEIGHT = 1.0
PERCENTILE = 0.75
BATCH = 100  # samples between two estimates
UNKNOWN_CORES = 1.0  # before the first estimate


class CpuEstimate:
    """Cores a call of one action is expected to use. Memory: at most BATCH floats; a sample costs O(1) amortised."""

    __slots__ = ("_batch", "cores")

    def __init__(self) -> None:
        self.cores = UNKNOWN_CORES
        self._batch = array("d")

    def add(self, cpu_cores: float) -> None:
        self._batch.append(cpu_cores)
        if len(self._batch) == BATCH:
            self.cores = sorted(self._batch)[math.ceil(PERCENTILE * BATCH) - 1]
            self._batch = array("d")


class Jsq:
    """The policy. Deterministic without dice; one instance per controller."""

    name = "jsq"

    def __init__(self) -> None:
        self._estimates: OrderedDict[tuple[str, str], CpuEstimate] = OrderedDict()  # called longest ago first

    def vm_joined(self, vm_id: VmId, kind: VmKind, now_s: float) -> None:
        """Nothing to remember: the view tells of every VM at every placement."""

    def vm_usable(self, vm_id: VmId, usable: bool, now_s: float) -> None:
        """See `vm_joined`."""

    def vm_left(self, vm_id: VmId, now_s: float) -> None:
        """See `vm_joined`."""

    def arrived(self, action: ActionKey, now_s: float) -> None:
        key = (action.namespace, action.name)
        if key in self._estimates:
            self._estimates.move_to_end(key)

    def completed(self, action: ActionKey, sample: Sample, now_s: float) -> None:
        key = (action.namespace, action.name)
        estimate = self._estimates.get(key)
        if estimate is None:
            estimate = self._estimates[key] = CpuEstimate()
            if len(self._estimates) > ACTIONS_KEPT:
                self._estimates.popitem(last=False)
        estimate.add(sample.cpu_cores)

    def place(self, call: Activation, kind: VmKind, view: ClusterView, now_s: float) -> Decision:
        spec = call.action
        estimate = self._estimates.get((spec.namespace, spec.name))
        need = _Need(estimate.cores if estimate else UNKNOWN_CORES, float(spec.memory_mb), 1.0 / view.controllers)
        best: VmView | None = None
        best_fits, best_score, looked_at = False, math.inf, 0
        considered: list[Considered] = []
        for vm_id in view.vm_ids(kind):
            vm = view.vm(vm_id)
            if not could_take(vm, spec):
                continue
            looked_at += 1
            score, fits = _judge(vm, need)
            if fits > best_fits or (fits == best_fits and score < best_score):
                best, best_fits, best_score = vm, fits, score
            if looked_at <= CONSIDERED_KEPT:
                considered.append(_considered(vm, need, score, fits))
        if best is None:
            return Decision(vm_id=None, fits=False, reason=f"no usable {kind} VM can take it")
        if looked_at > CONSIDERED_KEPT and all(seen.vm_id != best.id for seen in considered):
            considered.append(_considered(best, need, best_score, best_fits))
        how = "fits: smallest score" if best_fits else "overload, none fits: smallest score"
        return Decision(
            vm_id=best.id,
            fits=best_fits,
            reason=f"{how} of {looked_at}; the call counts as {need.cpu_cores:.3g} cores",
            considered=tuple(considered),
            cpu_cores=need.cpu_cores,
            memory_mb=need.memory_mb,
        )


class _Need(NamedTuple):
    """What one call needs, and which share of each VM is this controller's."""

    cpu_cores: float
    memory_mb: float
    share: float


def _judge(vm: VmView, need: _Need) -> tuple[float, bool]:
    """(score, fits) of the VM with the call on it."""
    cores, memory_mb = vm.capacity.cpu_cores * need.share, vm.capacity.memory_mb * need.share
    if cores <= 0 or memory_mb <= 0:
        return NO_CAPACITY, False
    cpu = (vm.booked.cpu_cores + need.cpu_cores) / cores
    memory = (vm.booked.memory_mb + need.memory_mb) / memory_mb
    return CPU_WEIGHT * cpu + MEMORY_WEIGHT * memory, cpu <= 1 and memory <= 1


def _considered(vm: VmView, need: _Need, score: float, fits: bool) -> Considered:
    cpu, memory_mb = vm.booked.cpu_cores + need.cpu_cores, vm.booked.memory_mb + need.memory_mb
    note = (
        f"with it {cpu:.3g} of {vm.capacity.cpu_cores * need.share:.3g} cores"
        f" and {memory_mb:.0f} of {vm.capacity.memory_mb * need.share:.0f} MB"
    )
    return Considered(vm_id=vm.id, kind=vm.kind, score=score, fits=fits, note=note)


def _make(rng: Rng) -> Policy:
    return Jsq()


register(Jsq.name, _make)
