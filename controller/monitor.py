"""The resource monitor's loop: the one controller that holds the role orders what harvest cores are missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import assert_never

import aiohttp

from fallow.core.cluster.bookings import VmStatus
from fallow.core.lifecycle import VmState
from fallow.core.model import VmKind
from fallow.core.monitor import MonitorState, NoProvider, OrderVms
from fallow.infra.clock import mono_s
from fallow.infra.log import get_logger
from fallow.infra.store import Store, StoreError
from fallow.infra.tasks import FatalError

ROLE = "monitor"
ROLE_TTL_S = 5.0
ORDER_TIMEOUT_S = 5.0

_log = get_logger("controller.monitor")


class ProviderError(Exception):
    """The provider did not take an order; the text says why."""


class Provider:
    """The fleet process, or whatever else starts VMs: `PUT /v1/target {"vms": N}` over HTTP on a unix socket."""

    def __init__(self, url: str) -> None:
        """Raises FatalError for a URL that is neither unix:///path nor http://."""
        if url.startswith("unix://"):
            self._connector_path, self._base = url.removeprefix("unix://"), "http://provider"
        elif url.startswith(("http://", "https://")):
            self._connector_path, self._base = "", url.rstrip("/")
        else:
            raise FatalError(f"provider_url is {url!r}; it must be unix:///path/to/socket or http://host:port")

    async def order(self, vms: int) -> None:
        """At least so many harvest VMs shall be alive or starting. Raises ProviderError."""
        connector = aiohttp.UnixConnector(path=self._connector_path) if self._connector_path else None
        timeout = aiohttp.ClientTimeout(total=ORDER_TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.put(f"{self._base}/v1/target", json={"vms": vms}) as response,
            ):
                if response.status >= 300:
                    raise ProviderError(f"the provider answers {response.status}: {(await response.text())[:200]}")
        except TimeoutError:
            raise ProviderError(f"the provider did not answer within {ORDER_TIMEOUT_S:g} s") from None
        except (aiohttp.ClientError, OSError) as e:
            raise ProviderError(str(e)) from None


class Monitor:
    """Asks `MonitorState` and carries out its orders. `step` is to be called every second."""

    def __init__(
        self,
        *,
        controller_id: str,
        state: MonitorState,
        provider: Provider | None,
        store: Store,
        vms: Callable[[], Sequence[VmStatus]],
    ) -> None:
        self._controller_id = controller_id
        self._state = state
        self._provider = provider
        self._store = store
        self._vms = vms

    async def step(self) -> None:
        try:
            if not await self._store.hold(ROLE, self._controller_id, ROLE_TTL_S):
                return
        except StoreError as e:
            _log.warning("monitor waits for the store", error=str(e))
            return
        harvest = [s for s in self._vms() if s.info.kind is VmKind.HARVEST and s.state is not VmState.LOST]
        live = [(s.info.id, s.report.capacity.cpu_cores) for s in harvest if s.state is VmState.UP]
        leaving = sum(1 for s in harvest if s.state is VmState.DRAINING)
        decision = self._state.decide(mono_s(), live, leaving=leaving)
        match decision:
            case None:
                return
            case NoProvider():
                missing = round(decision.deficit_cores, 2)
                _log.warning("harvest cores below the target, and no provider to order from", missing_cores=missing)
            case OrderVms():
                await self._order(decision)
            case _:
                assert_never(decision)

    async def _order(self, order: OrderVms) -> None:
        if self._provider is None:
            raise AssertionError("an order without a provider")
        try:
            await self._provider.order(order.target)
            _log.info("VMs ordered", target=order.target, missing_cores=round(order.deficit_cores, 2))
        except ProviderError as e:
            self._state.order_failed()
            _log.warning("VMs not ordered", target=order.target, error=str(e))
