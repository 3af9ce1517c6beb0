"""Several controllers, the operator's routes, the monitor, the end of a controller."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from controller.app import _limits
from controller.monitor import Provider, ProviderError
from fallow.infra.records import ControllerLease
from fallow.infra.settings import ControllerSettings, InvokerSettings, load
from fallow.infra.tasks import FatalError


async def test_operator_sees_and_steers_vms(cluster) -> None:
    assert (await cluster.admin("GET", "vms")).json == {"vms": [], "controllers": 1}
    invoker = await cluster.join()
    vm = (await cluster.admin("GET", "vms")).json["vms"][0]
    assert {k: vm[k] for k in ("id", "kind", "state", "usable", "cores", "price", "emulated", "connected")} == {
        "id": "h1", "kind": "harvest", "state": "up", "usable": True, "cores": 4.0, "price": 0.3, "emulated": True,
        "connected": True,
    }  # fmt: skip
    assert (await cluster.admin("POST", "vms/h1/resize", {"cores": 1})).status == 200
    assert (await cluster.admin("POST", "vms/h1/evict", {"notice_s": 3})).status == 200
    assert (await cluster.admin("POST", "vms/h1/withdraw")).status == 200
    assert [(c.verb, c.cores, c.notice_s) for c in invoker.commands] == [
        ("resize", 1.0, None),
        ("evict", None, 3.0),
        ("withdraw", None, None),
    ]
    invoker.command_error = "no notice to withdraw"
    refused = await cluster.admin("POST", "vms/h1/withdraw")
    assert (refused.status, refused.json["error"]) == (409, "no notice to withdraw")
    assert (await cluster.admin("POST", "vms/h9/evict")).status == 404
    assert (await cluster.admin("POST", "vms/h1/resize", {"cores": -1})).status == 400
    assert (await cluster.admin("POST", "vms/h1/resize", {})).status == 400
    assert (await cluster.admin("GET", "vms/h1/resize")).status == 405
    await cluster.join("r1", kind="regular", emulated=False)
    assert (await cluster.admin("POST", "vms/r1/resize", {"cores": 1})).status == 409


async def test_operator_grants_keys(cluster, keys) -> None:
    secret = "k" * 64
    made = await cluster.admin(
        "PUT", "keys", {"namespace": "new", "key": f"11111111-0000-4000-8000-000000000000:{secret}"}
    )
    assert made.json == {"namespace": "new", "subject": "new", "uuid": "11111111-0000-4000-8000-000000000000"}
    listed = (await cluster.admin("GET", "keys")).json["keys"]
    assert {key["namespace"] for key in listed} == {"guest", "new", "other"}
    assert (await cluster.admin("PUT", "keys", {"namespace": "new", "key": "short:key"})).status == 400
    assert (await cluster.admin("PUT", "keys", {"namespace": "a:b", "key": f"u:{secret}"})).status == 400
    assert (await cluster.admin("PUT", "keys", {"namespace": "new"})).status == 400


async def test_internal_listener(cluster) -> None:
    base = cluster.controller.link_url.replace("ws://", "http://").removesuffix("/link")
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{base}/invokers/ready") as response:
            assert (response.status, await response.json()) == (500, {"unhealthy": "0/0"})
        await cluster.join()
        async with session.get(f"{base}/invokers") as response:
            assert await response.json() == {"h1": "up"}
        async with session.get(f"{base}/ready") as response:
            assert (await response.json())["ready"] is True
        async with session.get(f"{base}/metrics") as response:
            assert b"fallow_controller_requests_total" in await response.read()
        async with session.get(f"{base}/link") as response:
            assert response.status == 401


async def test_what_goes_on_is_shown_as_gauges(cluster, keys) -> None:
    held = asyncio.Event()

    async def answer_late(invoker, run) -> None:
        await held.wait()
        invoker.finish(run, b"{}")

    invoker = await cluster.join(behaviour=answer_late)
    await cluster.client.put_echo()
    calls = [asyncio.ensure_future(cluster.client.call("POST", "actions/echo?blocking=true")) for _ in range(2)]
    await invoker.got(2)
    shown = (await cluster.client.call("GET", "/metrics", auth=keys["operator"])).body.decode().splitlines()
    assert {
        "fallow_controller_waiting_calls 0.0",
        "fallow_controller_in_flight_calls 2.0",
        "fallow_controller_unrecorded_outcomes 0.0",
        'fallow_controller_vms{kind="harvest",state="up"} 1.0',
        'fallow_controller_vms{kind="regular",state="up"} 0.0',
        'fallow_controller_vm_cores{kind="harvest"} 4.0',
        'fallow_controller_vm_cores{kind="spot"} 0.0',
        "# TYPE fallow_controller_vms gauge",
    } <= set(shown)
    invoker.records = False
    held.set()
    assert [(await call).status for call in calls] == [200, 200]
    shown = (await cluster.client.call("GET", "/metrics", auth=keys["operator"])).body.decode().splitlines()
    assert {"fallow_controller_in_flight_calls 0.0", "fallow_controller_unrecorded_outcomes 2.0"} <= set(shown)


async def test_the_operator_sees_invokers_and_links_from_outside(cluster, keys) -> None:
    await cluster.join()
    answer = await cluster.client.call("GET", "/invokers", auth=keys["operator"])
    assert (answer.status, answer.json) == (200, {"h1": "up"})
    assert (await cluster.client.call("GET", "/invokers")).status == 401, "not for tenants"
    assert (await cluster.client.call("GET", "/invokers", auth=None)).status == 401
    assert (await cluster.client.call("POST", "/invokers", auth=keys["operator"])).status == 405
    assert (await cluster.admin("GET", "status")).json["link_url"] == cluster.controller.link_url


async def test_entries_of_a_lapsed_controller_are_claimed(cluster, until) -> None:
    """The dead one had read a call not started, a started one that may not be repeated, and one that may."""
    store = cluster.store
    await cluster.client.put_echo("again")
    await cluster.client.put_echo("once", annotations=[{"key": "idempotent", "value": False}])
    await store.renew_lease(ControllerLease(controller_id="dead", link_url="ws://x", api_url="http://x"), 60)
    ids = [
        (await cluster.client.call("POST", f"actions/{name}")).json["activationId"]
        for name in ("again", "once", "again")
    ]
    assert len(await store.read_entries("dead", count=10, block_ms=0)) == 3
    for activation_id in ids[1:]:
        await store.raise_fence(activation_id, expect=0, attempt=1, controller_id="dead")
    await store.release_lease("dead")
    invoker = await cluster.join()

    async def all_recorded():
        answers = [await cluster.client.call("GET", f"activations/{activation_id}") for activation_id in ids]
        return answers if all(answer.status == 200 for answer in answers) else None

    fresh, once, again = [answer.json for answer in await until(all_recorded)]
    assert fresh["response"]["success"]
    assert again["response"]["success"]
    assert once["response"]["status"] == "whisk internal error"
    assert {"waitTime", "runTime", "vm"}.isdisjoint(note["key"] for note in once["annotations"]), "not started here"
    assert sorted((run.activation_id, run.attempt) for run in invoker.runs) == sorted([(ids[0], 1), (ids[2], 2)])
    assert (await store.usage()).entries == 0


async def test_two_controllers_share_the_stream(boot, until) -> None:
    async with boot() as one, boot() as two:
        vms = [await one.join("h1"), await two.join("h1")]

        async def see_each_other():
            return [(await c.admin("GET", "status")).json["controllers"] for c in (one, two)] == [2, 2]

        await until(see_each_other)
        await one.client.put_echo()
        ids = [(await one.client.call("POST", "actions/echo", {})).json["activationId"] for _ in range(20)]

        async def done():
            return (await two.client.call("GET", "activations?count=true")).json == {"activations": 20}

        await until(done)
        assert sorted(run.activation_id for vm in vms for run in vm.runs) == sorted(ids)


async def test_a_stopping_controller_drains_and_leaves_no_lease(boot) -> None:
    async with boot() as cluster:
        invoker = await cluster.join(behaviour=lambda invoker, run: None)
        await cluster.client.put_echo()
        waiting = asyncio.ensure_future(cluster.client.call("POST", "actions/echo?blocking=true&result=true", {"n": 1}))
        run = (await invoker.got(1))[0]
        cluster.stop.set()
        await asyncio.sleep(0)
        while (refused := await cluster.client.call("POST", "actions/echo?blocking=true", {})).status != 503:
            raise AssertionError(refused)
        invoker.finish(run, b'{"n":1}')
        assert (await waiting).json == {"n": 1}
        while await cluster.store.live_controllers():
            await asyncio.sleep(0.01)


async def test_monitor_orders_from_the_provider(boot, short_dir: Path, until) -> None:
    orders: list[dict[str, int]] = []

    async def target(request: web.Request) -> web.Response:
        orders.append(await request.json())
        return web.json_response({"vms": 1, "ordered": 1})

    app = web.Application()
    app.router.add_put("/v1/target", target)
    runner = web.AppRunner(app)
    await runner.setup()
    socket = short_dir / "fleet"
    await web.UnixSite(runner, str(socket)).start()
    try:
        url = f"unix://{socket}"
        async with boot(target_cores=8.0, monitor_period_s=0.05, vm_boot_s=0, provider_url=url) as cluster:
            await cluster.join()

            async def ordered():
                return orders

            assert (await until(ordered))[0] in ({"vms": 2}, {"vms": 3})
    finally:
        await runner.cleanup()


async def test_a_provider_that_is_not_there_says_so(short_dir: Path) -> None:
    with pytest.raises(ProviderError):
        await Provider(f"unix://{short_dir}/none").order(3)
    with pytest.raises(FatalError, match="provider_url"):
        Provider("ftp://x")


def test_one_variable_sets_the_queue_wait_of_both_sides() -> None:
    env = {"FALLOW_MAX_QUEUE_WAIT_S": "7"}
    controller = load(ControllerSettings, section="controller", file=None, env=env, flags={})
    invoker = load(InvokerSettings, section="invoker", file=None, env=env, flags={})
    assert _limits(controller).max_queue_wait_s == invoker.max_queue_wait_s == 7.0
    assert ControllerSettings().max_queue_wait_s == InvokerSettings().max_queue_wait_s


async def test_taken_port_and_unknown_policy_are_said_in_words(cluster, boot) -> None:
    port = int(cluster.controller.api_url.rpartition(":")[2])
    with pytest.raises(FatalError, match=f"cannot listen on 127.0.0.1:{port}"):
        async with boot(port=port):
            pass
    with pytest.raises(FatalError, match="unknown policy 'magic'"):
        async with boot(policy="magic"):
            pass


async def test_a_wrong_policy_is_told_and_the_call_is_answered(cluster, boot, tmp_path, monkeypatch) -> None:
    (tmp_path / "stray_policy.py").write_text(
        "from dataclasses import replace\n"
        "from fallow.core.policies.power_of_two import PowerOfTwo\n"
        "class Stray(PowerOfTwo):\n"
        "    def place(self, *args):\n"
        "        return replace(super().place(*args), vm_id='h99')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(FatalError, match="module 'stray_policy' has no class 'Strya'"):
        async with boot(policy="stray_policy:Strya"):
            pass
    async with boot(policy="stray_policy:Stray") as wrong:
        await wrong.join("h1")
        await wrong.client.put_echo()
        answer = await wrong.client.call("POST", "actions/echo?blocking=true", {"n": 1})
        assert answer.json["response"]["success"]
        story = await wrong.client.call("GET", f"activations/{answer.json['activationId']}/why")
        assert "policy 'stray_policy:Stray' chose VM h99, which is unknown" in json.dumps(story.json)
