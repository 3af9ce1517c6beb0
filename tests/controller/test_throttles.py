"""Limits of namespaces, as clients and the operator meet them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from controller import throttles
from fallow.core.throttle import MINUTE_MS

NOON_MS = 29_000_000 * MINUTE_MS


@pytest.fixture
def clock(monkeypatch) -> Callable[[int], None]:
    """Sets the clock of the throttles to so many milliseconds after a minute began."""

    def at(ms: int) -> None:
        monkeypatch.setattr(throttles, "unix_ms", lambda: NOON_MS + ms)

    at(0)
    return at


async def holding(invoker: Any, run: Any) -> None:
    """Answers once the invoker's report says so: never, before `release`."""
    await invoker.released.wait()
    invoker.finish(run, run.args)


async def limits_of(cluster: Any) -> list[int]:
    shown = (await cluster.client.call("GET", "limits")).json
    return [shown[key] for key in ("invocationsPerMinute", "concurrentInvocations", "firesPerMinute")]


async def test_the_sixty_first_call_of_a_minute_is_refused_and_leaves_nothing(boot, clock) -> None:
    async with boot(limits="openwhisk") as cluster:
        invoker = await cluster.join()
        await cluster.client.put_echo()
        calls = [await cluster.client.call("POST", "actions/echo?blocking=true") for _ in range(60)]
        assert {call.status for call in calls} == {200}
        clock(15_000)
        refused = await cluster.client.call("POST", "actions/echo")
        assert refused.status == 429
        assert refused.json["error"] == "Too many requests in the last minute (count: 61, allowed: 60)."
        assert refused.json["code"] == refused.headers["X-Request-ID"]
        assert refused.headers["Retry-After"] == "45"
        assert "X-Openwhisk-Activation-Id" not in refused.headers
        nowhere = await cluster.client.call("POST", "actions/nowhere")
        assert "count: 62" in nowhere.json["error"], "what is refused counts, whether the action exists or not"
        assert (await cluster.client.call("GET", "actions/echo")).status == 200, "only calls are counted"
        assert len(invoker.runs) == 60
        clock(MINUTE_MS)
        assert (await cluster.client.call("POST", "actions/echo?blocking=true")).status == 200


async def test_fires_of_a_minute_have_a_limit_of_their_own(boot, clock) -> None:
    async with boot(limits="openwhisk") as cluster:
        await cluster.admin("PUT", "limits/guest", {"fires_per_minute": 3, "invocations_per_minute": 6})
        invoker = await cluster.join()
        await cluster.client.put_echo()
        await cluster.client.call("PUT", "triggers/t", {})
        for rule in ("r1", "r2"):
            await cluster.client.call("PUT", f"rules/{rule}", {"trigger": "/_/t", "action": "/_/echo"})
        assert [(await cluster.client.call("POST", "triggers/t")).status for _ in range(3)] == [202] * 3
        refused = await cluster.client.call("POST", "triggers/t")
        assert refused.status == 429
        assert refused.json["error"] == "Too many requests in the last minute (count: 4, allowed: 3)."
        await invoker.got(6)  # what fires start is counted as calls are
        assert (await cluster.client.call("POST", "actions/echo")).status == 429
        clock(MINUTE_MS)
        assert (await cluster.client.call("POST", "triggers/t")).status == 202


async def test_namespaces_are_counted_apart(boot, clock, keys) -> None:
    async with boot(limits="openwhisk") as cluster:
        await cluster.admin("PUT", "limits/other", {"invocations_per_minute": 0})
        refused = await cluster.client.call("POST", "actions/echo", auth=keys["other"])
        assert refused.json["error"] == "Too many requests in the last minute (count: 1, allowed: 0)."
        assert (await cluster.client.call("POST", "actions/echo")).status == 404


