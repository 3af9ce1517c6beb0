"""What each namespace may do: the default, and what the operator set for it, remembered until it changes."""

from __future__ import annotations

from controller.invalidation import Invalidation
from fallow.core.throttle import Quota
from fallow.infra.store import Change, Store, StoreUnavailable

_KEPT = 10_000


class NamespaceLimits:
    """Quotas by namespace. While the store is away, what was known last goes on holding, and the default else."""

    def __init__(self, store: Store, invalidation: Invalidation, default: Quota) -> None:
        self.default = default
        self._store = store
        self._invalidation = invalidation
        self._known: dict[str, Quota] = {}
        self._fresh: set[str] = set()
        self._changes = 0  # heard of so far

    async def quota(self, namespace: str) -> Quota:
        """Costs a round trip to the store where the namespace was not asked for lately."""
        if namespace in self._fresh and self._invalidation.current:
            return self._known[namespace]
        if self._invalidation.away:
            return self._known.get(namespace, self.default)
        changes_before = self._changes
        try:
            quota = (await self._store.get_limits(namespace)).over(self.default)
        except StoreUnavailable:
            return self._known.get(namespace, self.default)
        if namespace not in self._known and len(self._known) >= _KEPT:
            self._fresh.discard(oldest := next(iter(self._known)))
            del self._known[oldest]
        self._known[namespace] = quota
        if changes_before == self._changes:
            self._fresh.add(namespace)
        return quota

    def heard(self, change: Change | None) -> None:
        """What was known of a changed namespace counts as old; None = of every one."""
        if change is None:
            self._changes += 1
            self._fresh.clear()
        elif change.collection == "limits":
            self.forget(change.namespace)

    def forget(self, namespace: str) -> None:
        """To be called after every own change: the next call reads what stands."""
        self._changes += 1
        self._fresh.discard(namespace)
