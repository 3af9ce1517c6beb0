"""A hash ring of VMs: gives every action a home VM and an order in which to look at the others.

VMs stand on a circle of 64-bit positions at the hash of their id, actions at the hash of their name. An action's home
is the first usable VM at or after its position; the walk goes on from there in ring order. When a VM becomes usable or
unusable, only the homes on the arc before it move (Karger et al., STOC 1997, without virtual nodes). Every controller
computes the same ring from the same VM ids, so they agree on homes without talking.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from hashlib import blake2b

from fallow.core.model import ActionKey, VmId


def position_of(text: str) -> int:
    """The place of a name on the circle, 0 to 2^64 - 1: its 64-bit blake2b, the same in every process."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def action_position(action: ActionKey) -> int:
    """The action's position. No namespace holds a "/", so two actions never hash the same text."""
    return position_of(str(action))


class Ring:
    """The VMs of one kind. Each change costs O(log n) comparisons and a block move; a walk skips unusable VMs for free.

    `version` counts the changes of the usable VMs, so a caller may keep what it computed while it stands still.
    """

    __slots__ = ("_all", "_ids", "_usable", "_usable_ids", "version")

    def __init__(self) -> None:
        # Parallel lists, sorted by (position, id): the ids alone are what is walked.
        self._all: list[tuple[int, VmId]] = []
        self._ids: list[VmId] = []
        self._usable: list[tuple[int, VmId]] = []
        self._usable_ids: list[VmId] = []
        self.version = 0

    @property
    def ids(self) -> Sequence[VmId]:
        """All VMs in ring order, usable or not. A live view: not to be changed."""
        return self._ids

    @property
    def usable_ids(self) -> Sequence[VmId]:
        """The usable VMs in ring order. A live view: not to be changed."""
        return self._usable_ids

    def __contains__(self, vm_id: VmId) -> bool:
        return _find(self._all, (position_of(vm_id), vm_id)) is not None

    def add(self, vm_id: VmId) -> None:
        """Put a VM on the ring, usable. Raises ValueError if it stands there already."""
        point = (position_of(vm_id), vm_id)
        if _find(self._all, point) is not None:
            raise ValueError(f"VM {vm_id!r} is on the ring already")
        _insert(self._all, self._ids, point)
        _insert(self._usable, self._usable_ids, point)
        self.version += 1

    def remove(self, vm_id: VmId) -> None:
        """Take a VM off. Raises KeyError if it is not there."""
        self.mark(vm_id, False)
        at = bisect_left(self._all, (position_of(vm_id), vm_id))
        del self._all[at], self._ids[at]

    def mark(self, vm_id: VmId, usable: bool) -> None:
        """Say whether walks see the VM; saying it again changes nothing. Raises KeyError if it is not on the ring."""
        point = (position_of(vm_id), vm_id)
        if _find(self._all, point) is None:
            raise KeyError(f"VM {vm_id!r} is not on the ring")
        at = _find(self._usable, point)
        if usable == (at is not None):
            return
        if at is None:
            _insert(self._usable, self._usable_ids, point)
        else:
            del self._usable[at], self._usable_ids[at]
        self.version += 1

    def start(self, position: int) -> int:
        """Where a walk from this position begins, as an index into `usable_ids`; 0 on a ring with no usable VM."""
        at = bisect_left(self._usable, (position,))
        return at if at < len(self._usable) else 0

    def home(self, position: int) -> VmId | None:
        """The first usable VM at or after the position, round the circle; None where no VM is usable."""
        return self._usable_ids[self.start(position)] if self._usable_ids else None

    def walk(self, position: int) -> Iterator[VmId]:
        """Every usable VM once, from home on."""
        start = self.start(position)
        for index in range(start, start + len(self._usable_ids)):
            yield self._usable_ids[index % len(self._usable_ids)]


def _find(points: list[tuple[int, VmId]], point: tuple[int, VmId]) -> int | None:
    at = bisect_left(points, point)
    return at if at < len(points) and points[at] == point else None


def _insert(points: list[tuple[int, VmId]], ids: list[VmId], point: tuple[int, VmId]) -> None:
    at = bisect_left(points, point)
    points.insert(at, point)
    ids.insert(at, point[1])
