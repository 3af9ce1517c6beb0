"""Links to every controller that holds a lease: dialled, greeted, kept, and dialled again.

What a controller must hear (results, returns, the end of a call, what is recorded) waits for it while its link is
down, in order and bounded, until it is back or its lease is gone; reports do not wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp

from fallow.infra import clock
from fallow.infra.link import Link, LinkError, dial
from fallow.infra.log import get_logger
from fallow.infra.messages import (
    Cancel,
    CommandDone,
    Completed,
    Hello,
    Message,
    Recorded,
    Rejected,
    Report,
    Result,
    Returned,
    Run,
    VmCommand,
    Welcome,
)
from fallow.infra.records import ControllerLease
from fallow.infra.store import StoreError

SCAN_S = 1.0
FIRST_SCAN_S = 0.1  # until there is a controller: a cluster starts all its processes at once
DIAL_TIMEOUT_S = 2.0
WELCOME_TIMEOUT_S = 5.0
REJECTED_PAUSE_S = 5.0  # a controller of another version is asked again, but not every second
LEASE_GONE_S = 10.0  # after so long without a lease nobody waits for what we hold for that controller
OUTBOX_BYTES = 32 << 20
OUTBOX_MESSAGES = 20_000

log = get_logger("invoker.links")

Awaited = Returned | Result | Completed | Recorded | CommandDone


@dataclass(slots=True)
class Peer:
    """One controller: its present link if it stands, and what waits for it."""

    controller_id: str
    lease: ControllerLease
    lease_seen_mono_s: float
    link: Link | None = None
    task: asyncio.Task[None] | None = None
    seen: int = 0
    outbox: deque[tuple[Awaited, int]] = field(default_factory=deque)
    outbox_bytes: int = 0
    dropped: int = 0


def _size(message: Awaited) -> int:
    match message:
        case Result():
            return 200 + len(message.result)
        case Recorded():
            return 64 + 40 * (len(message.activation_ids) + len(message.fenced))
        case _:
            return 128


class Links:
    """`hello(controller_id, seen)` makes the greeting, `report(seen)` a report; `on_message` gets what controllers
    say, but for the greeting's answer: `on_welcome` gets that."""

    def __init__(
        self,
        *,
        secret: str,
        leases: Callable[[], Awaitable[list[ControllerLease]]],
        hello: Callable[[str, int], Hello],
        report: Callable[[int], Report],
        on_welcome: Callable[[str, Welcome], None],
        on_message: Callable[[str, Run | Cancel | VmCommand], None],
    ) -> None:
        self._secret = secret
        self._leases = leases
        self._hello = hello
        self._report = report
        self._on_welcome = on_welcome
        self._on_message = on_message
        self._peers: dict[str, Peer] = {}
        self._session = aiohttp.ClientSession()

    def api_url(self, controller_id: str) -> str:
        """Where that controller's API is; "" for one that is gone."""
        peer = self._peers.get(controller_id)
        return peer.lease.api_url if peer is not None else ""

    @property
    def api_host(self) -> str:
        """Where any controller's API is; "" while none is known."""
        return next((peer.lease.api_url for peer in self._peers.values() if peer.lease.api_url), "")

    @property
    def connected(self) -> list[str]:
        """Controllers whose link stands."""
        return [p.controller_id for p in self._peers.values() if p.link is not None]

    def waiting_results(self, controller_id: str) -> list[tuple[str, int]]:
        """Attempts whose result that controller has not been sent."""
        peer = self._peers.get(controller_id)
        if peer is None:
            return []
        return [(m.activation_id, m.attempt) for m, _ in peer.outbox if isinstance(m, Result)]

    def send(self, controller_id: str, message: Awaited) -> None:
        """Send, or keep until the controller is back. Never blocks."""
        peer = self._peers.get(controller_id)
        if peer is None:
            return  # its lease is gone: peers claim its calls, the records are in the store
        if peer.link is not None and not peer.outbox and peer.link.send(message):
            return
        self._keep(peer, message)

    def send_report(self) -> None:
        """Report to every controller now, and send what still waits where there is room again."""
        for peer in self._peers.values():
            self._flush(peer)
            if peer.link is not None:
                peer.link.send(self._report(peer.seen))

    def _keep(self, peer: Peer, message: Awaited) -> None:
        size = _size(message)
        peer.outbox.append((message, size))
        peer.outbox_bytes += size
        while peer.outbox_bytes > OUTBOX_BYTES or len(peer.outbox) > OUTBOX_MESSAGES:
            _, size = peer.outbox.popleft()
            peer.outbox_bytes -= size
            peer.dropped += 1
            if peer.dropped == 1:
                log.error("messages_dropped", controller=peer.controller_id, bound_bytes=OUTBOX_BYTES)

    def _flush(self, peer: Peer) -> None:
        while peer.outbox and peer.link is not None and peer.link.send(peer.outbox[0][0]):
            _, size = peer.outbox.popleft()
            peer.outbox_bytes -= size

    async def run(self) -> None:
        """Look for controllers every second and keep a link to each, for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._scan(group)
                await asyncio.sleep(SCAN_S if self._peers else FIRST_SCAN_S)

    async def close(self) -> None:
        """Close every link. `run` must have been cancelled before."""
        links = [p.link for p in self._peers.values() if p.link is not None]
        await asyncio.gather(*(link.close() for link in links))
        await self._session.close()

    async def _scan(self, group: asyncio.TaskGroup) -> None:
        now = clock.mono_s()
        try:
            leases = await self._leases()
        except StoreError as e:
            # The last known controllers keep being dialled: they may well stand while Redis does not.
            log.warning("leases_unknown", error=str(e))
            leases = [p.lease for p in self._peers.values()]
        for lease in leases:
            peer = self._peers.get(lease.controller_id)
            if peer is None:
                peer = Peer(controller_id=lease.controller_id, lease=lease, lease_seen_mono_s=now)
                self._peers[lease.controller_id] = peer
            peer.lease, peer.lease_seen_mono_s = lease, now
            if peer.task is None or peer.task.done():
                peer.task = group.create_task(self._serve(peer))
        for peer in list(self._peers.values()):
            if peer.link is None and now - peer.lease_seen_mono_s > LEASE_GONE_S:
                log.info("controller_gone", controller=peer.controller_id, unsent=len(peer.outbox))
                del self._peers[peer.controller_id]

    async def _serve(self, peer: Peer) -> None:
        """One link's life. Every way it can break is the same: it is dialled again at the next scan."""
        try:
            link = await dial(self._session, peer.lease.link_url, self._secret, timeout_s=DIAL_TIMEOUT_S)
        except LinkError as e:
            log.info("controller_unreachable", controller=peer.controller_id, error=str(e))
            return
        try:
            link.send(self._hello(peer.controller_id, peer.seen))
            pause_s = await self._converse(peer, link)
        finally:
            peer.link = None
            await link.close()
        if pause_s:
            await asyncio.sleep(pause_s)

    async def _converse(self, peer: Peer, link: Link) -> float:
        """Returns how long to wait before the next dial."""
        try:
            async with asyncio.timeout(WELCOME_TIMEOUT_S):
                messages = await anext(link)
        except (TimeoutError, StopAsyncIteration):
            log.warning("no_welcome", controller=peer.controller_id)
            return 0.0
        match messages[0]:
            case Rejected(reason=reason):
                log.error("rejected", controller=peer.controller_id, reason=reason)
                return REJECTED_PAUSE_S
            case Welcome(controller_id=name) as welcome if name == peer.controller_id:
                log.info("link_up", controller=name, protocol=welcome.protocol)
                peer.link = link
                self._on_welcome(name, welcome)
                self._flush(peer)
            case other:
                log.warning("not_welcomed", controller=peer.controller_id, message=type(other).__name__)
                return 0.0
        self._take(peer, messages[1:])
        async for messages in link:
            self._take(peer, messages)
        log.info("link_closed", controller=peer.controller_id, reason=link.close_reason)
        return 0.0

    def _take(self, peer: Peer, messages: list[Message]) -> None:
        for message in messages:
            match message:
                case Run():
                    peer.seen = max(peer.seen, message.seq)
                    self._on_message(peer.controller_id, message)
                case Cancel() | VmCommand():
                    self._on_message(peer.controller_id, message)
                case _:
                    log.warning("unexpected_message", controller=peer.controller_id, message=type(message).__name__)
