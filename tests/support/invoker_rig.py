"""A whole invoker in this process, and a controller that speaks the real link to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from aiohttp import web

from fallow.core.model import ActionSpec
from fallow.infra import codec
from fallow.infra.link import Link, LinkServer
from fallow.infra.messages import Hello, Message, Recorded, Run, Welcome
from fallow.infra.records import ControllerLease
from fallow.infra.settings import InvokerSettings
from fallow.infra.store import Store
from invoker.app import serve

WAIT_S = 15.0
M = TypeVar("M")


class Controller:
    """Listens as a controller does and keeps what it hears."""

    def __init__(self, store: Store, name: str = "c1") -> None:
        self.name = name
        self.heard: list[Message] = []
        self.cancel: list[tuple[str, int]] = []
        self.links: list[Link] = []
        self._news = asyncio.Event()
        self._store = store
        self._server = LinkServer("secret", self._serve)
        self._runner: web.AppRunner | None = None
        self._seq = 0

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/link", self._server.handle)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        lease = ControllerLease(
            controller_id=self.name, link_url=f"ws://127.0.0.1:{port}/link", api_url="http://api.example"
        )
        await self._store.renew_lease(lease, 60)

    async def _serve(self, link: Link) -> None:
        async for messages in link:
            for message in messages:
                self.heard.append(message)
                if isinstance(message, Hello):
                    link.send(Welcome(protocol=1, controller_id=self.name, cancel=self.cancel))
                    self.links.append(link)
            self._news.set()

    async def until(self, what: Callable[[list[Message]], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not what(self.heard):
                self._news.clear()
                await self._news.wait()

    async def hear(self, kind: type[M], activation_id: str = "") -> M:
        """The first message of a kind, about an activation if one is named."""

        def found(heard: list[Message]) -> list[M]:
            mine = [m for m in heard if isinstance(m, kind)]
            return [m for m in mine if not activation_id or getattr(m, "activation_id", "") == activation_id]

        await self.until(lambda heard: bool(found(heard)))
        return found(self.heard)[0]

    async def recorded(self, activation_id: str) -> None:
        await self.until(
            lambda heard: any(isinstance(m, Recorded) and activation_id in m.activation_ids for m in heard)
        )

    def run(self, spec: ActionSpec, activation_id: str, args: bytes = b"{}", attempt: int = 1) -> None:
        self._seq += 1
        sent = self.links[-1].send(
            Run(
                activation_id=activation_id,
                attempt=attempt,
                seq=self._seq,
                action=codec.encode_action(spec),
                args=args,
                cap_cores=1.0,
                subject="guest",
                transaction_id="t1",
                accepted_unix_ms=1_700_000_000_000,
            )
        )
        assert sent

    async def close(self) -> None:
        await self._server.close()
        if self._runner is not None:
            await self._runner.cleanup()


class Serving:
    def __init__(self, settings: InvokerSettings) -> None:
        self._stop = asyncio.Event()
        self._task = asyncio.ensure_future(serve(settings, self._stop))

    async def stop(self) -> int:
        self._stop.set()
        async with asyncio.timeout(WAIT_S):
            return await self._task
