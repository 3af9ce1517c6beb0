"""This controller's lease, and who else holds one."""

from __future__ import annotations

from collections.abc import Callable

from fallow.infra.clock import mono_s
from fallow.infra.log import get_logger
from fallow.infra.records import ControllerLease
from fallow.infra.store import Store, StoreError

_log = get_logger("controller.leases")


class Leases:
    """Renews the lease and keeps the list of live controllers. To be called every quarter of the lease."""

    def __init__(self, *, store: Store, lease: ControllerLease, ttl_s: float, changed: Callable[[int], None]) -> None:
        self._store = store
        self._lease = lease
        self._ttl_s = ttl_s
        self._changed = changed
        self._renewed_mono_s = mono_s()
        self._known_mono_s = float("-inf")
        self._live: frozenset[str] = frozenset((lease.controller_id,))

    def is_live(self, controller_id: str) -> bool:
        """Whether that controller held a lease when this was last looked up."""
        return controller_id in self._live

    @property
    def knows_others(self) -> bool:
        """Whether the list of the others is recent: without that, nobody may be taken for dead."""
        return mono_s() - self._known_mono_s < self._ttl_s

    async def renew(self) -> None:
        """Takes or renews the lease; raises only what a repetition would not cure."""
        try:
            await self._store.renew_lease(self._lease, self._ttl_s)
            self._renewed_mono_s = mono_s()
            live = await self._store.live_controllers()
        except StoreError as e:
            late_s = mono_s() - self._renewed_mono_s
            _log.warning(
                "lease not renewed", error=str(e), lapsed=late_s > self._ttl_s, since_renewal_s=round(late_s, 1)
            )
            return
        ids = frozenset((*(lease.controller_id for lease in live), self._lease.controller_id))
        self._known_mono_s = mono_s()
        if ids != self._live:
            _log.info("controllers changed", live=sorted(ids))
            self._live = ids
            self._changed(len(ids))

    async def release(self) -> None:
        """Ends the lease at once: invokers and peers need not wait for it to lapse."""
        try:
            await self._store.release_lease(self._lease.controller_id)
        except StoreError as e:
            _log.warning("lease not released; it lapses by itself", error=str(e), ttl_s=self._ttl_s)
