"""The npm package `openwhisk`: actions, activations, packages, sequences, and how it meets errors."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from support.cluster import Up
from support.openwhisk_js import ClientError, OpenWhisk

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELLO = "function main(args) { return { hello: args.name || 'nobody', stored: args.stored } }"


async def found(fetch: Callable[[], Awaitable[Any]], up: Up) -> Any:
    """What the client finds once there is a record: it comes a moment after the answer, and clients ask again."""

    async def attempt() -> Any:
        try:
            return await fetch()
        except ClientError as e:
            if e.status != 404:
                raise
            return None

    return await up.until(attempt)


async def test_an_action_from_creation_to_the_end(ow: OpenWhisk) -> None:
    made = await ow("actions", "create", {"name": "hello", "action": HELLO, "params": {"stored": 1}})
    assert (made["name"], made["version"], made["exec"]["kind"].partition(":")[0]) == ("hello", "0.0.1", "nodejs")
    assert made["parameters"] == [{"key": "stored", "value": 1}]
    with pytest.raises(ClientError, match="already exists") as taken:
        await ow("actions", "create", {"name": "hello", "action": HELLO})
    assert taken.value.status == 409
    updated = await ow("actions", "update", {"name": "hello", "action": HELLO, "annotations": {"mine": "x"}})
    assert updated["version"] == "0.0.2"
    assert {"key": "mine", "value": "x"} in updated["annotations"]
    got = await ow("actions", "get", {"name": "hello", "code": False})
    assert "code" not in got["exec"]
    assert (await ow("actions", "get", "hello"))["exec"]["code"] == HELLO
    assert "hello" in [item["name"] for item in await ow("actions", "list", {"limit": 200})]
    assert (await ow("actions", "list", {"count": True}))["actions"] >= 1
    assert (await ow("actions", "delete", {"name": "hello"}))["name"] == "hello"
    with pytest.raises(ClientError, match="does not exist") as gone:
        await ow("actions", "get", "hello")
    assert gone.value.status == 404


async def test_invocations_of_every_mode_and_their_records(ow: OpenWhisk, up: Up) -> None:
    await ow("actions", "update", {"name": "modes", "action": HELLO})
    call = {"name": "modes", "params": {"name": "you"}}
    record = await ow("actions", "invoke", {**call, "blocking": True})
    assert record["response"] == {
        "status": "success",
        "success": True,
        "result": {"hello": "you"},
        "size": record["response"]["size"],
    }
    assert await ow("actions", "invoke", {**call, "blocking": True, "result": True}) == {"hello": "you"}
    activation_id = (await ow("actions", "invoke", call))["activationId"]
    kept = await found(lambda: ow("activations", "get", {"name": activation_id}), up)
    assert kept["response"]["result"] == {"hello": "you"}
    assert await ow("activations", "result", {"name": activation_id}) == kept["response"]
    assert await ow("activations", "logs", activation_id) == {"logs": []}
    listed = await ow("activations", "list", {"name": "modes", "limit": 1, "docs": True})
    assert [item["response"]["result"] for item in listed] == [{"hello": "you"}]
    assert (await ow("activations", "list", {"count": True}))["activations"] >= 2


async def test_a_zip_is_sent_as_a_buffer(ow: OpenWhisk) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("package.json", '{"main": "lib.js"}')
        archive.writestr("lib.js", "exports.main = args => ({ packed: args.n + 1 })")
    code = {"$base64": base64.b64encode(packed.getvalue()).decode()}
    assert (await ow("actions", "update", {"name": "zipped", "action": code}))["exec"]["binary"] is True
    call = {"name": "zipped", "params": {"n": 1}, "blocking": True, "result": True}
    assert await ow("actions", "invoke", call) == {"packed": 2}


async def test_a_failed_action_is_the_clients_error(ow: OpenWhisk) -> None:
    await ow("actions", "update", {"name": "bad", "action": "function main() { return { error: 'no good' } }"})
    with pytest.raises(ClientError) as failed:
        await ow("actions", "invoke", {"name": "bad", "blocking": True})
    assert (failed.value.name, failed.value.status) == ("OpenWhiskError", 502)
    assert failed.value.body["response"]["result"] == {"error": "no good"}


async def test_a_wrong_key_is_refused_in_words(ow: OpenWhisk) -> None:
    with pytest.raises(ClientError, match="The supplied authentication is invalid") as refused:
        await ow.with_options(api_key="a:b")("actions", "list")
    assert refused.value.status == 401
    with pytest.raises(ClientError, match="not authorized to access") as foreign:
        await ow.with_options(namespace="elsewhere")("actions", "list")
    assert foreign.value.status == 403


async def test_namespaces(ow: OpenWhisk) -> None:
    assert await ow("namespaces", "list") == ["guest"]


async def test_a_package_and_an_action_in_it_and_a_binding(ow: OpenWhisk) -> None:
    package = {"publish": False, "parameters": [{"key": "stored", "value": "of the package"}]}
    assert (await ow("packages", "create", {"name": "box", "package": package}))["name"] == "box"
    await ow("actions", "create", {"name": "box/hello", "action": HELLO})
    got = await ow("packages", "get", "box")
    assert [item["name"] for item in got["actions"]] == ["hello"]
    call = {"name": "box/hello", "blocking": True, "result": True}
    assert await ow("actions", "invoke", call) == {"hello": "nobody", "stored": "of the package"}
    binding = {"binding": {"namespace": "_", "name": "box"}, "parameters": [{"key": "name", "value": "bound"}]}
    assert (await ow("packages", "update", {"name": "tie", "package": binding}))["binding"]["name"] == "box"
    assert (await ow("actions", "invoke", {**call, "name": "tie/hello"}))["hello"] == "bound"
    assert {"box", "tie"} <= {item["name"] for item in await ow("packages", "list")}
    with pytest.raises(ClientError, match="Package not empty") as full:
        await ow("packages", "delete", {"name": "box"})
    assert full.value.status == 409
    await ow("packages", "delete", {"name": "tie"})
    await ow("actions", "delete", {"name": "box/hello"})
    assert (await ow("packages", "delete", {"name": "box"}))["name"] == "box"


async def test_a_sequence_runs_its_actions_one_after_the_other(ow: OpenWhisk, up: Up) -> None:
    for name, code in (("add", "args => ({ n: args.n + 1 })"), ("twice", "args => ({ n: args.n * 2 })")):
        await ow("actions", "update", {"name": name, "action": f"const main = {code}"})
    made = await ow("actions", "create", {"name": "both", "sequence": ["/_/add", "/_/twice"]})
    assert made["exec"] == {"kind": "sequence", "components": ["/guest/add", "/guest/twice"]}
    record = await ow("actions", "invoke", {"name": "both", "params": {"n": 1}, "blocking": True})
    assert record["response"]["result"] == {"n": 4}
    parts = [await found(lambda part=part: ow("activations", "get", part), up) for part in record["logs"]]
    assert [(part["name"], part["cause"]) for part in parts] == [
        ("add", record["activationId"]),
        ("twice", record["activationId"]),
    ]


async def test_the_actions_of_the_system_are_there(ow: OpenWhisk) -> None:
    call = {"name": "/whisk.system/utils/echo", "params": {"lines": ["b", "a"]}, "blocking": True, "result": True}
    assert await ow("actions", "invoke", call) == {"lines": ["b", "a"]}
    assert (await ow("actions", "invoke", {**call, "name": "/whisk.system/utils/sort"}))["lines"] == ["a", "b"]
    assert "utils" in [item["name"] for item in await ow("packages", "list", {"namespace": "whisk.system"})]
