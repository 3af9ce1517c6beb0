"""The client of the bench against the bare handler, and the figures made of it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from loadtest.bare import app
from loadtest.bench import BODY, Rounds, Server, measure, table
from loadtest.hammer import HammerOrder, hammer


@contextlib.asynccontextmanager
async def serving(application: web.Application) -> AsyncIterator[int]:
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        port: int = runner.addresses[0][1]
        yield port
    finally:
        await runner.cleanup()


def order(port: int, connections: int) -> HammerOrder:
    return HammerOrder(
        host="127.0.0.1",
        port=port,
        path="/x",
        authorization="Basic eA==",
        body=BODY,
        connections=connections,
        seconds=0.1,
    )


@pytest.mark.parametrize("connections", [1, 5])
async def test_every_answer_has_a_latency(connections: int) -> None:
    async with serving(app(b"x" * 100_000, {"Content-Type": "text/plain"})) as port:  # an answer in several pieces
        result, latencies_ms = await hammer(order(port, connections))
    assert (result.errors, result.first_error) == (0, "")
    assert result.requests == len(latencies_ms) >= connections
    assert min(latencies_ms) > 0


async def test_other_answers_than_200_are_errors() -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=429, text="too many")

    application = web.Application()
    application.router.add_post("/x", refuse)
    async with serving(application) as port:
        result, latencies_ms = await hammer(order(port, 1))
    assert result.errors > 0
    assert result.first_error.startswith("HTTP/1.1 429")
    assert len(latencies_ms) == 0


async def test_a_broken_connection_is_an_error() -> None:
    async def drop(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    application = web.Application()
    application.router.add_post("/x", drop)
    async with serving(application) as port:
        result, _ = await hammer(order(port, 2))
    assert (result.requests, result.errors) == (0, 2)
    assert "connection" in result.first_error


async def test_both_sides_are_measured_and_compared() -> None:
    """Both are the same handler here: what is checked is that the figures belong together, not how high they are."""
    options = argparse.Namespace(connections=[2], rounds=1, seconds=0.1, json=True)
    async with serving(app(b"{}", {})) as port:
        server = Server(host="127.0.0.1", port=port, path="/x", authorization="Basic eA==")
        (level,) = await asyncio.to_thread(measure, {"bare": server, "fallow": server}, options, warm_up_s=0.1)
    assert level["connections"] == 2
    assert level["fallow"]["ratio"] == pytest.approx(
        level["fallow"]["requests_per_s"] / level["bare"]["requests_per_s"], abs=1e-3
    )
    assert level["fallow"]["added_p50_ms"] == pytest.approx(
        level["fallow"]["p50_ms"] - level["bare"]["p50_ms"], abs=2e-3
    )
    assert len(table([level]).splitlines()) == 4


def test_figures_of_rounds() -> None:
    rounds = Rounds(rates_per_s=[10.0, 30.0, 20.0], latencies_ms=[float(i) for i in range(100, 0, -1)])
    assert rounds.figures() == {"requests_per_s": 20.0, "p50_ms": 50.0, "p99_ms": 99.0, "requests": 100}
