"""Min-Worker-Set (MWS): each function on the fewest VMs whose spare capacity covers its demand, always the same ones.

Idea. A function whose calls meet again on few VMs finds its containers warm; one spread over the cluster starts cold
everywhere. So every function has a home on a hash ring and a set of the next k usable VMs from there, k just large
enough for its demand (Little's law, see demand.py). Inside the set the least loaded VM that fits takes the call. The
set grows at once and shrinks slowly, at most once in 30 s. There is one ring, and one k per function, for each VM kind.

Example. f arrives 2 times a second in this controller, there are 2 controllers, a call takes 1.5 s at 0.5 cores, the
memory limit is 256 MB: demand = 2 x 2 x 1.5 = 6 calls at once = 3 cores and 1536 MB. From f's home on stand
    h2: 4 cores, 0.8 used, 8192 MB, 2048 used    avail = 0.7 x 4 - 0.8 = 2.0 cores, 3686 MB   score 0.286 + 0.357
    h7: 2 cores, 1.2 used                        avail = 0.2 cores: does not fit (0.2 < 0.5)
    h1: 8 cores, 0.6 used, 8192 MB, 1024 used    avail = 5.0 cores, 4710 MB                   score 0.107 + 0.179
    h5: ...
h2 alone covers 2.0 of 3 cores, h2 and h1 cover 7.0: the smallest sufficient set reaches to step 3, next = 3. With
k <= 3 the walk stops there; the call goes to h1, the lowest score, and k becomes 3.

Warm first. That is the published rule, registered as `mws-published`. `mws` adds three things to it, since at half load
a home is often busy for a second and every such second would scatter its functions (docs/decisions/0014):
- a VM where the action is likely warm (it took a call of it in the last ten minutes) fits up to 0.9 of its cores, which
  is what its invoker admits, and not only up to 0.7;
- a likely cold start counts as 1.0 in the score, in the choice among those that fit and among busy ones;
- a VM's CPU counts as used as far as calls in flight there are expected to use it, even if less was measured: what is
  measured ends at what the VM has, so one with twice the load it can carry would look like one that is just full.
Example: above, h7 took f's last call and has 4 cores, 2.9 of them used: 0.9 x 4 - 2.9 = 0.7 >= 0.5, it fits. Its score
is 1.04 + 0.36 = 1.40, that of h1, cold, 0.29 + 1.0 = 1.29: h1 still takes the call. With 2.4 used it is 1.21: h7 does.

No VM large enough. Where every VM is too small for the estimate even when idle, the source sends each call to the least
busy VM of all, and the function's containers are scattered. So then the choice is made once more as if the call needed
half of what the largest VM gives, and stays near home; it is still called an overload, so another kind of VM that is
large enough goes first. Example: only 2-core VMs; after the first sample cpu_f is 2 cores and each gives 1.4: home
takes the call if 0.7 cores are free there.

Caveats.
- A call takes O(max(k, next)) looks, usually one to three. In an overload, when nothing fits or the cluster cannot hold
  the demand, every usable VM of the kind is looked at.
- VMs that cannot take the call (draining, full, silent, runtime not offered, less memory in all than the call's limit)
  are no members of the set: k counts those that can. A draining VM therefore gives up its homes at the notice, and not
  only once it is gone; since it takes no new call in either case, the same VMs are walked in the same order, and k is
  right at once.
- The weights of CPU and memory in the score are equal, and containers kept warm in a VM count for nothing but being
  likely there.
- Memory is counted per call; calls that share a container (concurrency above 1) are overestimated.

Source: Zhang et al., "Faster and Cheaper Serverless Computing on Harvested Resources", SOSP 2021. Departures: positions
are hashes, not drawn by lot; used resources include this controller's own bookings, so bursts do not herd to one VM; a
VM with exactly cap_f cores fits; a full VM is not usable; what is larger than every VM stays near home; `mws`, and not
`mws-published`, puts warm VMs first.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from fallow.core.demand import Demand, Estimate
from fallow.core.model import ActionKey, ActionSpec, Activation, Considered, Decision, VmId, VmKind
from fallow.core.policies.base import (
    ACTIONS_KEPT,
    CONSIDERED_KEPT,
    NO_CAPACITY,
    ClusterView,
    Policy,
    Rng,
    Sample,
    VmView,
    register,
)
from fallow.core.policies.worker_set import Warmth, WorkerSet
from fallow.core.ring import Ring, action_position

HEADROOM = 0.7  # of a VM's capacity is given to calls; the rest absorbs what changes between two reports
OVERSIZE_SHARE = 0.5  # of what the largest VM gives is what a call that needs more is placed by
WARM_HEADROOM = 0.9  # where it is likely warm: up to what an invoker admits (PoolLimits.cpu_fraction)
COLD = 1.0  # what a likely cold start adds to a score: as if the whole VM were busy


class _Placed:
    """What MWS keeps of one action: its demand, where it is likely warm, its worker sets and where walks begin."""

    __slots__ = ("demand", "position", "sets", "starts", "warmth")

    def __init__(self, action: ActionKey) -> None:
        self.position = action_position(action)
        self.demand = Demand()
        self.sets = {kind: WorkerSet() for kind in VmKind}
        self.warmth = Warmth()
        self.starts = dict.fromkeys(VmKind, (-1, 0))  # (ring version it was computed for, index)

    def start(self, kind: VmKind, ring: Ring) -> int:
        """The index of the home among the ring's usable VMs, looked up anew only when the ring has changed."""
        version, index = self.starts[kind]
        if version != ring.version:
            index = ring.start(self.position)
            self.starts[kind] = (ring.version, index)
        return index