async def test_calls_at_once_are_refused_while_they_are_in_flight(boot, clock) -> None:
    async with boot(limits="openwhisk") as cluster:
        assert (await cluster.admin("PUT", "limits/guest", {"concurrent_invocations": 2})).status == 200
        invoker = await cluster.join(behaviour=holding)
        invoker.released = asyncio.Event()
        await cluster.client.put_echo()
        blocking = asyncio.ensure_future(cluster.client.call("POST", "actions/echo?blocking=true"))
        await invoker.got(1)
        assert (await cluster.client.call("POST", "actions/echo")).status == 202
        await invoker.got(2)
        refused = await cluster.client.call("POST", "actions/echo?blocking=true")
        assert refused.status == 429
        assert refused.json["error"] == "Too many concurrent requests in flight (count: 2, allowed: 2)."
        assert refused.headers["Retry-After"] == "1"
        invoker.released.set()
        assert (await blocking).status == 200
        for _ in range(3):  # each answer makes room for the next call, whether its record stands or not
            assert (await cluster.client.call("POST", "actions/echo?blocking=true")).status == 200


async def test_a_burst_that_nobody_waits_for_is_counted_on_its_way(boot, clock) -> None:
    async with boot(limits="openwhisk") as cluster:
        await cluster.admin("PUT", "limits/guest", {"concurrent_invocations": 5, "invocations_per_minute": 1000})
        invoker = await cluster.join(behaviour=holding)
        invoker.released = asyncio.Event()
        await cluster.client.put_echo()
        answers = await asyncio.gather(*(cluster.client.call("POST", "actions/echo") for _ in range(50)))
        accepted = [answer for answer in answers if answer.status == 202]
        assert len(accepted) == 5
        await invoker.got(5)
        assert (await cluster.client.call("POST", "actions/echo")).status == 429
        invoker.released.set()


async def test_operator_sets_and_unsets_limits(boot, clock) -> None:
    async with boot(limits="openwhisk") as cluster, boot(limits="openwhisk") as second:
        assert await limits_of(cluster) == await limits_of(second) == [60, 30, 60]
        made = await cluster.admin("PUT", "limits/guest", {"invocations_per_minute": 5, "fires_per_minute": 0})
        assert made.json == {
            "namespace": "guest", "invocations_per_minute": 5, "concurrent_invocations": 30, "fires_per_minute": 0,
            "set": ["invocations_per_minute", "fires_per_minute"],
        }  # fmt: skip
        assert await limits_of(cluster) == await limits_of(second) == [5, 30, 0], "at once, everywhere"
        await second.admin("PUT", "limits/guest", {"fires_per_minute": None, "concurrent_invocations": 7})
        assert await limits_of(cluster) == [5, 7, 60]
        assert (await cluster.admin("GET", "limits/guest")).json["set"] == [
            "invocations_per_minute",
            "concurrent_invocations",
        ]
        assert (await cluster.admin("DELETE", "limits/guest")).json["set"] == []
        assert await limits_of(second) == [60, 30, 60]


@pytest.mark.parametrize(
    "body", [{}, {"memory": 1}, {"fires_per_minute": -1}, {"fires_per_minute": 1.5}, {"fires_per_minute": True}, [1]]
)
async def test_bad_limits_are_refused(cluster, body) -> None:
    assert (await cluster.admin("PUT", "limits/guest", body)).status == 400


async def test_limits_are_the_operators(cluster) -> None:
    assert (await cluster.client.call("GET", "/admin/v1/limits/guest")).status == 401
    assert (await cluster.admin("POST", "limits/guest", {})).status == 405
    assert (await cluster.admin("GET", "limits/a:b")).status == 400


async def test_two_controllers_divide_a_limit(boot, clock, until) -> None:
    async with boot(limits="openwhisk", lease_s=0.4) as first, boot(limits="openwhisk", lease_s=0.4) as second:

        async def both_know() -> bool:
            status = [await each.admin("GET", "status") for each in (first, second)]
            return all(answer.json["controllers"] == 2 for answer in status)

        await until(both_know)
        for each in (first, second):
            statuses = [(await each.client.call("POST", "actions/nowhere")).status for _ in range(37)]
            assert statuses == [404] * 36 + [429]


async def test_what_info_says_is_what_holds(boot, clock) -> None:
    async with boot(limits="openwhisk") as cluster:
        shown = (await cluster.client.call("GET", "/", auth=None)).json["limits"]
        assert (shown["actions_per_minute"], shown["concurrent_actions"], shown["triggers_per_minute"]) == (60, 30, 60)
    async with boot() as cluster:
        shown = (await cluster.client.call("GET", "/", auth=None)).json["limits"]
        assert shown["actions_per_minute"] == (await limits_of(cluster))[0] == 1_200_000
