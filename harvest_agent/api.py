"""The agent's HTTP face on its unix socket (see fallow.infra.vmstate)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from aiohttp import web

from fallow.core.model import VmKind
from fallow.infra.settings import AgentSettings
from harvest_agent.emulator import OPERATOR, EmulatedVm

MAX_BODY_BYTES = 64 << 10


class BadBodyError(Exception):
    """The text says what is wrong with the request's body."""


async def read_object(request: web.Request) -> dict[str, Any]:
    """The body as a JSON object; no body is {}. Raises BadBodyError."""
    try:
        raw = await request.read()
        body = json.loads(raw) if raw else {}
    except (ValueError, RecursionError) as e:
        raise BadBodyError(f"the body is not JSON: {e}") from None
    if not isinstance(body, dict):
        raise BadBodyError("the body must be a JSON object")
    return body


def number(body: dict[str, Any], key: str, default: float | None = None) -> float:
    """Raises BadBodyError where it is missing without a default, or no number."""
    value = body.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadBodyError(f"{key} is {value!r}; it must be a number")
    return float(value)


def refuse(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)


class AgentApi:
    def __init__(self, settings: AgentSettings, vm: EmulatedVm, go: asyncio.Event) -> None:
        """`go` is set by /v1/play."""
        self._settings = settings
        self._vm = vm
        self._go = go

    def app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_get("/v1/state", self.state)
        app.router.add_get("/v1/changes", self.changes)
        app.router.add_post("/v1/resize", self.resize)
        app.router.add_post("/v1/evict", self.evict)
        app.router.add_post("/v1/withdraw", self.withdraw)
        app.router.add_post("/v1/play", self.play)
        return app

    async def state(self, request: web.Request) -> web.Response:
        return web.Response(body=self._vm.state().to_json(), content_type="application/json")

    async def changes(self, request: web.Request) -> web.StreamResponse:
        """A slow reader gets the state of the moment it reads, never a backlog."""
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        try:
            while not self._vm.closed:
                change = self._vm.next_change()
                await response.write(self._vm.state().to_json() + b"\n")
                await change.wait()
        except ConnectionError:
            pass  # the reader left
        return response

    async def resize(self, request: web.Request) -> web.Response:
        try:
            self._vm.resize(number(await read_object(request), "cores"), by=OPERATOR)
        except (BadBodyError, ValueError) as e:
            return refuse(400, str(e))
        return web.Response(status=204)

    async def evict(self, request: web.Request) -> web.Response:
        if not VmKind(self._settings.kind).evictable:
            return refuse(409, f"{self._settings.vm_id} is a {self._settings.kind} VM: those are never evicted")
        try:
            body = await read_object(request)
            notice_s = self._settings.notice_s if body.get("notice_s") is None else number(body, "notice_s")
            self._vm.evict(notice_s, by=OPERATOR)
        except (BadBodyError, ValueError) as e:
            return refuse(400, str(e))
        return web.Response(status=204)

    async def withdraw(self, request: web.Request) -> web.Response:
        if not self._vm.withdraw(by=OPERATOR):
            return refuse(409, f"no eviction of {self._settings.vm_id} is announced")
        return web.Response(status=204)

    async def play(self, request: web.Request) -> web.Response:
        self._go.set()
        return web.Response(status=204)


class UnixServer:
    """Serves an application on a unix socket that only its owner may open."""

    def __init__(self, app: web.Application, path: str) -> None:
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        self._path = Path(path)
        self._bound = False

    async def start(self) -> None:
        """A socket left by a dead process is replaced. Raises OSError, also for a path above some 107 bytes."""
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self._path)).start()
        self._bound = True
        self._path.chmod(0o600)

    async def stop(self) -> None:
        await self._runner.cleanup()
        if self._bound:
            self._path.unlink(missing_ok=True)
