"""What a PUT of an action keeps, replaces, merges, and refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

EXEC = {"kind": "python:3", "code": "def main(args):\n    return args\n"}
GONE = "The 'python:2' runtime is no longer supported. You may read and delete but not update or invoke this action."


def pairs(**values: Any) -> list[dict[str, Any]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def annotations(answer: Any) -> dict[str, Any]:
    assert answer.status == 200, answer.body
    return {item["key"]: item["value"] for item in answer.json["annotations"]}


async def test_annotations_merge_and_none_of_the_platforms_can_be_faked(cluster) -> None:
    async def put(**more: Any) -> dict[str, Any]:
        return annotations(await cluster.client.call("PUT", "actions/a?overwrite=true", {"exec": EXEC, **more}))

    made = {"provide-api-key": False, "exec": "python:3"}
    assert await put(annotations=pairs(x=1, exec="other:1")) == {"x": 1, **made}
    assert await put(annotations=pairs(y=2), delAnnotations=["x", "exec", "none"]) == {"y": 2, **made}
    assert await put(annotations=[{"key": "provide-api-key", "value": True}]) == {
        "y": 2,
        **made,
        "provide-api-key": True,
    }
    # It is added to new actions, not to those from which it was taken.
    assert await put(delAnnotations=["provide-api-key"]) == {"y": 2, "exec": "python:3"}


async def test_parameters_replace_as_a_whole(cluster) -> None:
    call = cluster.client.call
    first = [{"key": "a", "value": 1, "init": True}, {"key": "b", "value": 2, "encryption": None}]
    made = await call("PUT", "actions/a", {"exec": EXEC, "parameters": first})
    assert made.json["parameters"] == [first[0], {"key": "b", "value": 2}]
    kept = await call("PUT", "actions/a?overwrite=true", {"exec": EXEC, "publish": True})
    assert (kept.json["parameters"], kept.json["publish"]) == (made.json["parameters"], True)
    replaced = await call("PUT", "actions/a?overwrite=true", {"parameters": pairs(c=3)})
    assert (replaced.json["parameters"], replaced.json["version"]) == (pairs(c=3), "0.0.3")
    assert (await call("PUT", "actions/a?overwrite=true", {"version": "2.0.0"})).json["version"] == "2.0.0"
    assert (await call("PUT", "actions/a?overwrite=true", {"parameters": []})).json["parameters"] == []


async def test_a_sequences_parameters_are_its_own(cluster) -> None:
    call = cluster.client.call

    async def as_sequence() -> None:
        await call("PUT", "actions/a?overwrite=true", {"exec": EXEC})
        doc = await cluster.store.get_action("guest", "a")
        components = pairs(_actions=["/guest/x"])
        sequence = replace(doc, kind="sequence", code_digest="", components=["guest/x"], parameters=components)
        await cluster.store.put_action(sequence, None, expect=doc.revision)

    await as_sequence()
    kept = await call("PUT", "actions/a?overwrite=true", {"parameters": pairs(a=1), "publish": True})
    assert kept.json["parameters"] == pairs(_actions=["/guest/x"])
    assert (await call("PUT", "actions/a?overwrite=true", {"exec": EXEC})).json["parameters"] == []
    assert (await cluster.store.get_action("guest", "a")).components == []
    await as_sequence()
    given = await call("PUT", "actions/a?overwrite=true", {"exec": EXEC, "parameters": pairs(a=1)})
    assert given.json["parameters"] == pairs(a=1)


async def test_how_many_containers_an_action_may_have(cluster) -> None:
    call = cluster.client.call
    made = await call("PUT", "actions/a", {"exec": EXEC})
    assert "instances" not in made.json["limits"]
    limited = await call("PUT", "actions/a?overwrite=true", {"limits": {"instances": 3}})
    assert limited.json["limits"] == {**made.json["limits"], "instances": 3}
    assert (await call("PUT", "actions/a?overwrite=true", {"limits": {"logs": 0}})).json["limits"]["instances"] == 3
    assert (await call("GET", "actions")).json[0]["limits"]["instances"] == 3
    most = (await call("GET", "limits")).json["concurrentInvocations"]
    over = await call("PUT", "actions/a?overwrite=true", {"limits": {"instances": most + 1}})
    text = f"Max action instance concurrency must not exceed your namespace concurrency of {most}."
    assert (over.status, over.json["error"]) == (400, text)
    assert (await call("PUT", "actions/a?overwrite=true", {"limits": {"instances": most}})).status == 200
    for wrong in (0, -1, "3", 1.5):
        assert (await call("PUT", "actions/a?overwrite=true", {"limits": {"instances": wrong}})).status == 400


async def test_a_deprecated_kind_may_be_read_and_deleted(cluster, boot) -> None:
    await cluster.join("h1", runtimes=["python:3", "python:2"])
    body = {"exec": {**EXEC, "kind": "python:2"}}
    for name in ("old", "older"):
        assert (await cluster.client.call("PUT", f"actions/{name}", body)).status == 200
    async with boot(deprecated_kinds="python:2, nodejs:0") as later:
        call = later.client.call
        await later.join("h1", runtimes=["python:3", "python:2"])
        for method, path, sent in (
            ("PUT", "actions/new", body),
            ("PUT", "actions/old?overwrite=true", body),
            ("PUT", "actions/old?overwrite=true", {"publish": True}),
            ("POST", "actions/old?blocking=true", {}),
            ("POST", "actions/old", {}),
        ):
            answer = await call(method, path, sent)
            assert (answer.status, answer.json["error"]) == (400, GONE), (method, path)
        assert (await call("GET", "actions/old")).json["exec"]["kind"] == "python:2"
        unknown = await call("PUT", "actions/new", {"exec": {**EXEC, "kind": "foobar"}})
        assert "Valid values are: 'python:3'." in unknown.json["error"]
        runtimes = (await call("GET", "/", auth=None)).json["runtimes"]["python"]
        assert {runtime["kind"]: runtime["deprecated"] for runtime in runtimes} == {"python:2": True, "python:3": False}
        # What is brought to a kind of today works on.
        assert (await call("PUT", "actions/old?overwrite=true", {"exec": EXEC})).status == 200
        assert (await call("POST", "actions/old?blocking=true&result=true", {"a": 1})).json == {"a": 1}
        assert (await call("DELETE", "actions/older")).status == 200


@pytest.mark.parametrize("headers", [{"Content-Type": ""}, {"Content-Type": "application/x-www-form-urlencoded"}])
async def test_a_put_is_json(cluster, headers) -> None:
    answer = await cluster.client.call("PUT", "actions/a", data=b'{"exec": {}}', headers=headers)
    assert answer.status == 415


async def test_code_counts_in_bytes(cluster, monkeypatch) -> None:
    monkeypatch.setattr("controller.api.actions.MAX_CODE_BYTES", 10)
    put = cluster.client.call
    text = "exec larger than allowed: 12 > 10 bytes."
    large = await put("PUT", "actions/a", {"exec": {"kind": "python:3", "code": "é" * 6}})
    assert (large.status, large.json["error"]) == (413, text)
    assert (await put("PUT", "actions/a", {"exec": {"kind": "python:3", "code": "é" * 5}})).status == 200
