"""`why`: what a controller tells of a call, to whom, and what is left when it has forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fallow.core.attempt_waits import AttemptWaits
from fallow.core.model import ReturnReason
from fallow.infra import codec
from fallow.infra.messages import Returned
from fallow.infra.store import StoreUnavailable

WAITS = AttemptWaits(
    shrink_s=0.5, cores_first=4.0, cores_most=4.0, cores_least=1.0, cores_last=1.0, shrunk_run_s=2.0, throttled_s=1.5
)


def silent(invoker, run) -> None:
    """Takes the call and answers when the test says so."""


def steps_of(story, what: str) -> list[dict]:
    return [step for step in story["steps"] if step["what"] == what]


async def accepted(cluster, name: str = "echo") -> str:
    answer = await cluster.client.call("POST", f"actions/{name}", {})
    assert answer.status == 202
    return answer.json["activationId"]


async def told(cluster, activation_id: str):
    return (await cluster.admin("GET", f"why/{activation_id}")).json


async def test_the_whole_story_of_a_shrink_and_an_eviction(cluster, until) -> None:
    h1 = await cluster.join("h1", behaviour=silent)
    await cluster.client.put_echo()
    activation_id = await accepted(cluster)
    (run,) = await h1.got(1)
    running = await told(cluster, activation_id)
    assert (running["ended"], running["record"]) == (False, None)
    assert running["waits"]["on_vm_so_far_s"] > 0
    assert running["costs"][0]["note"] == "not known yet: it has not ended"
    h1.link.send(replace(h1.report, cores=1.0, seen=run.seq))
    used_by = ((activation_id, 1, 2.5),)
    h1.link.send(replace(h1.report, cores=1.0, seen=run.seq, notice_left_s=0.2, used_by=used_by))
    r1 = await cluster.join("r1", kind="regular", price=1.0, behaviour=silent)
    (again,) = await r1.got(1)
    r1.finish(again, b"{}", wait_s=0.0, run_s=0.0, cpu_s=4.0, init_s=None, waits=codec.encode_waits(WAITS))

    async def recorded():
        return (await told(cluster, activation_id))["record"]

    await until(recorded)
    story = await told(cluster, activation_id)
    assert (story["remembered"], story["ended"], story["attempts"], story["blocking"]) == (True, True, 2, False)
    (shrunk,) = steps_of(story, "cores")
    assert (shrunk["vm"], shrunk["cores_before"], shrunk["cores_after"]) == ("h1", 4.0, 1.0)
    assert [step["note"] for step in steps_of(story, "notice")] == ["h1 is to be evicted in 0.2 s"]
    first, second = steps_of(story, "placed")
    assert (first["vm"], first["kind"], first["price"], first["vm_cores"]) == ("h1", "harvest", 0.3, 4.0)
    assert first["kinds_preferred"] == ["harvest", "spot", "regular"]
    assert (second["vm"], second["kinds_unusable"], second["kinds_forbidden"]) == ("r1", ["harvest", "spot"], [])
    assert [one["vm"] for one in second["passed_over"]] == ["h1"]
    assert "evicted" in second["passed_over"][0]["why"]
    assert (first["long"], "does not take the app" in first["long_why"]) == (False, True)
    (end,) = steps_of(story, "finished")
    assert end["outcome"]["vm_waits"]["shrink_s"] == 0.5
    assert end["outcome"]["vm_waits"]["throttled_s"] == 1.5
    assert story["waits"]["cut_off_s"] > 0.1
    assert story["total_s"] == pytest.approx(sum(story["waits"].values()), abs=1e-5)
    span_s = (end["at_unix_ms"] - story["accepted_unix_ms"]) / 1000
    assert story["total_s"] == pytest.approx(span_s, abs=0.002)
    wasted, useful = story["costs"]
    assert (wasted["vm"], wasted["wasted"], wasted["cpu_core_s"]) == ("h1", True, 2.5)
    assert wasted["cost_regular_core_s"] == pytest.approx(0.75)
    assert (useful["cost_regular_core_s"], useful["on_regular_core_s"]) == (4.0, 4.0)


async def test_a_dispatch_that_is_given_back_tells_what_it_waited_for(cluster) -> None:
    h1 = await cluster.join("h1", behaviour=silent)
    await cluster.client.put_echo()
    activation_id = await accepted(cluster)
    (run,) = await h1.got(1)
    waits = codec.encode_waits(AttemptWaits(memory_s=0.0001))
    h1.link.send(
        Returned(activation_id=activation_id, attempt=run.attempt, reason=ReturnReason.WAITED.value, waits=waits)
    )

    h1.link.send(replace(h1.report, seen=run.seq))  # from now on it may be tried again
    await h1.got(2)
    story = await told(cluster, activation_id)
    (back,) = steps_of(story, "returned")
    assert back["vm_waits"]["memory_s"] == 0.0001
    assert story["waits"]["vm_queue_memory_s"] == pytest.approx(0.0001)
    (waited,) = steps_of(story, "waited")
    assert [one["why"] for one in waited["passed_over"]] == ["gave this call back and has not reported since"]


async def test_a_tenant_sees_its_own_and_the_operator_all(cluster, keys, until) -> None:
    await cluster.join()
    await cluster.client.put_echo()
    call = cluster.client.call
    activation_id = (await call("POST", "actions/echo?blocking=true", {})).json["activationId"]

    async def recorded():
        return (await call("GET", f"activations/{activation_id}")).status == 200

    await until(recorded)
    path = f"activations/{activation_id}/why"
    mine = (await call("GET", path)).json
    assert (mine["blocking"], mine["record"]["vm"], mine["record"]["status"]) == (True, "h1", "success")
    assert (await cluster.admin("GET", f"why/{activation_id.upper()}")).json == mine
    assert (await call("GET", path, auth=keys["other"])).status == 404
    assert (await call("GET", path, auth=None)).status == 401
    assert (await call("GET", f"/admin/v1/why/{activation_id}")).status in (401, 403)
    for ask in (cluster.admin("GET", "why/" + "0" * 32), call("GET", "activations/" + "0" * 32 + "/why")):
        assert (await ask).status == 404
    for ask in (cluster.admin("GET", "why/xyz"), call("GET", "activations/xyz/why")):
        assert (await ask).json["error"] == "Activation id length is 3 but must be 32."


async def test_where_the_steps_are_forgotten_the_record_is_told(cluster, boot, keys, until) -> None:
    await cluster.join()
    await cluster.client.put_echo()
    activation_id = (await cluster.client.call("POST", "actions/echo?blocking=true", {})).json["activationId"]

    async def recorded():
        return (await cluster.client.call("GET", f"activations/{activation_id}")).status == 200

    await until(recorded)
    async with boot() as other:
        part = (await other.admin("GET", f"why/{activation_id}")).json
        assert (part["remembered"], part["steps"], part["waits"]) == (False, [], None)
        assert (part["action"], part["record"]["vm"], part["ended"]) == ("guest/echo", "h1", True)
        path = f"activations/{activation_id}/why"
        assert (await other.client.call("GET", path)).json == part
        assert (await other.client.call("GET", path, auth=keys["other"])).status == 404


async def test_a_remembered_story_is_told_without_the_store(cluster, monkeypatch) -> None:
    await cluster.join()
    await cluster.client.put_echo()
    activation_id = (await cluster.client.call("POST", "actions/echo?blocking=true", {})).json["activationId"]

    async def away(namespace: str | None, activation_id: str) -> None:
        raise StoreUnavailable("Redis at redis://:secret@10.0.0.5/0 does not answer")

    monkeypatch.setattr(cluster.controller._store, "get_record", away)
    story = await told(cluster, activation_id)
    assert (story["remembered"], story["record"]) == (True, None)
    assert story["record_note"] == "The platform's store is not reachable right now. Try again shortly."
    assert (await cluster.admin("GET", "why/" + "0" * 32)).status == 503
