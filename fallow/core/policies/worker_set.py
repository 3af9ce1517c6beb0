"""What MWS keeps of one action on the VMs of one kind: the size of its worker set, and where it is likely warm."""

from __future__ import annotations

import math
from collections.abc import Set as AbstractSet

from fallow.core.model import VmId

SHRINK_AFTER_S = 30.0  # between two shrinks of a set
KEPT_WARM_S = 600.0  # an invoker's default keep-alive: so long after a call its container is likely to be there


class WorkerSet:
    """The size k of one action's set on one ring, and the home it counts from."""

    __slots__ = ("_shrunk_s", "home", "size", "version")

    def __init__(self) -> None:
        self.home: VmId | None = None  # None = not placed yet
        self.size = 1
        self.version = 0  # counts the changes
        self._shrunk_s = -math.inf

    def update(self, next_size: int, *, home: VmId, computed_from: int, now_s: float) -> bool:
        """Take in the smallest sufficient size found by a walk; False = the walk saw an older version and is dropped.

        A new home takes the size as it is, a larger size is taken at once, a smaller one `SHRINK_AFTER_S` after the
        last shrink.
        """
        if computed_from != self.version:
            return False
        if home != self.home:
            self.home = home
        elif next_size == self.size:
            return True
        elif next_size < self.size:
            if now_s - self._shrunk_s < SHRINK_AFTER_S:
                return True
            self._shrunk_s = now_s
        self.size = next_size
        self.version += 1
        return True


class Warmth:
    """The VMs that took a call of the action in the last `KEPT_WARM_S`.

    A guess, by this controller's own placements: a container may have been destroyed for its memory since, and other
    controllers may have started one elsewhere. A wrong guess costs a cold start, as knowing nothing would have.
    Memory: one entry a VM placed on in that time; every step costs O(1) amortised.
    """

    __slots__ = ("_placed_s",)

    def __init__(self) -> None:
        self._placed_s: dict[VmId, float] = {}  # the longest ago first

    def placed(self, vm_id: VmId, now_s: float) -> None:
        """A call goes there. `now_s` never goes back."""
        self._placed_s.pop(vm_id, None)
        self._placed_s[vm_id] = now_s

    def vms(self, now_s: float) -> AbstractSet[VmId]:
        """Those where it is likely warm now; valid until the next call of a method."""
        while self._placed_s:
            oldest = next(iter(self._placed_s))
            if now_s - self._placed_s[oldest] <= KEPT_WARM_S:
                break
            del self._placed_s[oldest]
        return self._placed_s.keys()
