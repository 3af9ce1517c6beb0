"""The seam of placement policies: what a policy sees, what it answers, and the registry it is found in.

A policy is a deterministic object: no clock, no dice but the Rng it is given, no I/O. `ClusterState` tells it what
happened and asks it for a VM; it never changes the cluster itself. It sees VMs as `VmView`s that already include this
controller's own bookings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from fallow.core.model import ActionKey, ActionSpec, Activation, Decision, Resources, VmId, VmKind
from fallow.core.value import value


@value(frozen=True, slots=True, kw_only=True)
class VmView:
    """One VM as a policy sees it."""

    id: VmId
    kind: VmKind
    speed: float
    price: float
    capacity: Resources
    used: Resources  # reported + own bookings since that report
    booked: Resources  # own bookings of all calls in flight there, whatever was reported
    in_flight: int  # calls this controller has there now
    queued: int  # calls waiting in the VM, as last reported
    usable: bool  # up, healthy, not draining, not full, heard from
    runtimes: tuple[str, ...]


NO_CAPACITY = 1e9  # the score of a VM without cores or memory; finite, since scores are shown as JSON
CONSIDERED_KEPT = 16  # VMs a decision tells of; the chosen one is always among them
ACTIONS_KEPT = 50_000  # actions a policy remembers; the one called longest ago is forgotten first


def could_take(vm: VmView, spec: ActionSpec) -> bool:
    """Is it usable at all for a call of the action, busy or not? A policy that looks answers with no other VM."""
    return vm.usable and spec.kind in vm.runtimes and vm.capacity.memory_mb >= spec.memory_mb


class ClusterView(Protocol):
    """Read access to the cluster, O(1) a call."""

    def vm(self, vm_id: VmId) -> VmView: ...

    def vm_ids(self, kind: VmKind) -> Sequence[VmId]:
        """All VMs of the kind that are not gone, in ring order, usable or not."""
        ...

    @property
    def controllers(self) -> int:
        """Live controllers that share these VMs; at least 1."""
        ...


@value(frozen=True, slots=True, kw_only=True)
class Sample:
    """One completed call, for demand estimation."""

    cpu_cores: float  # CPU time / wall time of the execution, in the VM's cores
    exec_s: float  # init excluded
    total_s: float  # arrival at the controller to completion


class Policy(Protocol):
    """Picks a VM of one kind for a call.

    `place` walks VMs of one kind only: the eviction strategy has already chosen the kinds and their order. It returns a
    Decision with `vm_id=None` where no VM of the kind is usable, `fits=False` where it is the least busy of the busy.
    A policy that does not look at `usable` may answer with a VM that may not take the call: the placer finds another.
    """

    name: str

    def vm_joined(self, vm_id: VmId, kind: VmKind, now_s: float) -> None: ...

    def vm_usable(self, vm_id: VmId, usable: bool, now_s: float) -> None: ...

    def vm_left(self, vm_id: VmId, now_s: float) -> None: ...

    def arrived(self, action: ActionKey, now_s: float) -> None:
        """A call of the action reached this controller (once a call, not once an attempt)."""
        ...

    def completed(self, action: ActionKey, sample: Sample, now_s: float) -> None: ...

    def place(self, call: Activation, kind: VmKind, view: ClusterView, now_s: float) -> Decision: ...


class Rng(Protocol):
    """The dice a policy may be given (random.Random satisfies it)."""

    def randrange(self, stop: int, /) -> int: ...


PolicyFactory = Callable[[Rng], Policy]

_REGISTRY: dict[str, PolicyFactory] = {}


def register(name: str, factory: PolicyFactory) -> None:
    """Make a policy known by name. Raises ValueError if the name is taken."""
    if name in _REGISTRY:
        raise ValueError(f"policy {name!r} is registered already")
    _REGISTRY[name] = factory


def policies() -> Mapping[str, PolicyFactory]:
    """The registered policies by name."""
    return dict(_REGISTRY)


def make_policy(name: str, rng: Rng) -> Policy:
    """The policy of that name. Raises ValueError that lists the known ones."""
    try:
        factory = _REGISTRY[name]
    except KeyError:
        raise ValueError(f"unknown policy {name!r}; known: {', '.join(sorted(_REGISTRY))}") from None
    return factory(rng)
