"""Requests as the `wsk` command and the npm package write them, and what they need back."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from typing import Any

import pytest

WSK = {"User-Agent": "OpenWhisk-CLI/1.0 (2022-03-17) linux amd64", "Content-Type": "application/json"}
CODE = "function main(args) { return args }"


async def sent(cluster: Any, method: str, path: str, body: Any = None, status: int = 200) -> Any:
    answer = await cluster.client.call(method, path, body, headers=WSK)
    assert answer.status == status, answer.body
    return answer.json if answer.body else None


def by_key(entity: Any) -> dict[str, Any]:
    return {item["key"]: item["value"] for item in entity["annotations"]}


async def test_what_it_asks_before_anything_else(cluster) -> None:
    await cluster.join(runtimes=["nodejs:20"])
    assert (await sent(cluster, "GET", "/api/v1"))["buildno"]  # `wsk property get --apibuild`: no slash behind
    runtimes = (await sent(cluster, "GET", "/"))["runtimes"]  # `wsk project deploy`
    assert [kind["kind"] for kind in runtimes["nodejs"] if kind["default"]] == ["nodejs:20"]
    assert await sent(cluster, "GET", "/api/v1/namespaces") == ["guest"]
    assert (await cluster.client.call("GET", "/blackbox.tar.gz", auth=None)).body[:2] == b"\x1f\x8b"


async def test_lists_with_limit_0_ask_for_all_that_there_is(cluster) -> None:
    for number in range(31):
        await sent(cluster, "PUT", f"packages/p{number}?overwrite=false", {"namespace": "_", "name": f"p{number}"})
    assert len(await sent(cluster, "GET", "packages?limit=0&skip=0")) == 31
    assert len(await sent(cluster, "GET", "packages?limit=30&skip=0")) == 30
    for collection in ("actions", "triggers", "rules", "activations"):
        assert await sent(cluster, "GET", f"{collection}?limit=0&skip=0") == []
        assert await sent(cluster, "GET", f"{collection}?") == []  # the npm package sends an empty query
    assert await sent(cluster, "GET", "activations?docs=false&limit=0&since=1700000000000&skip=0") == []


async def test_bodies_that_name_the_entity_and_the_namespace_again(cluster) -> None:
    await cluster.join(runtimes=["nodejs:20"])
    body = {"namespace": "_", "name": "hello", "exec": {"kind": "nodejs:default", "code": CODE}, "annotations": []}
    made = await sent(cluster, "PUT", "actions/hello?overwrite=false", body)
    assert (made["namespace"], made["name"], made["exec"]["kind"]) == ("guest", "hello", "nodejs:20")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("index.js", f"exports.main = {CODE}")
    body["exec"] = {"kind": "nodejs:default", "code": base64.b64encode(packed.getvalue()).decode()}
    assert (await sent(cluster, "PUT", "actions/hello?overwrite=true", body))["exec"]["binary"] is True
    got = await sent(cluster, "GET", "actions/hello?code=false")
    assert "code" not in got["exec"]


@pytest.mark.parametrize("slashes", ["/", "//"])
async def test_the_actions_of_a_package_have_slashes_behind_its_name(cluster, slashes: str) -> None:
    await sent(cluster, "PUT", "packages/pkg?overwrite=false", {"namespace": "_", "name": "pkg"})
    exec_ = {"kind": "python:default", "code": "def main(args):\n    return args\n"}
    await sent(cluster, "PUT", "actions/pkg/a?overwrite=false", {"namespace": "_", "name": "pkg/a", "exec": exec_})
    listed = await sent(cluster, "GET", f"actions/pkg{slashes}?limit=30&skip=0")
    assert [(item["namespace"], item["name"]) for item in listed] == [("guest/pkg", "a")]


async def test_a_refresh_of_packages_is_refused_in_a_way_that_it_copes_with(cluster) -> None:
    answer = await cluster.client.call("POST", "packages/refresh", headers=WSK)
    assert answer.status == 405
    assert set(answer.json) == {"error", "code"}


async def test_a_binding_names_a_package_of_its_own_namespace(cluster) -> None:
    await sent(cluster, "PUT", "packages/pkg?overwrite=false", {"namespace": "_", "name": "pkg"})
    body = {"namespace": "_", "name": "tie", "binding": {"namespace": "_", "name": "pkg"}}
    made = await sent(cluster, "PUT", "packages/tie?overwrite=false", body)
    assert made["binding"] == {"namespace": "guest", "name": "pkg"}


async def test_web_flags_are_annotations(cluster) -> None:
    await cluster.join()
    annotations = [
        {"key": "web-export", "value": True},
        {"key": "raw-http", "value": False},
        {"key": "final", "value": True},
        {"key": "require-whisk-auth", "value": 1234567890123456789},
    ]
    exec_ = {"kind": "python:default", "code": "def main(args):\n    return args\n"}
    body = {"namespace": "_", "name": "web", "exec": exec_, "annotations": annotations}
    made = await sent(cluster, "PUT", "actions/web?overwrite=false", body)
    assert {item["key"]: item["value"] for item in annotations}.items() <= by_key(made).items()


async def test_the_status_of_a_rule_comes_with_the_rest_left_null(cluster) -> None:
    await cluster.join()
    await cluster.client.put_echo("a")
    await sent(cluster, "PUT", "triggers/t?overwrite=false", {"name": "t"})
    body = {"name": "r", "trigger": "/_/t", "action": "/_/a"}
    assert (await sent(cluster, "PUT", "rules/r?overwrite=false", body))["status"] == "active"
    for status in ("inactive", "inactive", "active"):
        changed = {"name": "r", "status": status, "trigger": None, "action": None}
        await sent(cluster, "POST", "rules/r", changed)
        assert (await sent(cluster, "GET", "rules/r"))["status"] == status  # its list asks for each rule, too
    assert [item["name"] for item in await sent(cluster, "GET", "rules?limit=30&skip=0")] == ["r"]


async def test_a_trigger_with_a_feed_is_put_told_of_and_taken_back(cluster) -> None:
    await cluster.join()
    await cluster.client.put_echo("feed")
    annotations = [{"key": "feed", "value": "/guest/feed"}]
    made = await sent(cluster, "PUT", "triggers/t?overwrite=false", {"name": "t", "annotations": annotations})
    assert by_key(made)["feed"] == "/guest/feed"
    told = {"lifecycleEvent": "CREATE", "triggerName": "/guest/t", "authKey": "uuid:key", "cron": "* * * * *"}
    record = await sent(cluster, "POST", "actions/feed?blocking=true", told)
    assert record["response"]["result"] == told
    assert (await sent(cluster, "DELETE", "triggers/t"))["name"] == "t"


async def test_an_invocation_without_arguments_sends_an_empty_object_or_nothing(cluster) -> None:
    invoker = await cluster.join()
    await cluster.client.put_echo("echo")
    for body in ({}, None):
        assert (await sent(cluster, "POST", "actions/echo?blocking=true&result=true", body)) == {}
    assert [json.loads(run.args) for run in invoker.runs] == [{}, {}]


async def test_the_namespace_that_the_npm_package_announces_in_a_header_changes_nothing(cluster) -> None:
    headers = {"x-namespace-id": "other", "User-Agent": "openwhisk-client-js"}
    answer = await cluster.client.call("GET", "/api/v1/namespaces/guest/actions?", headers=headers)
    assert (answer.status, answer.json) == (200, [])