class _Need(NamedTuple):
    """What one call must find on a VM, and what all calls of its action need together.

    A tuple, like _Walk: every placement makes one of each, and a frozen dataclass is slow to make.
    """

    kind: str  # of runtime
    one: Estimate
    memory_mb: float
    demand_cpu: float
    demand_mb: float
    warm: AbstractSet[VmId] | None  # None = warm VMs do not come first


class _Walk(NamedTuple):
    """What a walk has seen: the pseudo code's bestFit, bestBusy, step, and next (0 = no sufficient set).

    `most_cores` are those of the largest VM that does not fit.
    """

    best_fit: VmView | None
    best_busy: VmView | None
    best_score: float  # of bestFit if there is one, else of bestBusy
    step: int
    next: int
    most_cores: float


def _walk(
    ids: Sequence[VmId], start: int, size: int, need: _Need, view: ClusterView, considered: list[Considered]
) -> _Walk:
    """The source's choice, step by step. Ties go to the VM seen first: the nearest to home.

    One long function: an overload looks at every VM, and a function call for each would dominate the cost.
    """
    cpu_f, cap_f, mem_f, kind, warm = need.one.cpu_cores, need.one.cap_cores, need.memory_mb, need.kind, need.warm
    best_fit: VmView | None = None
    best_busy: VmView | None = None
    best_score = best_rank = math.inf
    headroom, cold = HEADROOM, 0.0
    sum_cpu = sum_mb = most_cores = 0.0
    step = next_size = 0
    count = len(ids)
    for index in range(start, start + count):
        vm = view.vm(ids[index if index < count else index - count])
        capacity, used = vm.capacity, vm.used
        # The ring knows who is usable; the view may hide a VM from this call that gave it back.
        if not vm.usable or kind not in vm.runtimes or capacity.memory_mb < mem_f:
            continue
        step += 1
        cores, used_cpu, used_mb = capacity.cpu_cores, used.cpu_cores, used.memory_mb
        if warm is not None:
            headroom, cold = (WARM_HEADROOM, 0.0) if vm.id in warm else (HEADROOM, COLD)
            if vm.booked.cpu_cores > used_cpu:
                used_cpu = vm.booked.cpu_cores
        cpu, memory = HEADROOM * cores, HEADROOM * capacity.memory_mb
        score = used_cpu / cpu + used_mb / memory if cpu > 0 and memory > 0 else NO_CAPACITY
        room_cpu, room_mb = headroom * cores - used_cpu, memory - used_mb
        fits = room_cpu >= cpu_f and room_mb >= mem_f and cores >= cap_f
        if fits:
            sum_cpu += room_cpu
            sum_mb += room_mb
            if best_fit is None or score + cold < best_rank:
                best_fit, best_score, best_rank = vm, score, score + cold
        elif best_fit is None:
            if score + cold < best_rank:
                best_busy, best_score, best_rank = vm, score, score + cold
            if cores > most_cores:
                most_cores = cores
        if step <= CONSIDERED_KEPT:
            note = "" if fits else _why_busy(vm, need)
            considered.append(Considered(vm_id=vm.id, kind=vm.kind, score=score, fits=fits, note=note))
        if best_fit is not None and sum_cpu >= need.demand_cpu and sum_mb >= need.demand_mb:
            next_size = next_size or step  # the smallest sufficient set
            if step >= size:
                break  # the whole current set has been seen
    return _Walk(best_fit, best_busy, best_score, step, next_size, most_cores)


