"""The limits of namespaces, applied to the calls that clients make here.

The components of compositions pass unasked, for their cause was counted; the actions behind a fired trigger are counted
one by one, as if their owner had called them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from controller.api.errors import throttled
from controller.ledger import Ledger
from fallow.core.throttle import Excess, MinuteCounts, Quota, at_once, share
from fallow.infra.clock import unix_ms


class Throttles:
    """Counts and refuses. One for the whole controller; `controllers` says how many divide a limit."""

    def __init__(
        self, *, quota_of: Callable[[str], Awaitable[Quota]], ledger: Ledger, controllers: Callable[[], int]
    ) -> None:
        self._quota_of = quota_of
        self._ledger = ledger
        self._controllers = controllers
        self._invocations = MinuteCounts()
        self._fires = MinuteCounts()

    async def invoke(self, namespace: str) -> Quota:
        """Counts one invocation on behalf of the namespace. Raises ApiError 429 where it is over a limit."""
        quota = await self._quota_of(namespace)
        allowed = share(quota.invocations_per_minute, self._controllers())
        _refuse(self._invocations.count(namespace, allowed, unix_ms()))
        self.at_once(namespace, quota)
        return quota

    def at_once(self, namespace: str, quota: Quota) -> None:
        """To be asked again where something was waited for between `invoke` and the call's start: others may have
        started meanwhile. Raises ApiError 429."""
        allowed = share(quota.concurrent_invocations, self._controllers())
        _refuse(at_once(self._ledger.running_of(namespace), allowed))

    async def fire(self, namespace: str) -> None:
        """Counts one fired trigger of the namespace. Raises ApiError 429 where it is over the limit."""
        quota = await self._quota_of(namespace)
        _refuse(self._fires.count(namespace, share(quota.fires_per_minute, self._controllers()), unix_ms()))


def _refuse(excess: Excess | None) -> None:
    if excess is not None:
        raise throttled(excess.text, excess.retry_after_s)
