"""The replay against a small real server that misbehaves as asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from fallow.core.model import Status
from fallow.report.run import CallRecord, Ending
from fallow.traces.model import Arrival, InvocationTrace, ReplayPlan, TraceFunction
from loadtest.replay import Progress, replay

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ID = "0123456789abcdef0123456789abcdef"
KEY = "23bc46b1-71f6-4ed5-8c54-816aa4f8c502:secret"


def record(status: Status = Status.SUCCESS, **notes: Any) -> dict[str, Any]:
    annotations = {
        "waitTime": 4,
        "runTime": 10.5,
        "cpuTime": 2.5,
        "attempt": 1,
        "vm": "h1",
        "vmKind": "harvest",
        **notes,
    }
    return {
        "activationId": ID,
        "duration": 17,
        "annotations": [{"key": k, "value": v} for k, v in annotations.items()],
        "response": {"status": status.text, "success": status is Status.SUCCESS, "result": {"error": "why"}},
    }


def plan(count: int, *, gap_s: float = 0.005, cpu_ms: float = 1.0, duration_ms: float = 30.0) -> ReplayPlan:
    functions = tuple(TraceFunction(name=n, app="a", memory_mb=128, cpu_share=0.5) for n in ("f0", "f1"))
    arrivals = tuple(
        Arrival(at_s=i * gap_s, function=i % 2, cpu_ms=cpu_ms, duration_ms=duration_ms, trace_duration_s=0.3)
        for i in range(count)
    )
    trace = InvocationTrace(source="test", format="generated", functions=functions, calls=(), window_s=1.0)
    return ReplayPlan(
        trace=trace,
        functions=functions,
        arrivals=arrivals,
        speedup=10.0,
        core_scale=0.1,
        duration_s=1.0,
        offered_cores=1.0,
        offered_cores_before=1.0,
        available_cores=4.0,
        thinned_calls=0,
        cut_calls=0,
        rules=(),
    )


@contextlib.asynccontextmanager
async def serving(invoke: Handler, get: Handler | None = None) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/api/v1/namespaces/_/actions/{name}", invoke)
    if get is not None:
        app.router.add_get("/api/v1/namespaces/_/activations/{id}", get)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def one(invoke: Handler, get: Handler | None = None, *, drain_s: float = 20.0) -> CallRecord:
    async with serving(invoke, get) as url:
        (call,) = await replay(plan(1), urls=[url], key=KEY, action_names=["f0", "f1"], drain_s=drain_s)
    return call


async def test_a_slow_answer_delays_no_later_call() -> None:
    """The first call is answered only once the last has arrived: a closed loop would never get there."""
    arrived: list[str] = []
    all_here = asyncio.Event()

    async def invoke(request: web.Request) -> web.Response:
        arrived.append(request.match_info["name"])
        if len(arrived) == 40:
            all_here.set()
        await all_here.wait()
        return web.json_response(record())

    seen: list[Progress] = []
    async with serving(invoke) as url:
        calls = await replay(plan(40), urls=[url], key=KEY, action_names=["f0", "f1"], on_progress=seen.append)
    assert all(call.succeeded for call in calls)
    assert [call.intended_s for call in calls] == [i * 0.005 for i in range(40)]
    assert all(call.sent_s >= call.intended_s for call in calls)
    assert sorted(arrived) == ["f0"] * 20 + ["f1"] * 20
    last = seen[-1]
    assert (last.sent, last.done, last.failed, last.warm, last.cold, last.in_flight) == (40, 40, 0, 40, 0, 0)


async def test_what_is_sent() -> None:
    async def invoke(request: web.Request) -> web.Response:
        assert request.query["blocking"] == "true"
        assert 0 < int(request.query["timeout"]) <= 60_000
        assert request.headers["Authorization"].startswith("Basic ")
        assert await request.json() == {"cpu_ms": 1.0, "duration_ms": 30.0}
        return web.json_response(record())

    assert (await one(invoke)).succeeded


async def test_a_benchmark_function_is_called_with_the_arguments_it_was_deployed_with() -> None:
    sent: list[tuple[str, str]] = []

    async def invoke(request: web.Request) -> web.Response:
        sent.append((request.match_info["name"], await request.text()))
        return web.json_response(record())

    two = plan(2)
    functions = (two.functions[0], replace(two.functions[1], benchmark="pyaes"))
    async with serving(invoke) as url:
        await replay(replace(two, functions=functions), urls=[url], key=KEY, action_names=["f0", "f1"])
    assert sorted(sent) == [("f0", '{"cpu_ms": 1.0, "duration_ms": 30.0}'), ("f1", "{}")]


async def test_what_a_record_says() -> None:
    async def invoke(request: web.Request) -> web.Response:
        return web.json_response(record(initTime=7, prewarmed=True, attempt=2))

    call = await one(invoke)
    assert (call.ending, call.status, call.activation_id, call.http_status) == (
        Ending.RECORDED,
        Status.SUCCESS,
        ID,
        200,
    )
    assert (call.wait_ms, call.init_ms, call.run_ms, call.cpu_ms, call.attempt) == (4, 7, 10.5, 2.5, 2)
    assert (call.cold, call.prewarmed, call.vm, call.vm_kind) == (True, True, "h1", "harvest")
    assert call.latency_ms is not None
    assert call.error == ""


@pytest.mark.parametrize(
    ("result", "words"),
    [({"error": "why"}, "why"), ({"error": {"code": 7}}, '{"error": {"code": 7}}'), ([1], "[1]"), (None, "null")],
)
async def test_an_error_record_is_a_failure_with_a_latency(result: object, words: str) -> None:
    async def invoke(request: web.Request) -> web.Response:
        document = record(Status.APPLICATION_ERROR)
        document["response"]["result"] = result
        return web.json_response(document, status=502)

    call = await one(invoke)
    assert (call.ending, call.failed, call.lost) == (Ending.RECORDED, True, False)
    assert call.status is Status.APPLICATION_ERROR
    assert call.error == words


async def test_202_is_followed_to_its_record() -> None:
    asked = 0

    async def invoke(request: web.Request) -> web.Response:
        return web.json_response({"activationId": ID}, status=202, headers={"X-Openwhisk-Activation-Id": ID})

    async def get(request: web.Request) -> web.Response:
        nonlocal asked
        assert request.match_info["id"] == ID
        asked += 1
        if asked == 1:
            return web.json_response({"error": "not there yet"}, status=404)
        if asked == 2:
            return web.Response(status=503, text="<html>a proxy</html>")
        return web.json_response(record())

    call = await one(invoke, get)
    assert asked == 3
    assert (call.succeeded, call.polled, call.http_status) == (True, True, 202)


async def test_202_without_a_record_is_lost() -> None:
    async def invoke(request: web.Request) -> web.Response:
        return web.json_response({"activationId": ID}, status=202)

    async def get(request: web.Request) -> web.Response:
        return web.json_response({"error": "no such activation"}, status=404)

    call = await one(invoke, get, drain_s=1.0)
    assert (call.ending, call.activation_id, call.answered_s) == (Ending.LOST, ID, None)


async def test_a_refusal_is_a_failure() -> None:
    async def invoke(request: web.Request) -> web.Response:
        return web.json_response({"error": "too many", "code": "x"}, status=429, headers={"Retry-After": "1"})

    call = await one(invoke)
    assert (call.ending, call.failed, call.http_status, call.error) == (Ending.REFUSED, True, 429, "HTTP 429: too many")


async def test_a_dropped_connection_is_a_failure_not_a_loss() -> None:
    async def invoke(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    call = await one(invoke)
    assert (call.ending, call.failed, call.http_status, call.status) == (Ending.UNANSWERED, True, 0, None)


async def test_an_answer_cut_off_after_its_id_is_looked_up() -> None:
    async def invoke(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"X-Openwhisk-Activation-Id": ID, "Content-Length": "1000"})
        await answer.prepare(request)
        await answer.write(b'{"activationId":')
        assert request.transport is not None
        request.transport.abort()
        return answer

    async def get(request: web.Request) -> web.Response:
        return web.json_response(record())

    call = await one(invoke, get)
    assert (call.succeeded, call.polled) == (True, True)


async def test_a_server_that_never_answers_loses_the_call() -> None:
    never = asyncio.Event()

    async def invoke(request: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    async with serving(invoke) as url:
        (call,) = await replay(plan(1), urls=[url], key=KEY, action_names=["f0", "f1"], drain_s=0.5)
        never.set()  # a handler that hangs would hold up the server's end
    assert (call.ending, call.answered_s) == (Ending.LOST, None)


async def test_nobody_listens() -> None:
    (call,) = await replay(plan(1), urls=["http://127.0.0.1:1"], key=KEY, action_names=["f0", "f1"], drain_s=20.0)
    assert (call.ending, call.failed) == (Ending.UNANSWERED, True)


async def test_several_controllers_take_turns() -> None:
    counts = [0, 0]

    def counting(i: int) -> Handler:
        async def invoke(request: web.Request) -> web.Response:
            counts[i] += 1
            return web.json_response(record())

        return invoke

    async with serving(counting(0)) as first, serving(counting(1)) as second:
        await replay(plan(10), urls=[first, second], key=KEY, action_names=["f0", "f1"])
    assert counts == [5, 5]
