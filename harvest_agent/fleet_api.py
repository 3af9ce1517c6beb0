"""The fleet's HTTP face on its unix socket."""

from __future__ import annotations

from typing import Protocol

from aiohttp import web

from harvest_agent.api import MAX_BODY_BYTES, BadBodyError, read_object, refuse


class NoProviderError(Exception):
    """VMs were asked of a fleet that has none to give."""


class FleetControls(Protocol):
    """What can be asked of a fleet."""

    def describe(self) -> dict[str, object]: ...
    def set_target(self, vms: int) -> tuple[int, int]: ...
    async def play(self) -> None: ...
    def stop(self) -> None: ...


class FleetApi:
    def __init__(self, fleet: FleetControls) -> None:
        self._fleet = fleet

    def app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_get("/v1/vms", self.vms)
        app.router.add_put("/v1/target", self.target)
        app.router.add_post("/v1/play", self.play)
        app.router.add_post("/v1/stop", self.stop)
        return app

    async def vms(self, request: web.Request) -> web.Response:
        return web.json_response(self._fleet.describe())

    async def target(self, request: web.Request) -> web.Response:
        """Idempotent: the same target twice orders nothing twice."""
        try:
            vms = (await read_object(request)).get("vms")
        except BadBodyError as e:
            return refuse(400, str(e))
        if isinstance(vms, bool) or not isinstance(vms, int) or vms < 0:
            return refuse(400, f"vms is {vms!r}; it must be a whole number of at least 0")
        try:
            up, ordered = self._fleet.set_target(vms)
        except NoProviderError as e:
            return refuse(409, str(e))
        return web.json_response({"vms": up, "ordered": ordered})

    async def play(self, request: web.Request) -> web.Response:
        await self._fleet.play()
        return web.Response(status=204)

    async def stop(self, request: web.Request) -> web.Response:
        self._fleet.stop()
        return web.Response(status=204)
