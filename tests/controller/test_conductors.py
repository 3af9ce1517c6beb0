"""Compositions: a conductor says after each step what comes next."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.compositions.conductor import named, read_move
from support.functions import functions

CONDUCTOR = [{"key": "conductor", "value": True}]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def notes(record: Any) -> dict[str, Any]:
    return {item["key"]: item["value"] for item in record["annotations"]}


async def call(cluster: Any, body: Any = None, query: str = "?blocking=true") -> Any:
    return await cluster.client.call("POST", f"actions/conduct{query}", body if body is not None else {})


async def compose(cluster: Any, conduct: Any, **others: Any) -> Any:
    invoker = await cluster.join(behaviour=functions(conduct=conduct, **others))
    await cluster.client.put_echo("conduct", annotations=CONDUCTOR, parameters=[{"key": "p", "value": 1}])
    for name in others:
        await cluster.client.put_echo(name)
    return invoker


async def test_three_steps_with_a_state(cluster: Any, until: Any) -> None:
    def conduct(a: Any) -> Any:
        step = a.get("step", 0)
        if step == 2:
            return {"params": {"n": a["n"], "p": a["p"]}}
        return {"action": "inc", "params": {"n": a["n"]}, "state": {"step": step + 1}}

    invoker = await compose(cluster, conduct, inc=lambda a: {"n": a["n"] + 1})
    answer = await call(cluster, {"n": 5})
    assert answer.status == 200, answer.body
    record = answer.json
    assert record["response"]["result"] == {"n": 7, "p": 1}
    assert record["logs"] == [run.activation_id for run in invoker.runs]
    assert len(record["logs"]) == 5
    wanted = {"kind": "sequence", "conductor": True, "topmost": True, "path": "guest/conduct"}
    assert wanted.items() <= notes(record).items()

    async def part() -> Any:
        found = await cluster.client.call("GET", f"activations/{record['logs'][1]}")
        return found.json if found.status == 200 else None

    inner = await until(part)
    assert (inner["cause"], notes(inner)["causedBy"]) == (record["activationId"], "sequence")


async def test_a_result_that_names_no_action_ends_it(cluster: Any) -> None:
    await compose(cluster, lambda a: {"answer": 42})
    assert (await call(cluster)).json["response"]["result"] == {"answer": 42}


async def test_errors_of_the_conductor_end_it_and_those_of_actions_reach_it(cluster: Any) -> None:
    def conduct(a: Any) -> Any:
        if a.get("stop"):
            return {"error": "stopped"}
        return {"params": {"heard": a["error"]}} if "error" in a else {"action": "bad"}

    await compose(cluster, conduct, bad=lambda a: {"error": "boom"})
    assert (await call(cluster)).json["response"]["result"] == {"heard": "boom"}
    stopped = await call(cluster, {"stop": True})
    assert (stopped.status, stopped.json["response"]["result"]) == (502, {"error": "stopped"})


@pytest.mark.parametrize(
    ("action", "text"),
    [
        ("missing", "Failed to resolve action with name 'guest/missing' during composition."),
        ("/other/secret", "Failed entitlement check for action with name 'other/secret' during composition."),
        ("a/b/c/d", 'Failed to parse action name from json value "a/b/c/d" during composition.'),
        ({"x": 1}, 'Failed to parse action name from json value {"x":1} during composition.'),
        ("", 'Failed to parse action name from json value "" during composition.'),
        (None, "Failed to parse action name from json value null during composition."),
    ],
)
async def test_what_cannot_be_run_is_told_to_the_conductor(cluster: Any, action: Any, text: str) -> None:
    await compose(cluster, lambda a: {"params": {"heard": a["error"]}} if "error" in a else {"action": action})
    assert (await call(cluster)).json["response"]["result"]["heard"] == text


async def test_a_composition_without_end_is_ended(cluster: Any) -> None:
    def conduct(a: Any) -> Any:
        return {"params": {"heard": a["error"]}} if "error" in a else {"action": "/_/echo"}

    invoker = await compose(cluster, conduct, echo=lambda a: a)
    answer = await call(cluster)
    assert answer.json["response"]["result"] == {"heard": "Too many actions in the composition."}
    assert len(invoker.runs) == 50 + 52


async def test_a_conductor_that_calls_itself_is_ended(cluster: Any) -> None:
    await compose(cluster, lambda a: a if "error" in a else {"action": "conduct"})
    answer = await call(cluster)
    assert answer.status == 502
    assert answer.json["response"]["result"] == {"error": "Too many actions in the composition."}


async def test_it_runs_without_anybody_waiting_and_in_a_sequence(cluster: Any, until: Any) -> None:
    def conduct(a: Any) -> Any:
        return {"params": {"n": a.get("n", 0) + 1}} if "done" in a else {"action": "inc", "state": {"done": 1}}

    await compose(cluster, conduct, inc=lambda a: a)
    accepted = await call(cluster, query="")
    assert accepted.status == 202

    async def ended() -> Any:
        found = await cluster.client.call("GET", f"activations/{accepted.json['activationId']}")
        return found.json if found.status == 200 else None

    assert (await until(ended))["response"]["result"] == {"n": 1}
    body = {"exec": {"kind": "sequence", "components": ["/_/conduct", "/_/inc"]}}
    await cluster.client.call("PUT", "actions/s", body)
    whole = await cluster.client.call("POST", "actions/s?blocking=true", {})
    assert whole.json["response"]["result"] == {"n": 1}
    inner = await cluster.client.call("GET", f"activations/{whole.json['logs'][0]}")
    assert {"conductor": True, "topmost": False, "causedBy": "sequence"}.items() <= notes(inner.json).items()


async def test_what_is_no_object_is_put_into_one(cluster: Any) -> None:
    """Params under "value", a state under "state", as OpenWhisk does."""

    def conduct(a: Any) -> Any:
        return {"params": a} if "state" in a else {"action": "echo", "params": 7, "state": 8}

    await compose(cluster, conduct, echo=lambda a: a)
    assert (await call(cluster)).json["response"]["result"] == {"value": 7, "state": 8, "p": 1}


async def test_a_conductor_behind_a_binding_keeps_what_that_gives_it(cluster: Any, until: Any) -> None:
    def conduct(a: Any) -> Any:
        return {"params": a} if "done" in a else {"action": "echo", "state": {"done": True}}

    await cluster.join(behaviour=functions(conduct=conduct))
    await cluster.client.call("PUT", "packages/pkg", {})
    given = {"binding": {"namespace": "_", "name": "pkg"}, "parameters": [{"key": "from", "value": "binding"}]}
    await cluster.client.call("PUT", "packages/bound", given)
    await cluster.client.put_echo("pkg/conduct", annotations=CONDUCTOR)
    await cluster.client.put_echo("echo")
    answer = await cluster.client.call("POST", "actions/bound/conduct?blocking=true", {})
    assert answer.json["response"]["result"] == {"from": "binding", "done": True}
    for activation_id in (answer.json["activationId"], answer.json["logs"][0], answer.json["logs"][2]):

        async def recorded(activation_id: str = activation_id) -> Any:
            found = await cluster.client.call("GET", f"activations/{activation_id}")
            return found.json if found.status == 200 else None

        assert notes(await until(recorded))["binding"] == "guest/bound"


async def test_compositions_inside_one_another_are_counted_by_their_steps(cluster: Any) -> None:
    """49 conductors inside the first one, and the two actions that the last one calls: two components, 101 steps."""

    def conduct(a: Any) -> Any:
        calls = a.get("calls", 0)
        if a.get("levels"):
            return {"action": "conduct", "params": {"levels": a["levels"] - 1}}
        return {"params": a} if calls == 2 else {"action": "echo", "params": {"calls": calls + 1}}

    invoker = await compose(cluster, conduct, echo=lambda a: a)
    answer = await call(cluster, {"levels": 49})
    assert answer.json["response"]["result"] == {"calls": 2, "p": 1}
    assert len(invoker.runs) == 2 + 101


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_every_result_is_a_move(result: Any) -> None:
    move = read_move(result)
    assert move.ends == (not isinstance(result, dict) or "action" not in result)
    assert isinstance(move.state, dict)
    json.dumps(move.params)


@settings(max_examples=200, deadline=None)
@given(JSON | st.text(alphabet="ab/_ .", max_size=12))
def test_every_name_is_resolved_or_none(action: Any) -> None:
    name = named(action, "guest")
    assert name is None or (2 <= len(name.split("/")) <= 3 and "_" not in name.split("/")[:1])
