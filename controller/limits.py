"""What each namespace may do: the default, and what the operator set for it, remembered until it changes."""

from __future__ import annotations

from fallow.core.throttle import Quota
from fallow.infra.clock import mono_s
from fallow.infra.store import Change, Store, StoreUnavailable

FRESH_S = 30.0  # a change is heard of at once; this bounds what a lost message could do
_KEPT = 10_000


class NamespaceLimits:
    """Quotas by namespace. While the store is away, what was known last goes on holding, and the default else."""

    def __init__(self, store: Store, default: Quota) -> None:
        self.default = default
        self._store = store
        self._known: dict[str, tuple[Quota, float]] = {}  # and until when (mono_s) it is taken as it is
        self._changes = 0  # heard of so far

    async def quota(self, namespace: str) -> Quota:
        """Costs a round trip to the store where the namespace was not asked for lately."""
        known, until_mono_s = self._known.get(namespace, (self.default, 0.0))
        if mono_s() < until_mono_s:
            return known
        changes_before = self._changes
        try:
            quota = (await self._store.get_limits(namespace)).over(self.default)
        except StoreUnavailable:
            quota = known
        if changes_before == self._changes:
            self._keep(namespace, quota)
        return quota

    def _keep(self, namespace: str, quota: Quota) -> None:
        self._known.pop(namespace, None)
        if len(self._known) >= _KEPT:
            del self._known[next(iter(self._known))]
        self._known[namespace] = (quota, mono_s() + FRESH_S)

    def heard(self, change: Change | None) -> None:
        """Something changed; None = anything may have."""
        if change is None:
            self._changes += 1
            self._known = {namespace: (quota, 0.0) for namespace, (quota, _) in self._known.items()}
        elif change.collection == "limits":
            self._changes += 1
            self._known.pop(change.namespace, None)
