"""Sequences: how they are made, how they run, and what is recorded of them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from fallow.core.model import Status
from fallow.infra import codec
from fallow.infra.store import FenceVerdict
from support.functions import functions

ONE_MORE = functions(inc=lambda a: {**a, "n": a.get("n", 0) + 1})


async def put_sequence(client, name: str, *components: str, **more):
    body = {"exec": {"kind": "sequence", "components": list(components)}, **more}
    return await client.call("PUT", f"actions/{name}?overwrite=true", body)


async def record_of(cluster, until, activation_id: str):
    async def found():
        answer = await cluster.client.call("GET", f"activations/{activation_id}")
        return answer.json if answer.status == 200 else None

    return await until(found)


def notes(record) -> dict:
    return {item["key"]: item["value"] for item in record["annotations"]}


async def test_a_sequence_is_shown_as_it_was_put(cluster) -> None:
    await cluster.client.put_echo("a")
    made = await put_sequence(cluster.client, "s", "/_/a", "/guest/a", "guest/a")
    assert made.status == 200, made.body
    assert made.json["exec"] == {"kind": "sequence", "components": ["/guest/a"] * 3}
    assert made.json["parameters"] == [{"key": "_actions", "value": ["/guest/a"] * 3}]
    assert notes(made.json)["exec"] == "sequence"
    assert (await cluster.client.call("GET", "actions/s")).json["exec"] == made.json["exec"]
    code = await cluster.client.put_echo("s")
    assert (code.status, code.json["parameters"]) == (200, [])


@pytest.mark.parametrize(
    ("components", "text"),
    [
        ([], "No component specified for the sequence."),
        (["/_/a"] * 51, "Too many actions in the sequence."),
        (["/_/s"], "Sequence may not refer to itself."),
        (["/_/missing"], "Sequence component does not exist."),
        (["/_/pkg/missing"], "Sequence component does not exist."),
        (["a"], "must contain at least the namespace and the name"),
        (["/_/a", "/_/wide", "/_/wide"], "Too many actions in the sequence."),
        ([3], "components"),
        ("/_/a", "components"),
    ],
)
async def test_what_is_no_sequence_is_refused(cluster, components, text) -> None:
    await cluster.client.put_echo("a")
    await put_sequence(cluster.client, "wide", *["/_/a"] * 30)
    await put_sequence(cluster.client, "s", "/_/a")
    body = {"exec": {"kind": "sequence", "components": components}}
    answer = await cluster.client.call("PUT", "actions/s?overwrite=true", body)
    assert answer.status == 400
    assert text in answer.json["error"]


async def test_a_sequence_cannot_contain_itself_by_others_or_a_binding(cluster) -> None:
    call = cluster.client.call
    await cluster.client.put_echo("a")
    await call("PUT", "packages/pkg", {})
    await call("PUT", "packages/bound", {"binding": {"namespace": "_", "name": "pkg"}})
    assert (await put_sequence(cluster.client, "pkg/inner", "/_/a")).status == 200
    assert (await put_sequence(cluster.client, "outer", "/_/bound/inner")).status == 200
    answer = await put_sequence(cluster.client, "pkg/inner", "/_/outer")
    assert (answer.status, answer.json["error"]) == (400, "Sequence may not refer to itself.")
    foreign = await put_sequence(cluster.client, "spy", "/other/secret")
    assert foreign.status == 403


async def test_results_pass_from_one_to_the_next(cluster, until) -> None:
    invoker = await cluster.join(behaviour=ONE_MORE)
    await cluster.client.put_echo("inc", parameters=[{"key": "p", "value": 1}])
    await put_sequence(cluster.client, "s", "/_/inc", "/_/inc", "/_/inc")
    answer = await cluster.client.call("POST", "actions/s?blocking=true", {"n": 10})
    assert answer.status == 200, answer.body
    record = answer.json
    assert record["response"]["result"] == {"p": 1, "n": 13}
    assert record["logs"] == [run.activation_id for run in invoker.runs]
    assert {"kind": "sequence", "topmost": True, "path": "guest/s"}.items() <= notes(record).items()
    assert "causedBy" not in notes(record)
    assert "cause" not in record
    parts = [await record_of(cluster, until, part) for part in record["logs"]]
    assert [part["cause"] for part in parts] == [record["activationId"]] * 3
    assert [notes(part)["causedBy"] for part in parts] == ["sequence"] * 3
    assert record["duration"] == sum(part["duration"] for part in parts)
    stored = await record_of(cluster, until, record["activationId"])
    assert stored["logs"] == record["logs"]
    bare = await cluster.client.call("POST", "actions/s?blocking=true&result=true")
    assert bare.json == {"p": 1, "n": 3}


async def test_fifty_components_and_one_inside_another(cluster, until) -> None:
    invoker = await cluster.join(behaviour=ONE_MORE)
    await cluster.client.put_echo("inc")
    await put_sequence(cluster.client, "ten", *["/_/inc"] * 10)
    await put_sequence(cluster.client, "fifty", *["/_/ten"] * 4, *["/_/inc"] * 10)
    answer = await cluster.client.call("POST", "actions/fifty?blocking=true", {})
    assert answer.json["response"]["result"] == {"n": 50}
    assert len(answer.json["logs"]) == 14
    assert len(invoker.runs) == len({run.activation_id for run in invoker.runs}) == 50
    inner = await record_of(cluster, until, answer.json["logs"][0])
    assert inner["cause"] == answer.json["activationId"]
    assert {"kind": "sequence", "topmost": False, "causedBy": "sequence"}.items() <= notes(inner).items()
    assert len(inner["logs"]) == 10


async def test_an_error_ends_it(cluster) -> None:
    await cluster.join(behaviour=functions(bad=lambda a: {"error": "boom"}))
    for name in ("a", "bad"):
        await cluster.client.put_echo(name)
    await put_sequence(cluster.client, "s", "/_/a", "/_/bad", "/_/a")
    answer = await cluster.client.call("POST", "actions/s?blocking=true", {})
    assert (answer.status, answer.json["response"]["status"]) == (502, "application error")
    assert answer.json["response"]["result"] == {"error": "boom"}
    assert len(answer.json["logs"]) == 2


async def test_a_failing_component_gives_its_status(cluster) -> None:
    def behave(invoker, run) -> None:
        invoker.finish(run, b'{"error":"crash"}', Status.DEVELOPER_ERROR)

    await cluster.join(behaviour=behave)
    await cluster.client.put_echo("a")
    await put_sequence(cluster.client, "s", "/_/a", "/_/a")
    answer = await cluster.client.call("POST", "actions/s?blocking=true", {})
    assert (answer.status, answer.json["response"]["status"]) == (502, "action developer error")


async def test_arrays_pass_on(cluster) -> None:
    await cluster.join(behaviour=functions(lines=lambda a: [3, 1, 2], sort=lambda a: sorted(a)))
    await cluster.client.put_echo("lines")
    await cluster.client.put_echo("sort", parameters=[{"key": "p", "value": 1}])
    await put_sequence(cluster.client, "s", "/_/lines", "/_/sort")
    answer = await cluster.client.call("POST", "actions/s?blocking=true", {})
    assert (answer.status, answer.json) == (200, [1, 2, 3])


async def test_a_result_that_nothing_can_hold_ends_it(cluster) -> None:
    await cluster.join(behaviour=lambda invoker, run: invoker.finish(run, b'{"n":' + b"9" * 5000 + b"}"))
    await cluster.client.put_echo("a", parameters=[{"key": "p", "value": 1}])
    await put_sequence(cluster.client, "s", "/_/a", "/_/a")
    answer = await cluster.client.call("POST", "actions/s?blocking=true&result=true", {})
    assert answer.status == 502
    assert "number out of range" in answer.json["error"]


async def test_a_component_changed_or_gone_meanwhile(cluster, until) -> None:
    """It is looked up when its turn comes."""
    turn = asyncio.Event()

    async def behave(invoker, run) -> None:
        spec = codec.decode_action(run.action)
        if spec.name == "first":
            await turn.wait()
        invoker.finish(run, json.dumps({"version": spec.version}).encode())

    invoker = await cluster.join(behaviour=behave)
    for name in ("first", "second"):
        await cluster.client.put_echo(name)
    await put_sequence(cluster.client, "s", "/_/first", "/_/second")
    calling = asyncio.ensure_future(cluster.client.call("POST", "actions/s?blocking=true", {}))
    await invoker.got(1)
    await cluster.client.put_echo("second")
    turn.set()
    assert (await calling).json["response"]["result"] == {"version": "0.0.2"}
    turn.clear()
    calling = asyncio.ensure_future(cluster.client.call("POST", "actions/s?blocking=true", {}))
    await invoker.got(3)
    await cluster.client.call("DELETE", "actions/second")
    turn.set()
    gone = await calling
    assert gone.status == 502
    assert gone.json["response"]["result"] == {"error": "Sequence component does not exist."}
    assert len(gone.json["logs"]) == 1


async def test_not_waiting_and_waiting_too_short(cluster, until) -> None:
    turn = asyncio.Event()

    async def behave(invoker, run) -> None:
        await turn.wait()
        invoker.finish(run, b'{"done":true}')

    invoker = await cluster.join(behaviour=behave)
    await cluster.client.put_echo("a")
    await put_sequence(cluster.client, "s", "/_/a", "/_/a")
    accepted = await cluster.client.call("POST", "actions/s", {})
    expired = await cluster.client.call("POST", "actions/s?blocking=true&timeout=50", {})
    assert (accepted.status, expired.status) == (202, 202)
    await invoker.got(2)
    turn.set()
    for answer in (accepted, expired):
        record = await record_of(cluster, until, answer.json["activationId"])
        assert record["response"]["result"] == {"done": True}
        assert len(record["logs"]) == 2
    usage = await cluster.store.usage()
    assert (usage.entries, usage.records) == (0, 6)


async def test_an_eviction_in_the_middle(cluster, until) -> None:
    """The component starts again elsewhere under its id; the sequence goes on."""
    doomed = await cluster.join("h1", behaviour=lambda invoker, run: None)
    await cluster.client.put_echo("a")
    await put_sequence(cluster.client, "s", "/_/a", "/_/a")
    calling = asyncio.ensure_future(cluster.client.call("POST", "actions/s?blocking=true", {"n": 1}))
    (first,) = await doomed.got(1)
    other = await cluster.join("h2")
    doomed.records = False  # it is frozen
    doomed.link.send(replace(doomed.report, notice_left_s=0.0))
    doomed.finish(first, b"{}", evicted=True)
    answer = await calling
    assert answer.json["response"]["result"] == {"n": 1}
    assert answer.json["logs"] == [run.activation_id for run in other.runs]
    assert other.runs[0].activation_id == first.activation_id
    again = await record_of(cluster, until, first.activation_id)
    assert notes(again)["attempt"] == 2
    assert notes(again)["causedBy"] == "sequence"


async def test_another_controller_takes_over(boot, until) -> None:
    """What is recorded is not run again; what may have been started starts under a higher fence."""
    async with boot(lease_s=1.0) as heir:
        async with boot(lease_s=1.0) as first:
            invoker = await first.join("h1", behaviour=lambda inv, run: None)
            await first.client.put_echo("a")
            await put_sequence(first.client, "s", "/_/a", "/_/a", "/_/a")
            answer = await first.client.call("POST", "actions/s", {"n": 1})
            sequence_id = answer.json["activationId"]
            (one,) = await invoker.got(1)
            invoker.finish(one, b'{"n":2}')
            _, two = await invoker.got(2)
        second = await heir.join("h2", behaviour=functions(a=lambda a: {"n": a["n"] + 1}))
        record = await record_of(heir, until, sequence_id)
        assert record["response"]["result"] == {"n": 4}
        assert record["logs"][:2] == [one.activation_id, two.activation_id]
        assert [run.activation_id for run in second.runs] == record["logs"][1:]
        assert second.runs[0].attempt > two.attempt
        assert notes(await record_of(heir, until, two.activation_id))["attempt"] == second.runs[0].attempt


async def test_another_controller_takes_over_what_is_inside(boot, until) -> None:
    """Of one whose client waited too short, too; an action that must not run twice ends its sequence."""
    async with boot(lease_s=1.0) as heir:
        async with boot(lease_s=1.0) as first:
            invoker = await first.join("h1", behaviour=lambda inv, run: None)
            await first.client.put_echo("a")
            await first.client.put_echo("once", annotations=[{"key": "idempotent", "value": False}])
            await put_sequence(first.client, "inner", "/_/a", "/_/a")
            await put_sequence(first.client, "outer", "/_/inner", "/_/a")
            await put_sequence(first.client, "careful", "/_/once", "/_/a")
            expired = await first.client.call("POST", "actions/outer?blocking=true&timeout=50", {"n": 1})
            (one,) = await invoker.got(1)
            accepted = await first.client.call("POST", "actions/careful", {})
            await invoker.got(2)
            invoker.finish(one, b'{"n":2}')
            *_, two = await invoker.got(3)
        second = await heir.join("h2", behaviour=functions(a=lambda a: {"n": a["n"] + 1}))
        record = await record_of(heir, until, expired.json["activationId"])
        assert record["response"]["result"] == {"n": 4}
        inner = await record_of(heir, until, record["logs"][0])
        assert inner["logs"] == [one.activation_id, two.activation_id]
        assert inner["cause"] == record["activationId"]
        assert {"kind": "sequence", "topmost": False, "causedBy": "sequence"}.items() <= notes(inner).items()
        assert [run.activation_id for run in second.runs] == [two.activation_id, record["logs"][1]]
        careful = await record_of(heir, until, accepted.json["activationId"])
        assert careful["response"]["status"] == "whisk internal error"
        assert "outcome unknown" in careful["response"]["result"]["error"]


async def test_a_controller_that_was_only_slow_stops(cluster, until) -> None:
    """Another one has taken the sequence over: nothing more of it is started here, not even further inside."""
    invoker = await cluster.join(behaviour=lambda inv, run: None)
    await cluster.client.put_echo("a")
    await put_sequence(cluster.client, "inner", "/_/a", "/_/a")
    await put_sequence(cluster.client, "outer", "/_/inner", "/_/a")
    sequence_id = (await cluster.client.call("POST", "actions/outer", {})).json["activationId"]
    (one,) = await invoker.got(1)
    verdict = await cluster.store.raise_fence(sequence_id, expect=1, attempt=2, controller_id="heir")
    assert verdict is FenceVerdict.RAISED
    invoker.finish(one, b"{}")

    async def let_go() -> bool:
        return sequence_id not in cluster.controller._ledger

    await until(let_go)
    assert len(invoker.runs) == 1


async def test_a_circle_that_came_about_later_is_ended(cluster) -> None:
    """A binding is turned to another package: what was no circle when it was put is one now."""
    call = cluster.client.call
    await cluster.join()
    await cluster.client.put_echo("a")
    for package in ("one", "other"):
        await call("PUT", f"packages/{package}", {})
    await call("PUT", "packages/bound", {"binding": {"namespace": "_", "name": "one"}})
    await put_sequence(cluster.client, "one/x", "/_/a")
    await put_sequence(cluster.client, "s", "/_/bound/x")
    assert (await put_sequence(cluster.client, "other/x", "/_/s")).status == 200
    turned = await call("PUT", "packages/bound?overwrite=true", {"binding": {"namespace": "_", "name": "other"}})
    assert turned.status == 200, turned.body
    answer = await call("POST", "actions/s?blocking=true", {})
    assert answer.status == 502
    assert answer.json["response"]["result"] == {"error": "Too many actions in the sequence."}


async def test_one_that_grew_later_is_ended_after_fifty_actions(cluster) -> None:
    invoker = await cluster.join(behaviour=ONE_MORE)
    await cluster.client.put_echo("inc")
    await put_sequence(cluster.client, "part", "/_/inc")
    await put_sequence(cluster.client, "s", "/_/part", "/_/part", "/_/inc")
    await put_sequence(cluster.client, "part", *["/_/inc"] * 30)
    answer = await cluster.client.call("POST", "actions/s?blocking=true", {})
    assert (answer.status, answer.json["response"]["status"]) == (502, "application error")
    assert answer.json["response"]["result"] == {"error": "Too many actions in the sequence."}
    assert len(invoker.runs) == 50


async def test_no_vm_at_all_refuses_the_call(boot) -> None:
    async with boot(max_wait_s=0.3) as cluster:
        invoker = await cluster.join()
        await cluster.client.put_echo("a")
        await put_sequence(cluster.client, "s", "/_/a")
        await invoker.close()
        answer = await cluster.client.call("POST", "actions/s?blocking=true", {})
        assert answer.status == 503
        assert (await cluster.client.call("GET", "activations")).json == []
