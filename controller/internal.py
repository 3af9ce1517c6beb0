"""The internal listener: links of invokers, health and metrics. Not for tenants, and on an address of its own."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from controller.ledger import Ledger
from controller.view import ClusterInfo
from fallow.infra import metrics
from fallow.infra.link import LinkServer


def internal_app(
    links: LinkServer, info: ClusterInfo, ledger: Ledger, accepting: Callable[[], bool]
) -> web.Application:
    """The listener's routes; `/link` asks for the join secret."""

    async def show_metrics(_request: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def show_invokers(_request: web.Request) -> web.Response:
        return web.json_response(info.invokers())

    async def healthy_count(_request: web.Request) -> web.Response:
        return web.json_response(_usable(info))

    async def invokers_ready(_request: web.Request) -> web.Response:
        usable, known = _usable(info), len(info.invokers())
        key = "healthy" if usable else "unhealthy"
        return web.json_response({key: f"{usable}/{known}"}, status=200 if usable else 500)

    async def activations(_request: web.Request) -> web.Response:
        return web.json_response(list(ledger.under_way()))

    async def activation_count(_request: web.Request) -> web.Response:
        return web.json_response(sum(1 for _ in ledger.under_way()))

    async def ready(_request: web.Request) -> web.Response:
        body = {"ready": accepting(), "usable_vms": _usable(info)}
        return web.json_response(body, status=200 if accepting() else 503)

    app = web.Application()
    app.router.add_get("/link", links.handle)
    app.router.add_get("/metrics", show_metrics)
    app.router.add_get("/invokers", show_invokers)
    app.router.add_get("/invokers/healthy/count", healthy_count)
    app.router.add_get("/invokers/ready", invokers_ready)
    app.router.add_get("/activation", activations)
    app.router.add_get("/activation/count", activation_count)
    app.router.add_get("/ready", ready)
    return app


def _usable(info: ClusterInfo) -> int:
    return sum(1 for state in info.invokers().values() if state == "up")