def _why_busy(vm: VmView, need: _Need) -> str:
    """Which condition fails first: those that fail on an idle VM too come before those that load makes fail."""
    one, capacity = need.one, vm.capacity
    headroom = WARM_HEADROOM if need.warm is not None and vm.id in need.warm else HEADROOM
    cores, memory_mb = headroom * capacity.cpu_cores, HEADROOM * capacity.memory_mb
    if cores < one.cpu_cores:
        return f"is too small: needs {one.cpu_cores:.3g} cores, the VM gives {cores:.3g}"
    if capacity.cpu_cores < one.cap_cores:
        return f"is too small: may use {one.cap_cores:.3g} cores, the VM has {capacity.cpu_cores:.3g}"
    if memory_mb < need.memory_mb:
        return f"is too small: needs {need.memory_mb:g} MB, the VM gives {memory_mb:.0f}"
    used_cpu = vm.used.cpu_cores if need.warm is None else max(vm.used.cpu_cores, vm.booked.cpu_cores)
    return "CPU is busy" if cores - used_cpu < one.cpu_cores else "memory is taken"


class Mws:
    """The policy. Deterministic without dice; one instance per controller."""

    name = "mws"

    def __init__(self, *, warm_first: bool = True) -> None:
        """`warm_first` = False: as published."""
        self._warm_first = warm_first
        if not warm_first:
            self.name = "mws-published"
        self._rings = {kind: Ring() for kind in VmKind}
        self._kinds: dict[VmId, VmKind] = {}
        self._actions: OrderedDict[tuple[str, str], _Placed] = OrderedDict()  # called longest ago first

    def vm_joined(self, vm_id: VmId, kind: VmKind, now_s: float) -> None:
        """Put the VM on the ring of its kind, usable. One that is there already only becomes usable again."""
        if vm_id in self._kinds:
            self.vm_usable(vm_id, True, now_s)
            return
        self._kinds[vm_id] = kind
        self._rings[kind].add(vm_id)

    def vm_usable(self, vm_id: VmId, usable: bool, now_s: float) -> None:
        """Raises KeyError if the VM is not on a ring."""
        self._rings[self._kinds[vm_id]].mark(vm_id, usable)

    def vm_left(self, vm_id: VmId, now_s: float) -> None:
        """Raises KeyError if the VM is not on a ring."""
        self._rings[self._kinds.pop(vm_id)].remove(vm_id)

    def arrived(self, action: ActionKey, now_s: float) -> None:
        placed = self._placed(action.namespace, action.name)
        self._actions.move_to_end((action.namespace, action.name))
        placed.demand.arrived(now_s)

    def completed(self, action: ActionKey, sample: Sample, now_s: float) -> None:
        self._placed(action.namespace, action.name).demand.completed(sample.cpu_cores, sample.exec_s)

    def worker_set_size(self, action: ActionKey, kind: VmKind) -> int:
        """The present k of the action on the VMs of this kind; 1 for an action never placed there."""
        placed = self._actions.get((action.namespace, action.name))
        return placed.sets[kind].size if placed else 1

    def place(self, call: Activation, kind: VmKind, view: ClusterView, now_s: float) -> Decision:
        spec = call.action
        ids = self._rings[kind].usable_ids
        if not ids:
            return Decision(vm_id=None, fits=False, reason=f"no {kind} VM is usable")
        placed = self._placed(spec.namespace, spec.name)
        workers = placed.sets[kind]
        seen_version = workers.version
        start = placed.start(kind, self._rings[kind])
        warm = placed.warmth.vms(now_s) if self._warm_first else None
        need = _need(placed.demand, spec, view.controllers, warm, now_s)
        considered: list[Considered] = []
        walk = _walk(ids, start, workers.size, need, view, considered)
        if walk.step == 0:
            return Decision(
                vm_id=None,
                fits=False,
                reason=f"no usable {kind} VM can take it, offers {spec.kind} and has {spec.memory_mb} MB",
            )
        found = walk
        if walk.best_fit is None and (smaller := _for_oversize(need, walk.most_cores)) is not None:
            near = _walk(ids, start, workers.size, smaller, view, [])
            if near.best_fit is not None:
                found = near
        next_size = found.next or found.step  # unset: the cluster cannot hold the demand
        workers.update(next_size, home=ids[start], computed_from=seen_version, now_s=now_s)
        if found is walk:
            decision = _decision(walk, need, considered, workers.size)
        else:
            decision = _oversize(found, need, considered, kind)
        if warm is not None:
            assert decision.vm_id is not None, "a walk that saw a VM has a best one"
            placed.warmth.placed(decision.vm_id, now_s)
        return decision

    def _placed(self, namespace: str, name: str) -> _Placed:
        placed = self._actions.get((namespace, name))
        if placed is None:
            placed = self._actions[namespace, name] = _Placed(ActionKey(namespace=namespace, name=name))
            if len(self._actions) > ACTIONS_KEPT:
                self._actions.popitem(last=False)
        return placed


