"""This controller's lease, and who else holds one."""

from __future__ import annotations

from collections.abc import Callable

from fallow.infra.clock import mono_s
from fallow.infra.log import get_logger
from fallow.infra.records import ControllerLease
from fallow.infra.store import Store, StoreError, StoreUnavailable

_log = get_logger("controller.leases")


class Leases:
    """Renews the lease and keeps the list of live controllers. To be called every quarter of the lease."""

    def __init__(
        self,
        *,
        store: Store,
        lease: ControllerLease,
        ttl_s: float,
        changed: Callable[[int], None],
        renewed: Callable[[float], None] = lambda _asked_mono_s: None,
        not_renewed: Callable[[], None] = lambda: None,
    ) -> None:
        """`renewed` is told when the renewal was asked for, `not_renewed` that the store did not answer."""
        self._store = store
        self._lease = lease
        self._ttl_s = ttl_s
        self._changed = changed
        self._renewed = renewed
        self._not_renewed = not_renewed
        self._renewed_mono_s = mono_s()
        self._known_mono_s = float("-inf")
        self._steady_since_mono_s = float("-inf")  # since when the list has been looked up without a gap
        self._live: frozenset[str] = frozenset((lease.controller_id,))

    def is_lapsed(self, controller_id: str) -> bool:
        """Whether that controller may be taken for dead: it holds no lease, though it could have renewed one.

        After an absence of the store every lease has lapsed, and whoever is back first would find nobody else.
        """
        now_s = mono_s()
        recent = now_s - self._known_mono_s < self._ttl_s
        steady = now_s - self._steady_since_mono_s >= self._ttl_s
        return recent and steady and controller_id not in self._live

    async def renew(self) -> None:
        """Takes or renews the lease; raises only what a repetition would not cure."""
        asked_mono_s = mono_s()
        try:
            await self._store.renew_lease(self._lease, self._ttl_s)
            self._renewed_mono_s = mono_s()
            self._renewed(asked_mono_s)
            await self.look_up()
        except StoreError as e:
            if isinstance(e, StoreUnavailable):
                self._not_renewed()
            late_s = mono_s() - self._renewed_mono_s
            _log.warning(
                "lease not renewed", error=str(e), lapsed=late_s > self._ttl_s, since_renewal_s=round(late_s, 1)
            )

    async def look_up(self) -> None:
        """Who holds a lease now. Raises StoreError."""
        live = await self._store.live_controllers()
        ids = frozenset((*(lease.controller_id for lease in live), self._lease.controller_id))
        now_s = mono_s()
        if float("-inf") < self._known_mono_s < now_s - self._ttl_s / 2:
            self._steady_since_mono_s = now_s
        self._known_mono_s = now_s
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
