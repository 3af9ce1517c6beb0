"""The resource monitor: keeps the cores of the harvest VMs at a target by asking a provider for more VMs.

Every period the cores of the live harvest VMs are compared with the target; what is missing is asked for in VMs of
`CORES_PER_VM` cores each (Zhang et al., SOSP 2021). Two departures from that source, which asks for an
increment whenever the sum is low: what was ordered but has not joined yet counts as coming, so that one shortage is not
ordered twice; and the order is a *target* ("let there be N VMs"), so that repeating it, or a second controller taking
over the role with no memory of the first one's orders, orders nothing twice either.

Example: target 30, live VMs of 8 and 5 cores. The deficit is 17, ceil(17 / 6) = 3, so `OrderVms(target=5)`. Next period
one has joined with 4 cores: 17 live + 2 x 6 coming = 29, the deficit is 1, so `OrderVms(target=3 + 2 + 1)`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from fallow.core.model import VmId

CORES_PER_VM = 6.0  # what a new harvest VM is expected to bring
EXPIRY_PERIODS = 4  # an order that has not joined by then is not counted any more
SEEN_KEPT = 20_000  # VM ids remembered to tell a new VM from one that was silent for a while


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderVms:
    """Ask the provider that at least `target` harvest VMs be alive or starting. Safe to repeat."""

    target: int
    deficit_cores: float  # what is missing now, orders under way counted


@dataclass(frozen=True, slots=True, kw_only=True)
class NoProvider:
    """Cores are missing and there is nobody to ask: tell the operator. Given once in the life of a monitor."""

    deficit_cores: float


class MonitorState:
    """The monitor of one controller: `decide` is asked as often as you like and answers once a period.

    `target_cores` = 0 switches it off; `period_s` and `now_s` are on the same clock. The first answer comes one period
    after the first question, so that VMs that are just dialling in are not taken for missing. `boot_s` is what a VM
    may take to join: where periods are shorter (a compressed trace), the first answer and the expiry of an order wait
    that long.
    """

    def __init__(self, *, target_cores: float, period_s: float, has_provider: bool, boot_s: float = 0.0) -> None:
        if target_cores < 0:
            raise ValueError(f"target_cores is {target_cores}: it must not be negative")
        if period_s <= 0:
            raise ValueError(f"period_s is {period_s}: it must be positive")
        self._target_cores = target_cores
        self._period_s = period_s
        self._boot_s = boot_s
        self._has_provider = has_provider
        self._said_no_provider = False
        self._due_s: float | None = None
        self._seen: dict[VmId, None] = {}
        self._orders: deque[float] = deque()  # one entry per VM ordered and not yet joined: when it was ordered

    @property
    def pending(self) -> int:
        """VMs ordered and not yet joined, expired orders left out (as of the last decision)."""
        return len(self._orders)

    def decide(
        self, now_s: float, live_vms: Sequence[tuple[VmId, float]], *, leaving: int = 0
    ) -> OrderVms | NoProvider | None:
        """What to do now, or None. O(n) in the live VMs once a period, O(1) in between.

        `live_vms` are the harvest VMs that are up, with their cores now. `leaving` counts those under an eviction
        notice: the provider still has them, so they belong into the target, but their cores are as good as gone.
        """
        if self._target_cores == 0 or not self._is_due(now_s, live_vms):
            return None
        self._count_joined(live_vms)
        self._expire(now_s)
        deficit_cores = self._target_cores - sum(cores for _, cores in live_vms) - CORES_PER_VM * len(self._orders)
        if deficit_cores <= 0:
            return None
        if not self._has_provider:
            return self._say_no_provider(deficit_cores)
        more = math.ceil(deficit_cores / CORES_PER_VM)
        self._orders.extend([now_s] * more)
        return OrderVms(target=len(live_vms) + leaving + len(self._orders), deficit_cores=deficit_cores)

    def order_failed(self) -> None:
        """The provider did not take the last order: forget all that is under way, so that the next period asks anew.

        Forgetting the earlier orders too is harmless, since what is asked for is a target.
        """
        self._orders.clear()

    def _is_due(self, now_s: float, live_vms: Sequence[tuple[VmId, float]]) -> bool:
        if self._due_s is None:
            self._due_s = now_s + max(self._period_s, self._boot_s)
            self._remember(live_vms)
            return False
        if now_s < self._due_s:
            return False
        missed = math.floor((now_s - self._due_s) / self._period_s)
        self._due_s += (missed + 1) * self._period_s  # keeps the schedule; periods slept through are not made up for
        return True

    def _count_joined(self, live_vms: Sequence[tuple[VmId, float]]) -> None:
        # Any new VM fulfils the oldest order. One that came by itself does too: the provider, which is given a target,
        # counts it as well and would not start another for it.
        for _ in range(min(self._remember(live_vms), len(self._orders))):
            self._orders.popleft()

    def _remember(self, live_vms: Sequence[tuple[VmId, float]]) -> int:
        """How many of them were never seen before."""
        new = 0
        for vm_id, _ in live_vms:
            new += vm_id not in self._seen
            self._seen.pop(vm_id, None)  # re-inserted at the end: the first key is the one not seen for longest
            self._seen[vm_id] = None
        while len(self._seen) > max(SEEN_KEPT, len(live_vms)):
            del self._seen[next(iter(self._seen))]
        return new

    def _expire(self, now_s: float) -> None:
        expiry_s = max(EXPIRY_PERIODS * self._period_s, self._boot_s)
        while self._orders and now_s - self._orders[0] >= expiry_s:
            self._orders.popleft()

    def _say_no_provider(self, deficit_cores: float) -> NoProvider | None:
        if self._said_no_provider:
            return None
        self._said_no_provider = True
        return NoProvider(deficit_cores=deficit_cores)
