"""Power of two choices (p2c): of two VMs drawn at random the one with fewer calls per core. Two looks a call.

Idea. Drawing one VM at random leaves some of n VMs far busier than the rest; drawing two and taking the less busy one
brings nearly all that looking at every VM would: the longest queue falls from O(log n / log log n) to O(log log n).
It keeps nothing, and costs the same on ten VMs and on ten thousand. The price is that of JSQ: a function's calls meet
a container that was kept warm for them only by chance.

Example. f is drawn for h1 (4 cores, 3 calls of this controller) and h2 (16 cores, 8 calls). With it h1 would have
4 / 4 = 1 call a core and h2 9 / 16 = 0.5625: h2 takes it, though more calls are there.

Caveats.
- A call counts as one core, whatever its function uses.
- Calls in flight are this controller's own: several controllers do not see each other's between reports.
- Where few of many VMs may take the call, `TRIES` pairs are drawn in vain and every VM is looked at: O(VMs).

Source: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 12(10), 2001. Departure: load
is calls per core, since harvest VMs are of very different sizes.
"""

from __future__ import annotations

from collections.abc import Sequence

from fallow.core.model import ActionKey, ActionSpec, Activation, Considered, Decision, VmId, VmKind
from fallow.core.policies.base import NO_CAPACITY, ClusterView, Policy, Rng, Sample, could_take, register

TRIES = 4  # pairs drawn before every VM is looked at


class PowerOfTwo:
    """The policy. Remembers nothing; rolls its dice at every placement."""

    name = "p2c"

    def __init__(self, rng: Rng) -> None:
        self._rng = rng

    def vm_joined(self, vm_id: VmId, kind: VmKind, now_s: float) -> None:
        """Nothing to remember: the view tells of every VM that is drawn."""

    def vm_usable(self, vm_id: VmId, usable: bool, now_s: float) -> None:
        """See `vm_joined`."""

    def vm_left(self, vm_id: VmId, now_s: float) -> None:
        """See `vm_joined`."""

    def arrived(self, action: ActionKey, now_s: float) -> None:
        """Nothing is estimated."""

    def completed(self, action: ActionKey, sample: Sample, now_s: float) -> None:
        """Nothing is estimated."""

    def place(self, call: Activation, kind: VmKind, view: ClusterView, now_s: float) -> Decision:
        considered = self._drawn(call.action, view.vm_ids(kind), view)
        if not considered:
            return Decision(vm_id=None, fits=False, reason=f"no usable {kind} VM can take it")
        chosen = min(considered, key=lambda seen: (not seen.fits, seen.score))
        return Decision(
            vm_id=chosen.vm_id,
            fits=chosen.fits,
            reason=f"{'fewest' if chosen.fits else 'overload: fewest'} calls per core of {len(considered)} drawn",
            considered=considered,
            cpu_cores=1.0,
            memory_mb=float(call.action.memory_mb),
        )

    def _drawn(self, spec: ActionSpec, ids: Sequence[VmId], view: ClusterView) -> tuple[Considered, ...]:
        """Of two different VMs those that could take the call; none = no VM could."""
        count = len(ids)
        if count > 1:
            for _ in range(TRIES):
                first = self._rng.randrange(count)
                second = (first + 1 + self._rng.randrange(count - 1)) % count
                drawn = _able(spec, (ids[first], ids[second]), view)
                if drawn:
                    return drawn
        able = [vm_id for vm_id in ids if could_take(view.vm(vm_id), spec)]
        if len(able) > 2:
            first = self._rng.randrange(len(able))
            second = (first + 1 + self._rng.randrange(len(able) - 1)) % len(able)
            able = [able[first], able[second]]
        return _able(spec, able, view)


def _able(spec: ActionSpec, ids: Sequence[VmId], view: ClusterView) -> tuple[Considered, ...]:
    return tuple(_look(vm_id, spec, view) for vm_id in ids if could_take(view.vm(vm_id), spec))


def _look(vm_id: VmId, spec: ActionSpec, view: ClusterView) -> Considered:
    vm = view.vm(vm_id)
    calls, cores = vm.in_flight + 1, vm.capacity.cpu_cores
    return Considered(
        vm_id=vm.id,
        kind=vm.kind,
        score=calls / cores if cores > 0 else NO_CAPACITY,
        fits=calls <= cores and vm.booked.memory_mb + spec.memory_mb <= vm.capacity.memory_mb,
        note=f"with it {calls} calls on {cores:.3g} cores",
    )


def _make(rng: Rng) -> Policy:
    return PowerOfTwo(rng)


register(PowerOfTwo.name, _make)
