"""The controller process: its parts, wired; its loops; its start and its end."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, NoReturn

from aiohttp import web

from controller import system_packages
from controller.actions_cache import BUILTIN, CONDUCTOR, SEQUENCE, ActionsCache
from controller.alarms.feed import AlarmFeeds
from controller.alarms.fires import fires_with
from controller.alarms.loop import AlarmLoop
from controller.api.actions import Actions
from controller.api.activations import Activations
from controller.api.admin import Admin
from controller.api.bodies import Bodies
from controller.api.invoke import Invoke
from controller.api.packages import Packages
from controller.api.router import Router
from controller.api.rules import Rules
from controller.api.schema import Bounds
from controller.api.server import ApiServer
from controller.api.tenants import Tenants
from controller.api.triggers import Triggers
from controller.api.web import WebActions
from controller.api.why import WhyAnswers
from controller.auth import Authenticator
from controller.builtins import BuiltinRunner
from controller.compositions.conductor import ConductorRunner
from controller.compositions.parts import Parts
from controller.compositions.sequence import SequenceRunner
from controller.dispatcher import Dispatcher
from controller.errands import Errands
from controller.firing import Firing
from controller.internal import internal_app
from controller.invalidation import Invalidation
from controller.invocations import Invocations
from controller.leases import Leases
from controller.ledger import Ledger
from controller.limits import NamespaceLimits
from controller.links import Links
from controller.monitor import Monitor, Provider
from controller.own_calls import OwnCalls
from controller.peers import Peers
from controller.policy_faults import PolicyFaults
from controller.recorder import Recorder
from controller.stats import Stats
from controller.stream_reader import StreamReader
from controller.throttles import Throttles
from controller.view import ClusterInfo
from fallow.core.cluster.events import ControllersChanged, Ticked
from fallow.core.cluster.state import ClusterLimits, ClusterState
from fallow.core.eviction import Strategy, make_strategy
from fallow.core.model import ControllerId
from fallow.core.monitor import MonitorState
from fallow.core.policies.base import Policy
from fallow.core.throttle import QUOTAS
from fallow.infra import tenant_keys
from fallow.infra.clock import mono_s, unix_ms
from fallow.infra.link import LinkServer
from fallow.infra.log import get_logger
from fallow.infra.records import ControllerLease
from fallow.infra.settings import ControllerSettings
from fallow.infra.store import Store, StoreError
from fallow.infra.tasks import FatalError, every
from fallow.own_policies import find_policy

TICK_S = 0.25
CLAIM_PERIOD_S = 1.0
MONITOR_STEP_S = 1.0
ALARM_STEP_S = 1.0
TRIM_PERIOD_S = 10.0
DRAIN_S = 5.0
CLOSE_S = 2.0
GUEST = "guest"  # the namespace of guest_key
_TRIM_ROLE = "trim"

_log = get_logger("controller")


class Controller:
    """One controller. Build it inside a running loop, with an open store; `run` serves until told to stop."""

    def __init__(self, settings: ControllerSettings, store: Store) -> None:
        """Raises FatalError for settings that no controller can run with."""
        self._settings = settings
        self._store = store
        self._accepting = False
        self._reader: StreamReader | None = None  # once it runs
        self.id = ControllerId(settings.controller_id or f"c-{secrets.token_hex(4)}")
        store.configure_limits(stream_entries=settings.stream_entries, stream_bytes=settings.stream_bytes)
        policy, strategy = _deciders(settings)
        self._stats = Stats()
        self._ledger = Ledger(max_calls=settings.in_flight_calls, max_bytes=settings.in_flight_bytes)
        self._peers = Peers()
        self._recorder = Recorder(store)
        self._errands = Errands()
        self._cluster = ClusterState(policy=policy, strategy=strategy, limits=_limits(settings))
        self._dispatcher = Dispatcher(
            controller_id=self.id,
            cluster=self._cluster,
            ledger=self._ledger,
            peers=self._peers,
            store=store,
            recorder=self._recorder,
            errands=self._errands,
            stats=self._stats,
        )
        self._links = LinkServer(settings.join_secret, Links(self._dispatcher, self._peers).serve)
        self._info = ClusterInfo(
            controller_id=self.id,
            cluster=self._cluster,
            ledger=self._ledger,
            recorder=self._recorder,
            errands=self._errands,
            stats=self._stats,
            policy=settings.policy,
            strategy=settings.strategy,
        )
        self._invalidation = Invalidation(controller_id=self.id, store=store, lease_s=settings.lease_s)
        self._cache = ActionsCache(store, self._invalidation)
        self._bounds = Bounds(
            max_timeout_ms=round(settings.max_timeout_s * 1000),
            max_memory_mb=settings.max_memory_mb,
            deprecated_kinds=frozenset(filter(None, map(str.strip, settings.deprecated_kinds.split(",")))),
        )
        self._invocations = Invocations(
            controller_id=self.id,
            ledger=self._ledger,
            dispatcher=self._dispatcher,
            store=store,
            stats=self._stats,
            accepting=lambda: self._accepting,
            deprecated_kinds=self._bounds.deprecated_kinds,
        )
        self._limits = NamespaceLimits(store, self._invalidation, QUOTAS[settings.limits])
        self._throttles = Throttles(
            quota_of=self._limits.quota, ledger=self._ledger, controllers=lambda: self._info.controllers
        )
        self._bodies = Bodies()
        self._actions = Actions(
            store=store,
            cache=self._cache,
            peers=self._peers,
            bounds=self._bounds,
            bodies=self._bodies,
            quota_of=self._limits.quota,
        )
        self._auth = Authenticator(
            store, settings.operator_key, self._invalidation, allow_well_known=settings.allow_well_known_keys
        )
        for cache in (self._cache, self._limits, self._auth):
            self._invalidation.add(cache)
        self._firing = Firing(
            store=store, actions=self._cache, invocations=self._invocations, throttles=self._throttles
        )
        self._own_calls = OwnCalls(controller_id=self.id, dispatcher=self._dispatcher, store=store)
        parts = Parts(actions=self._cache, invocations=self._invocations, store=store, own_calls=self._own_calls)
        self._own_calls.register(SEQUENCE, SequenceRunner(parts))
        self._own_calls.register(CONDUCTOR, ConductorRunner(parts))
        self._alarms = AlarmLoop(
            controller_id=self.id,
            store=store,
            fire=fires_with(self._firing, self._throttles.fire),
            accepting=lambda: self._accepting,
        )
        feeds = AlarmFeeds(store=store, owner=self._auth.owner)
        self._own_calls.register(BUILTIN, BuiltinRunner(feeds.actions()))
        self.api_url = ""
        self.link_url = ""

    def _router(self) -> Router:
        stories = WhyAnswers(
            controller_id=self.id,
            strategy=self._settings.strategy,
            story_of=lambda activation_id: self._cluster.why(activation_id, mono_s()),
            store=self._store,
            live=lambda: self._info.controllers,
        )
        return Router(
            auth=self._auth,
            invoke=Invoke(
                actions=self._cache, invocations=self._invocations, throttles=self._throttles, stats=self._stats
            ),
            actions=self._actions,
            packages=Packages(store=self._store, cache=self._cache, bodies=self._bodies),
            triggers=Triggers(store=self._store, bodies=self._bodies, firing=self._firing, throttles=self._throttles),
            rules=Rules(store=self._store, actions=self._cache, bodies=self._bodies),
            web_actions=WebActions(
                auth=self._auth, actions=self._cache, invocations=self._invocations, throttles=self._throttles
            ),
            activations=Activations(self._store, stories),
            admin=Admin(info=self._info, peers=self._peers, tenants=self._tenants(), stories=stories),
            stats=self._stats,
            bounds=self._bounds,
            offered=lambda: self._peers.offered,
            live=lambda: self._peers.live,
            invokers=self._info.invokers,
            limits=self._limits,
            settled=self._invalidation.settled,
            disable=self.disable,
        )

    def _tenants(self) -> Tenants:
        return Tenants(
            store=self._store,
            auth=self._auth,
            limits=self._limits,
            settled=self._invalidation.settled,
            allow_well_known=self._settings.allow_well_known_keys,
        )

    async def run(self, stop: asyncio.Event, *, ready: Callable[[], None] | None = None) -> None:
        """Serves until `stop` is set, then shuts down in order. `ready` is called once both listeners stand.

        Raises FatalError where an address cannot be listened on, and whatever ends one of the loops.
        """
        async with AsyncExitStack() as stack:
            stack.callback(self._bodies.close)
            stack.callback(self._own_calls.close)
            internal = web.AppRunner(
                internal_app(self._links, self._info, self._ledger, lambda: self._accepting),
                access_log=None,
                shutdown_timeout=CLOSE_S,
            )
            link = await _listen(stack, internal, self._settings.link_host, self._settings.link_port)
            self.link_url = f"ws://{self._advertised(link)}/link"
            self._info.link_url = self.link_url
            public = web.ServerRunner(ApiServer(self._router().handle), shutdown_timeout=CLOSE_S)
            api = await _listen(stack, public, self._settings.host, self._settings.port)
            self.api_url = f"http://{self._advertised(api)}"
            told = self._settings.actions_url or self.api_url
            lease = ControllerLease(controller_id=self.id, link_url=self.link_url, api_url=told)
            leases = Leases(
                store=self._store,
                lease=lease,
                ttl_s=self._settings.lease_s,
                changed=self._controllers_changed,
                renewed=self._invalidation.lease_renewed,
                not_renewed=self._invalidation.lease_not_renewed,
            )
            await self._grant_guest()
            await self._install_system_packages()
            await leases.renew()
            self._reader = reader = self._stream_reader(leases)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(loop, name=name) for name, loop in self._loops(leases, reader)]
                self._accepting = True
                _log.info("controller ready", controller=self.id, api=self.api_url, link=self.link_url)
                if ready is not None:
                    ready()
                await stop.wait()
                await self._drain()
                await leases.release()
                await self._links.close()
                for task in tasks:
                    task.cancel()

    def _advertised(self, listening: str) -> str:
        """ "host:port" as others reach what listens there."""
        host = self._settings.advertise_host
        return f"{host}:{listening.rpartition(':')[2]}" if host else listening

    async def _grant_guest(self) -> None:
        """Raises FatalError."""
        if not self._settings.guest_key:
            return
        if tenant_keys.is_well_known(self._settings.guest_key) and not self._settings.allow_well_known_keys:
            raise FatalError(f"guest_key cannot be granted. {tenant_keys.WELL_KNOWN}")
        try:
            await self._store.put_key(GUEST, self._settings.guest_key)
        except StoreError as e:
            raise FatalError(f"guest_key cannot be granted: {e}") from None

    async def _install_system_packages(self) -> None:
        """Raises FatalError."""
        try:
            await system_packages.install(self._store)
        except StoreError as e:
            raise FatalError(f"the packages of {system_packages.NAMESPACE} cannot be put: {e}") from None

    def _stream_reader(self, leases: Leases) -> StreamReader:
        return StreamReader(
            controller_id=self.id,
            store=self._store,
            dispatcher=self._dispatcher,
            ledger=self._ledger,
            leases=leases,
            room=self._cluster.room_for_durable,
        )

    def _loops(self, leases: Leases, reader: StreamReader) -> list[tuple[str, Coroutine[Any, Any, NoReturn]]]:
        loops: list[tuple[str, Coroutine[Any, Any, NoReturn]]] = [
            ("tick", every(TICK_S, self._tick)),
            ("lease", every(self._settings.lease_s / 4, leases.renew)),
            ("stream", reader.read()),
            ("claim", every(CLAIM_PERIOD_S, reader.claim)),
            ("recorder", self._recorder.run()),
            ("errands", self._errands.run()),
            ("close links", self._peers.close_dropped()),
            ("changes", self._invalidation.follow()),
            ("seen changes", self._invalidation.note()),
            ("alarms", every(ALARM_STEP_S, self._alarms.step)),
            ("trim", every(TRIM_PERIOD_S, self._trim)),
        ]
        if self._settings.target_cores > 0:
            loops.append(("monitor", every(MONITOR_STEP_S, self._monitor().step)))
        return loops

    def _monitor(self) -> Monitor:
        settings = self._settings
        state = MonitorState(
            target_cores=settings.target_cores,
            period_s=settings.monitor_period_s,
            has_provider=bool(settings.provider_url),
            boot_s=settings.vm_boot_s,
        )
        provider = Provider(settings.provider_url) if settings.provider_url else None
        return Monitor(
            controller_id=self.id, state=state, provider=provider, store=self._store, vms=self._info.statuses
        )

    def _tick(self) -> None:
        self._dispatcher.apply(Ticked())

    def _controllers_changed(self, live: int) -> None:
        self._info.controllers = live
        self._dispatcher.apply(ControllersChanged(live=live))

    async def _trim(self) -> None:
        settings = self._settings
        try:
            if await self._store.hold(_TRIM_ROLE, self.id, TRIM_PERIOD_S * 2):
                removed = await self._store.trim(
                    max_age_s=settings.record_age_s,
                    max_count=settings.record_count,
                    max_bytes=settings.record_bytes,
                    now_unix_ms=unix_ms(),
                )
                if removed:
                    _log.info("records trimmed", removed=removed)
        except StoreError as e:
            _log.warning("records not trimmed", error=str(e))

    def disable(self) -> bool:
        """From here on no new call is taken, from clients or from the stream; what runs may end. False = so already."""
        was_accepting, self._accepting = self._accepting, False
        if self._reader is not None:
            self._reader.stopped = True
        return was_accepting

    async def _drain(self) -> None:
        """No new calls; those whose client waits may end, and records get written, within the deadline."""
        self.disable()
        try:
            async with asyncio.timeout(DRAIN_S):
                if waiters := self._ledger.waiters():
                    await asyncio.wait(waiters)
                await self._recorder.drained()
        except TimeoutError:
            _log.warning("shut down with calls under way", calls=len(self._ledger), records=len(self._recorder))


def announce(controller: Controller) -> None:
    """One JSON line on stdout for whoever started the process: where it listens."""
    line = {"ready": True, "controller": controller.id, "api_url": controller.api_url, "link_url": controller.link_url}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _deciders(settings: ControllerSettings) -> tuple[Policy, Strategy]:
    try:
        policy = find_policy(settings.policy, random.Random(settings.seed), PolicyFaults())
        return policy, make_strategy(settings.strategy, settings.grace_s)
    except ValueError as e:
        raise FatalError(str(e)) from None


def _limits(settings: ControllerSettings) -> ClusterLimits:
    return ClusterLimits(
        lost_after_s=settings.lost_after_s,
        off_ring_after_s=settings.off_ring_after_s,
        max_attempts=settings.max_attempts,
        waiting_calls=settings.waiting_calls,
        waiting_bytes=settings.waiting_bytes,
        max_wait_s=settings.max_wait_s,
        max_queue_wait_s=settings.max_queue_wait_s,
    )


async def _listen(stack: AsyncExitStack, runner: web.BaseRunner, host: str, port: int) -> str:
    """Starts a listener; "host:port" as it came out. Raises FatalError where the address is not to be had."""
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as e:
        text = f"cannot listen on {host}:{port}: {e.strerror or e}\nUse another port; port 0 picks a free one."
        raise FatalError(text) from None
    found = runner.addresses[0]
    return f"[{found[0]}]:{found[1]}" if ":" in found[0] else f"{found[0]}:{found[1]}"
