"""Triggers and rules: their shapes, what a fire does, and what is recorded of it."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest


async def ok(cluster: Any, method: str, path: str, body: Any = None) -> Any:
    answer = await cluster.client.call(method, path, body)
    assert answer.status == 200, answer.body
    return answer.json


async def set_up(cluster: Any, *rules: str, trigger: str = "t", action: str = "echo") -> None:
    await cluster.client.put_echo(action)
    await ok(cluster, "PUT", f"triggers/{trigger}?overwrite=true", {"parameters": [{"key": "p", "value": 1}]})
    for rule in rules:
        await ok(cluster, "PUT", f"rules/{rule}", {"trigger": f"/_/{trigger}", "action": f"/_/{action}"})


async def fire(cluster: Any, body: Any = None, trigger: str = "t") -> Any:
    return await cluster.client.call("POST", f"triggers/{trigger}", body)


async def record_of(cluster: Any, until: Any, activation_id: str) -> Any:
    async def found() -> Any:
        answer = await cluster.client.call("GET", f"activations/{activation_id}")
        return answer.json if answer.status == 200 else None

    return await until(found)


async def test_the_shapes_of_a_trigger(cluster: Any) -> None:
    body = {
        "namespace": "_",
        "name": "other",
        "annotations": [{"key": "feed", "value": "/whisk.system/alarms/alarm"}],
        "parameters": [{"key": "p", "value": 1}],
    }
    made = await ok(cluster, "PUT", "triggers/t", body)
    assert made == {
        "namespace": "guest",
        "name": "t",
        "version": "0.0.1",
        "publish": False,
        "updated": made["updated"],
        "annotations": body["annotations"],
        "parameters": body["parameters"],
        "limits": {},
    }
    assert await ok(cluster, "GET", "triggers/t") == made
    again = await ok(cluster, "PUT", "triggers/t?overwrite=true", {"publish": True})
    assert (again["version"], again["publish"], again["parameters"]) == ("0.0.2", True, body["parameters"])
    (item,) = await ok(cluster, "GET", "triggers?limit=0")
    assert set(item) == {"namespace", "name", "version", "publish", "updated", "annotations"}
    assert await ok(cluster, "GET", "triggers/?count=true") == {"triggers": 1}
    assert (await ok(cluster, "DELETE", "triggers/t"))["version"] == "0.0.2"
    gone = await cluster.client.call("GET", "triggers/t")
    assert (gone.status, gone.json["error"]) == (404, "The requested resource does not exist.")


@pytest.mark.parametrize("feed", ["", "a/b/c/d", "/_/a/", 3, ["x"], " x"])
async def test_a_feed_has_a_name(cluster: Any, feed: Any) -> None:
    answer = await cluster.client.call("PUT", "triggers/t", {"annotations": [{"key": "feed", "value": feed}]})
    assert (answer.status, answer.json["error"]) == (400, "Feed name is not valid")


async def test_the_shapes_of_a_rule(cluster: Any) -> None:
    await set_up(cluster)
    body = {"trigger": "/guest/t", "action": "/_/echo", "annotations": [{"key": "a", "value": 1}]}
    made = await ok(cluster, "PUT", "rules/r", body)
    assert made == {
        "namespace": "guest",
        "name": "r",
        "version": "0.0.1",
        "publish": False,
        "updated": made["updated"],
        "annotations": body["annotations"],
        "trigger": {"path": "guest", "name": "t"},
        "action": {"path": "guest", "name": "echo"},
        "status": "active",
    }
    assert await ok(cluster, "GET", "rules/r") == made
    (item,) = await ok(cluster, "GET", "rules")
    assert "status" not in item
    trigger = await ok(cluster, "GET", "triggers/t")
    assert trigger["rules"] == {"guest/r": {"action": {"path": "guest", "name": "echo"}, "status": "active"}}
    assert (await cluster.client.call("PUT", "rules/r", body)).status == 409
    assert (await ok(cluster, "DELETE", "rules/r"))["status"] == "inactive"
    assert "rules" not in await ok(cluster, "GET", "triggers/t")


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({}, 400, "rule requires a valid trigger and a valid action"),
        ({"trigger": "/_/t"}, 400, "rule requires a valid trigger and a valid action"),
        ({"trigger": "/_/none", "action": "/_/echo"}, 400, "trigger /guest/none does not exist"),
        ({"trigger": "/_/t", "action": "/_/none"}, 400, "action /guest/none does not exist"),
        ({"trigger": "/_/t", "action": "/_/pkg/none"}, 400, "action /guest/pkg/none does not exist"),
        ({"trigger": "/_/echo", "action": "/_/echo"}, 400, "trigger /guest/echo does not exist"),
        ({"trigger": "/other/t", "action": "/_/echo"}, 403, "not authorized"),
        ({"trigger": "/_/t", "action": "/other/a"}, 403, "not authorized"),
        ({"trigger": "t", "action": "/_/echo"}, 400, "fully qualified name"),
        ({"trigger": 3, "action": "/_/echo"}, 400, "rule requires a valid trigger and a valid action"),
        ({"trigger": "/_/t/x", "action": "/_/echo"}, 400, "fully qualified name"),
    ],
)
async def test_what_is_no_rule_is_refused(cluster: Any, body: Any, status: int, text: str) -> None:
    await set_up(cluster)
    answer = await cluster.client.call("PUT", "rules/r", body)
    assert answer.status == status
    assert text in answer.json["error"]
    assert (await cluster.client.call("GET", "rules/r")).status == 404


async def test_names_are_shared_with_other_collections(cluster: Any) -> None:
    await set_up(cluster, "r")
    for path in ("triggers/r", "triggers/echo", "rules/t", "rules/echo", "actions/t", "packages/r"):
        for method in ("GET", "DELETE", "PUT"):
            body = {"trigger": "/_/t", "action": "/_/echo"} if method == "PUT" else None
            answer = await cluster.client.call(method, path, body)
            assert (answer.status, path, method) == (409, path, method)
            assert answer.json["error"] == "Resource by this name exists but is not in this collection."
    assert (await fire(cluster, trigger="r")).status == 409


async def test_a_fire_invokes_the_actions_of_active_rules(cluster: Any, until: Any) -> None:
    invoker = await cluster.join()
    await set_up(cluster, "one", "two")
    await cluster.client.put_echo("other", parameters=[{"key": "stored", "value": 1}, {"key": "p", "value": 9}])
    await ok(cluster, "PUT", "rules/three", {"trigger": "/_/t", "action": "/_/other"})
    await ok(cluster, "POST", "rules/two", {"status": "inactive", "trigger": None, "action": None})
    answer = await fire(cluster, {"n": 5})
    assert answer.status == 202, answer.body
    fire_id = answer.json["activationId"]
    assert answer.headers["X-Openwhisk-Activation-Id"] == fire_id
    record = await record_of(cluster, until, fire_id)
    assert not {"end", "duration"} & set(record)
    assert record["annotations"] == []
    assert record["response"] == {"status": "success", "success": True, "result": {"n": 5}, "size": 7}
    one, three, two = (json.loads(line) for line in record["logs"])
    assert one == {
        "statusCode": 0,
        "success": True,
        "activationId": one["activationId"],
        "rule": "guest/one",
        "action": "guest/echo",
    }
    assert two == {
        "statusCode": 1,
        "success": False,
        "error": "Rule 'guest/two' is inactive, action 'guest/echo' was not activated.",
        "rule": "guest/two",
        "action": "guest/echo",
    }
    runs = {run.activation_id: json.loads(run.args) for run in await invoker.got(2)}
    assert {runs[i].pop("__ow_headers")["content-type"] for i in runs} == {"application/json"}
    assert runs == {one["activationId"]: {"p": 1, "n": 5}, three["activationId"]: {"p": 1, "n": 5, "stored": 1}}
    ran = await record_of(cluster, until, one["activationId"])
    assert ran["cause"] == fire_id
    assert "causedBy" not in {item["key"] for item in ran["annotations"]}
    (listed,) = await ok(cluster, "GET", "activations?name=t")
    assert (listed["activationId"], listed["statusCode"]) == (fire_id, 0)
    assert await ok(cluster, "GET", f"activations/{fire_id}/logs") == {"logs": record["logs"]}


async def test_without_an_active_rule_nothing_happens(cluster: Any) -> None:
    await set_up(cluster, "r")
    await ok(cluster, "POST", "rules/r", {"status": "inactive"})
    for _ in range(2):
        answer = await fire(cluster)
        assert (answer.status, answer.body) == (204, b"")
    assert await ok(cluster, "GET", "activations") == []


async def test_the_actions_of_a_fire_are_counted(cluster: Any, until: Any) -> None:
    await cluster.join()
    await set_up(cluster, *(f"r{n}" for n in range(6)))
    limited = await cluster.admin("PUT", "limits/guest", {"invocations_per_minute": 2})
    assert limited.status == 200, limited.body
    record = await record_of(cluster, until, (await fire(cluster)).json["activationId"])
    said = [json.loads(line) for line in record["logs"]]
    assert 2 <= sum(line["success"] for line in said) <= 4  # a minute may end meanwhile
    assert "Too many requests in the last minute" in next(line["error"] for line in said if not line["success"])


async def test_a_deleted_action_is_told(cluster: Any, until: Any) -> None:
    await set_up(cluster, "r")
    await ok(cluster, "DELETE", "actions/echo")
    record = await record_of(cluster, until, (await fire(cluster)).json["activationId"])
    assert record["response"]["result"] == {}
    (line,) = record["logs"]
    assert json.loads(line)["error"] == "The requested resource does not exist."


async def test_the_status_of_a_rule(cluster: Any) -> None:
    await set_up(cluster, "r")
    for status in ("inactive", "inactive", "active", "active"):
        await ok(cluster, "POST", "rules/r", {"status": status})
        assert (await ok(cluster, "GET", "rules/r"))["status"] == status
    for body in ({}, {"status": "on"}, {"status": None}):
        assert (await cluster.client.call("POST", "rules/r", body)).status == 400
    await ok(cluster, "POST", "rules/r", {"status": "inactive"})
    await cluster.client.put_echo("second")
    moved = await ok(cluster, "PUT", "rules/r?overwrite=true", {"action": "/_/second"})
    assert (moved["status"], moved["version"], moved["action"]["name"]) == ("inactive", "0.0.2", "second")
    await ok(cluster, "POST", "rules/r", {"status": "active"})
    await ok(cluster, "PUT", "triggers/u", {})
    moved = await ok(cluster, "PUT", "rules/r?overwrite=true", {"trigger": "/_/u"})
    assert moved["status"] == "active"
    assert "rules" not in await ok(cluster, "GET", "triggers/t")
    await ok(cluster, "DELETE", "triggers/u")
    assert (await ok(cluster, "GET", "rules/r"))["status"] == "inactive"
    refused = await cluster.client.call("POST", "rules/r", {"status": "active"})
    assert (refused.status, refused.json["error"]) == (404, "Only rules with existing triggers can be activated")
    await ok(cluster, "PUT", "triggers/u", {})
    assert (await ok(cluster, "GET", "rules/r"))["status"] == "inactive"
    await ok(cluster, "POST", "rules/r", {"status": "active"})
    assert (await ok(cluster, "GET", "triggers/u"))["rules"]["guest/r"]["status"] == "active"
    await ok(cluster, "DELETE", "rules/r")


async def test_many_rules_put_at_once_are_all_linked(cluster: Any) -> None:
    await set_up(cluster)
    body = {"trigger": "/_/t", "action": "/_/echo"}
    await asyncio.gather(*(ok(cluster, "PUT", f"rules/r{n}", body) for n in range(40)))
    assert len((await ok(cluster, "GET", "triggers/t"))["rules"]) == 40


@pytest.mark.parametrize("levels", [975, 978, 979, 980, 981, 985])
async def test_a_payload_is_deep_or_not(cluster: Any, levels: int) -> None:
    await set_up(cluster, "r")
    body = b'{"a":' + b"[" * levels + b"]" * levels + b"}"
    assert (await cluster.client.call("POST", "triggers/t", data=body)).status in (202, 400)


@pytest.mark.parametrize(
    ("body", "status"),
    [(b'{"a":1e999}', 400), (b"[1]", 400), (b"{", 400), (b'"x"', 400), (b" " * ((1 << 20) + 1), 413)],
)
async def test_bad_payloads(cluster: Any, body: bytes, status: int) -> None:
    await set_up(cluster, "r")
    assert (await cluster.client.call("POST", "triggers/t", data=io.BytesIO(body))).status == status


async def test_methods_and_foreign_namespaces(cluster: Any) -> None:
    for path, status in (("triggers", 405), ("rules", 405), ("triggers/t/x", 404), ("rules/r/x", 404)):
        assert (await cluster.client.call("POST", path, {})).status == status
    for path in ("triggers", "triggers/t", "rules/r", "rules"):
        assert (await cluster.client.call("GET", f"/api/v1/namespaces/other/{path}")).status == 403
    assert (await cluster.client.call("PATCH", "triggers/t", {})).status == 405
    assert (await fire(cluster, trigger="none")).status == 404