def _need(demand: Demand, spec: ActionSpec, controllers: int, warm: AbstractSet[VmId] | None, now_s: float) -> _Need:
    one = demand.estimate
    running = demand.rate_per_s(now_s) * controllers * one.time_s
    return _Need(
        kind=spec.kind,
        one=one,
        memory_mb=spec.memory_mb,
        demand_cpu=running * one.cpu_cores,
        demand_mb=running * spec.memory_mb,
        warm=warm,
    )


def _for_oversize(need: _Need, most_cores: float) -> _Need | None:
    """What to place a call by that no VM is large enough for; None = the largest is, and merely busy."""
    one, given = need.one, HEADROOM * most_cores
    if given <= 0 or (one.cpu_cores <= given and one.cap_cores <= most_cores):
        return None
    cpu, cap = min(one.cpu_cores, OVERSIZE_SHARE * given), min(one.cap_cores, most_cores)
    return need._replace(one=Estimate(cpu_cores=cpu, time_s=one.time_s, cap_cores=cap))


def _oversize(near: _Walk, need: _Need, considered: list[Considered], kind: VmKind) -> Decision:
    assert near.best_fit is not None, "it was walked for what fits"
    reason = f"overload: no {kind} VM is as large as it asks; least busy of those near its home"
    return _placed_on(near.best_fit, False, near.best_score, need, considered, reason)


def _decision(walk: _Walk, need: _Need, considered: list[Considered], size: int) -> Decision:
    fits = walk.best_fit is not None
    chosen = walk.best_fit or walk.best_busy
    assert chosen is not None, "a walk that saw a VM has a best one"
    warm = "likely warm, " if need.warm is not None and chosen.id in need.warm else ""
    if fits:
        reason = f"fits: {warm}smallest score of {walk.step} looked at, worker set of {size}"
    else:
        reason = f"overload: {warm}least busy of {walk.step}, none fits"
    return _placed_on(chosen, fits, walk.best_score, need, considered, reason)


def _placed_on(
    chosen: VmView, fits: bool, score: float, need: _Need, considered: list[Considered], reason: str
) -> Decision:
    if len(considered) >= CONSIDERED_KEPT and all(seen.vm_id != chosen.id for seen in considered):
        note = "" if fits else _why_busy(chosen, need)
        considered.append(Considered(vm_id=chosen.id, kind=chosen.kind, score=score, fits=fits, note=note))
    return Decision(
        vm_id=chosen.id,
        fits=fits,
        reason=reason,
        considered=tuple(considered),
        cpu_cores=need.one.cpu_cores,
        memory_mb=need.memory_mb,
        cap_cores=need.one.cap_cores,
    )


def _make(rng: Rng) -> Policy:
    return Mws()


def _make_published(rng: Rng) -> Policy:
    return Mws(warm_first=False)


register(Mws.name, _make)
register("mws-published", _make_published)
