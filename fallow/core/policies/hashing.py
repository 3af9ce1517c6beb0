"""Hash: each function at home on one VM, on the next one when that has no memory slot free. The stock baseline.

Idea. A function's hash names its home among the n VMs of the kind and a step size co-prime to n, so that the walk
home, home + step, home + 2 step, ... passes every VM once and differs from function to function. The call goes to the
first VM on the walk that has memory for it; where none has, to a random healthy one. Homes are stable as long as the
VMs are the same, so containers stay warm; memory alone limits how many calls meet on one VM.

It knows memory slots and nothing else: the cores of a VM, what it uses, that it shrinks or is about to be evicted,
which runtimes it offers are never looked at.

Example. n = 5 VMs a b c d e in ring order with 1024 MB each, 2 controllers, so this one has 512 MB of each. f needs
256 MB and hashes to 7: home 7 mod 5 = 2, c; the steps pairwise co-prime to 5 are 1, 2, 3, so f's is number 7 mod 3 = 1,
which is 2. c has 512 MB booked: full; e, two further, has 256: it takes the call and is then full, too. The next one
finds c and e full and goes to b, then come d and a. Once all five are full, one of those that are heard of is drawn.

Caveats.
- n counts every VM of the kind that is not gone, as its source counts invokers that are off line: when one comes or is
  forgotten nearly all homes move, where a ring moves one arc.
- Equal memory is taken for equal VMs: one with 2 cores gets as many calls as one with 32 and the same memory.
- A call "fits" where a memory slot is free, however busy the CPU. So a strategy that passes on from a kind that has no
  room does so only once its memory is full: long calls pile up on a regular VM, and do not go on to harvest VMs.
- With several controllers a call may be larger than this one's share of any VM: it is then always drawn for.
- Every VM is looked at only when all are full. Steps are found anew when n changes: O(n) for n below some hundreds.
- Memory is counted per call; calls that share a container (concurrency above 1) are overestimated.

What the platform does around it. It believes a VM healthy from its joining until it is evicted or was silent for 10 s,
so it goes on choosing one that drains. The placer does not follow: a call for a VM that drains, is full or unhealthy,
that does not offer the runtime or has just given this call back goes to the least loaded VM of the kind that may take
it. Where it chose such a VM it is never lost, but it lands where `Placer` says and not on the next of the walk. Queues
in the VM, waiting room, retries and eviction strategies are the same as under every policy. CPU is not booked as the
function uses it but as 1 core a call.

Source: Apache OpenWhisk's ShardingContainerPoolBalancer. Departures: the hash is 64-bit blake2b, of namespace and name
together; VMs stand in ring order instead of that of their registration, so that all controllers agree; of the step
sizes the first `STEPS_KEPT` are used; no VMs are set aside for "blackbox" actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

from fallow.core.model import ActionKey, ActionSpec, Activation, Considered, Decision, VmId, VmKind
from fallow.core.policies.base import (
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
from fallow.core.ring import action_position

STEPS_KEPT = 64


def step_sizes(count: int) -> tuple[int, ...]:
    """Numbers up to `count` that are co-prime to it and to each other, smallest first; at most STEPS_KEPT."""
    steps: list[int] = []
    for number in range(1, count + 1):
        if gcd(number, count) == 1 and all(gcd(number, step) == 1 for step in steps):
            steps.append(number)
            if len(steps) == STEPS_KEPT:
                break
    return tuple(steps)


class Hashing:
    """The policy. Keeps nothing of actions, and of VMs only which are healthy; rolls its dice in an overload only."""

    name = "hash"

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._healthy: set[VmId] = set()  # asked for membership only, never walked
        self._steps: dict[VmKind, tuple[int, tuple[int, ...]]] = {}  # (number of VMs, its step sizes)

    def vm_joined(self, vm_id: VmId, kind: VmKind, now_s: float) -> None:
        self._healthy.add(vm_id)

    def vm_usable(self, vm_id: VmId, usable: bool, now_s: float) -> None:
        """Not looked at: that is what makes it blind to notices."""

    def vm_left(self, vm_id: VmId, now_s: float) -> None:
        self._healthy.discard(vm_id)

    def arrived(self, action: ActionKey, now_s: float) -> None:
        """Nothing is estimated."""

    def completed(self, action: ActionKey, sample: Sample, now_s: float) -> None:
        """Nothing is estimated."""

    def place(self, call: Activation, kind: VmKind, view: ClusterView, now_s: float) -> Decision:
        spec = call.action
        ids = view.vm_ids(kind)
        considered: list[Considered] = []
        step = self._walk(action_position(spec.key), spec.memory_mb, kind, view, considered)
        if step is not None:
            chosen: Considered | None = considered[-1]
            reason = f"memory slot free: {f'step {step + 1} of {len(ids)} from home' if step else 'home'}"
        else:
            chosen = self._draw(considered)
            reason = f"overload: all {len(considered)} are full, one drawn at random"
        # The one thing that a blind policy has to know: whether there is any point in choosing.
        if chosen is None or not (could_take(view.vm(chosen.vm_id), spec) or _any_could(view, ids, spec)):
            return Decision(vm_id=None, fits=False, reason=f"no usable {kind} VM can take it")
        kept = considered[:CONSIDERED_KEPT]
        return Decision(
            vm_id=chosen.vm_id,
            fits=chosen.fits,
            reason=reason,
            considered=tuple(kept if chosen in kept else [*kept, chosen]),
            cpu_cores=1.0,
            memory_mb=float(spec.memory_mb),
        )

    def _walk(
        self, position: int, need_mb: int, kind: VmKind, view: ClusterView, considered: list[Considered]
    ) -> int | None:
        """Steps from home to the first healthy VM with a slot; None = all are full. Enters every healthy VM it looks
        at, that one last."""
        ids = view.vm_ids(kind)
        count = len(ids)
        if not count:
            return None
        steps = self._steps_for(kind, count)
        at, step = position % count, steps[position % len(steps)]
        for steps_taken in range(count):
            vm_id = ids[at]
            if vm_id in self._healthy:
                seen = _look(view.vm(vm_id), need_mb, view.controllers)
                considered.append(seen)
                if seen.fits:
                    return steps_taken
            at = (at + step) % count
        return None

    def _draw(self, healthy: list[Considered]) -> Considered | None:
        return healthy[self._rng.randrange(len(healthy))] if healthy else None

    def _steps_for(self, kind: VmKind, count: int) -> tuple[int, ...]:
        known = self._steps.get(kind)
        if known is None or known[0] != count:
            known = self._steps[kind] = (count, step_sizes(count))
        return known[1]


def _any_could(view: ClusterView, ids: Sequence[VmId], spec: ActionSpec) -> bool:
    return any(could_take(view.vm(vm_id), spec) for vm_id in ids)


def _look(vm: VmView, need_mb: int, controllers: int) -> Considered:
    slots_mb = vm.capacity.memory_mb / controllers
    taken_mb = vm.booked.memory_mb + need_mb
    return Considered(
        vm_id=vm.id,
        kind=vm.kind,
        score=taken_mb / slots_mb if slots_mb > 0 else NO_CAPACITY,
        fits=taken_mb <= slots_mb,
        note=f"with it {taken_mb:.0f} of {slots_mb:.0f} MB in slots",
    )


def _make(rng: Rng) -> Policy:
    return Hashing(rng)


register(Hashing.name, _make)
