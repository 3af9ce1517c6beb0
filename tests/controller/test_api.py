"""The surface around invocations: who may ask, what is checked, what the answers look like."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import stat
import zipfile
from typing import Any

import pytest

CODE = "def main(args):\n    return args\n"


def archive(*members: tuple[str, str], link: str = "") -> str:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        for name, text in members:
            made.writestr(name, text)
        if link:
            entry = zipfile.ZipInfo(link)
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            made.writestr(entry, "/etc/passwd")
    return base64.b64encode(out.getvalue()).decode()


async def test_info_routes_need_no_key(cluster) -> None:
    call = cluster.client.call
    ping = await call("GET", "/ping", auth=None)
    assert (ping.status, ping.body) == (200, b"pong")
    assert (await call("GET", "/api/v1", auth=None)).json["api_version_path"] == "v1"
    assert "python" in (await call("GET", "/", auth=None)).json["runtimes"]
    preflight = await call("OPTIONS", "actions/x", auth=None)
    assert (preflight.status, preflight.headers["Access-Control-Allow-Origin"]) == (200, "*")
    missing = await call("GET", "/nothing", auth=None)
    assert (missing.status, set(missing.json)) == (404, {"error", "code"})


async def test_keys_and_namespaces(cluster, keys) -> None:
    call = cluster.client.call
    for wrong in (None, "Basic !!!", "Basic " + base64.b64encode(b"a:b").decode(), "Bearer x", "Basic " + "A" * 4000):
        answer = await call("GET", "/api/v1/namespaces/anything/at/all", auth=wrong)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="OpenWhisk secure realm"'
    assert (await call("GET", "/api/v1/namespaces")).json == ["guest"]
    assert (await call("GET", "/api/v1/namespaces/?")).json == ["guest"]
    assert (await call("GET", "/api/v1/namespaces/guest/actions")).status == 200
    foreign = await call("GET", "/api/v1/namespaces/other/actions/x")
    assert foreign.status == 403
    assert foreign.json["error"] == "The supplied authentication is not authorized to access 'other/x'."
    assert (await call("GET", "/api/v1/namespaces/_/nowhere")).status == 404
    assert (await call("GET", "/admin/v1/status")).status == 401
    assert (await call("GET", "/metrics")).status == 401
    assert (await call("GET", "/metrics", auth=keys["operator"])).status == 200


async def test_request_ids_are_echoed_and_stand_in_errors(cluster) -> None:
    own = await cluster.client.call("GET", "actions/none", headers={"X-Request-ID": "my-id"})
    assert (own.headers["X-Request-ID"], own.json["code"]) == ("my-id", "my-id")
    minted = await cluster.client.call("GET", "actions/none", headers={"X-Request-ID": "sid_x"})
    assert len(minted.json["code"]) == 32


async def test_an_action_from_put_to_delete(cluster) -> None:
    call = cluster.client.call
    body = {
        "namespace": "_",
        "name": "ignored",
        "exec": {"kind": "python", "code": CODE, "main": "main"},
        "parameters": [{"key": "a", "value": 1}],
        "annotations": [{"key": "x", "value": "1"}],
        "limits": {"memory": 128},
    }
    made = await call("PUT", "actions/hello", body)
    assert made.status == 200
    entity = made.json
    assert entity["exec"] == {"kind": "python:3", "binary": False, "code": CODE, "main": "main"}
    assert entity["limits"] == {"timeout": 60000, "memory": 128, "logs": 10, "concurrency": 1}
    assert (entity["namespace"], entity["name"], entity["version"]) == ("guest", "hello", "0.0.1")
    annotations = {item["key"]: item["value"] for item in entity["annotations"]}
    assert annotations == {"x": "1", "provide-api-key": False, "exec": "python:3"}

    again = await call("PUT", "actions/hello", body)
    assert (again.status, again.json["error"]) == (409, "resource already exists")
    patch = {"annotations": [{"key": "y", "value": 2}], "delAnnotations": ["x"], "limits": {"timeout": 1000}}
    updated = (await call("PUT", "actions/hello?overwrite=true", patch)).json
    assert updated["version"] == "0.0.2"
    assert updated["limits"] == {"timeout": 1000, "memory": 128, "logs": 10, "concurrency": 1}
    assert {a["key"] for a in updated["annotations"]} == {"y", "provide-api-key", "exec"}
    assert updated["parameters"] == [{"key": "a", "value": 1}]
    assert updated["exec"]["code"] == CODE

    assert (await call("GET", "actions/hello")).json == updated
    bare = (await call("GET", "actions/hello?code=false")).json
    assert "code" not in bare["exec"]
    listed = (await call("GET", "actions")).json
    assert [item["exec"] for item in listed] == [{"binary": False}]
    assert (await call("GET", "actions?count=true")).json == {"actions": 1}
    assert (await call("DELETE", "actions/hello")).json == updated
    assert (await call("DELETE", "actions/hello")).status == 404
    assert (await call("GET", "actions/hello")).status == 404


async def test_zip_code_is_kept_as_it_came(cluster) -> None:
    code = archive(("__main__.py", CODE))
    made = await cluster.client.call("PUT", "actions/zipped", {"exec": {"kind": "python:3", "code": code}})
    assert made.json["exec"] == {"kind": "python:3", "binary": True, "code": code}


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (archive(("../evil.py", "x")), "leads out of its folder"),
        (archive(("a/../../evil.py", "x")), "leads out of its folder"),
        (archive(("/etc/evil", "x")), "leads out of its folder"),
        (archive(("..\\evil.py", "x")), "leads out of its folder"),
        (archive(("__main__.py", CODE), link="link"), "link or special file"),
        (base64.b64encode(b"PK\x03\x04" + b"\0" * 50).decode(), "not a valid zip archive"),
        ("AAAA", "not a valid zip archive"),
        (" ", "not empty"),
    ],
)
async def test_bad_code_is_refused_and_nothing_stays(cluster, code, text) -> None:
    answer = await cluster.client.call("PUT", "actions/bad", {"exec": {"kind": "python:3", "code": code}})
    assert answer.status == 400, answer.body
    assert text in answer.json["error"]
    assert (await cluster.client.call("GET", "actions/bad")).status == 404


async def test_a_truncated_zip_is_refused(cluster) -> None:
    raw = base64.b64decode(archive(("__main__.py", CODE * 100)))
    for cut in (raw[:-30], raw[: len(raw) // 2], raw[:60] + b"\xff" + raw[61:]):
        code = base64.b64encode(cut).decode()
        answer = await cluster.client.call("PUT", "actions/bad", {"exec": {"kind": "python:3", "code": code}})
        assert answer.status == 400, answer.body


GOOD = {"exec": {"kind": "python:3", "code": CODE}}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "exec undefined"),
        ({"exec": ""}, "exec must be an object"),
        (
            {"exec": {"kind": "foobar", "code": "x"}},
            "'foobar' is not supported by this platform. Valid values are: 'py",
        ),
        ({"exec": {"kind": "python:3", "code": 5}}, "'code' must be a string"),
        ({**GOOD, "parameters": {"a": 1}}, "parameters must be an array"),
        ({**GOOD, "limits": {"memory": 64}}, "memory size 64 MB below allowed threshold of 128 MB"),
        ({**GOOD, "limits": {"memory": 9999}}, "memory size 9999 MB exceeds allowed threshold of 2048 MB"),
        ({**GOOD, "limits": {"timeout": 300001}}, "duration 300001 milliseconds exceeds allowed threshold of 300000"),
        ({**GOOD, "limits": {"logs": 11}}, "log size 11 MB exceeds"),
        ({**GOOD, "limits": {"concurrency": 2}}, "concurrency 2 exceeds"),
        ({**GOOD, "limits": {"memory": True}}, "whole number"),
        ({**GOOD, "version": "1"}, "version must be"),
        ({**GOOD, "annotations": [{"key": "long", "value": "yes"}]}, "'long' must be true or false"),
        ({**GOOD, "parameters": [{"key": "a", "value": 1, "init": 1}]}, "'init' of a parameter must be true or false"),
        ([1], "Object expected"),
    ],
)
async def test_bad_documents(cluster, body, text) -> None:
    answer = await cluster.client.call("PUT", "actions/bad", body)
    assert answer.status == 400, answer.body
    assert text in answer.json["error"]


async def test_a_blackbox_has_an_image_and_perhaps_code(cluster) -> None:
    call = cluster.client.call
    box = {"exec": {"kind": "blackbox", "image": "some/image:1"}}
    refused = await call("PUT", "actions/box", box)
    assert (refused.status, "'blackbox' is not supported" in refused.json["error"]) == (400, True)
    await cluster.join("h1", runtimes=["python:3", "blackbox"])
    made = await call("PUT", "actions/box", box)
    assert made.json["exec"] == {"kind": "blackbox", "binary": False, "image": "some/image:1"}
    assert {"key": "exec", "value": "blackbox"} in made.json["annotations"]
    elf = base64.b64encode(b"\x7fELF, no archive at all").decode()
    body = {"exec": {"kind": "blackbox", "image": "other/image", "code": elf, "main": "go"}}
    changed = await call("PUT", "actions/box?overwrite=true", body)
    assert changed.json["exec"] == {
        "kind": "blackbox", "binary": True, "image": "other/image", "code": elf, "main": "go",
    }  # fmt: skip
    back = await call("PUT", "actions/box?overwrite=true", {"exec": {"kind": "python:3", "code": CODE}})
    assert back.json["exec"] == {"kind": "python:3", "binary": False, "code": CODE}
    assert "blackbox" not in (await call("GET", "/", auth=None)).json["runtimes"]


@pytest.mark.parametrize("image", [None, "", 5, "a/Upper", "a b", "x:", "x@sha256:12", "-x", "a" * 600, "x\ny"])
async def test_what_is_no_image(cluster, image) -> None:
    await cluster.join("h1", runtimes=["python:3", "blackbox"])
    answer = await cluster.client.call("PUT", "actions/box", {"exec": {"kind": "blackbox", "image": image}})
    assert (answer.status, "'image'" in answer.json["error"]) == (400, True)


@pytest.mark.parametrize("image", ["x", "a/b", "host:5000/a/b:tag", "my.registry/a__b/c-d:1.0", "a@sha256:" + "0" * 64])
async def test_what_is_an_image(cluster, image) -> None:
    await cluster.join("h1", runtimes=["python:3", "blackbox"])
    answer = await cluster.client.call("PUT", "actions/box", {"exec": {"kind": "blackbox", "image": image}})
    assert (answer.status, answer.json["exec"]["image"]) == (200, image)


async def test_default_kinds_are_what_live_vms_offer(cluster) -> None:
    call = cluster.client.call

    async def put(kind: str) -> Any:
        answer = await call("PUT", "actions/js?overwrite=true", {"exec": {"kind": kind, "code": "x"}})
        return answer.json["exec"]["kind"] if answer.status == 200 else answer.json["error"]

    await cluster.join("h1", runtimes=["python:3", "python:3-libs"])
    for kind in ("nodejs:default", "nodejs", "nodejs:20"):
        text = f"The specified runtime '{kind}' is not supported by this platform. Valid values are: "
        assert text in await put(kind)
        assert "'python:3', 'python:3-libs'." in await put(kind)
    old = await cluster.join("h2", runtimes=["nodejs:9", "nodejs:18"])
    assert await put("nodejs:default") == "nodejs:18"
    new = await cluster.join("h3", runtimes=["nodejs:20", "nodejs:next"])
    assert [await put(kind) for kind in ("nodejs:default", "nodejs", "nodejs:18")] == [
        "nodejs:20", "nodejs:20", "nodejs:18",
    ]  # fmt: skip
    assert [await put(kind) for kind in ("python:default", "python")] == ["python:3"] * 2
    runtimes = (await call("GET", "/", auth=None)).json["runtimes"]
    assert {r["kind"]: r["default"] for r in runtimes["nodejs"]} == {
        "nodejs:18": False, "nodejs:20": True, "nodejs:9": False, "nodejs:next": False,
    }  # fmt: skip
    await new.close()
    async with asyncio.timeout(5):
        while await put("nodejs:default") != "nodejs:18":
            await asyncio.sleep(0.01)
    await old.close()
    async with asyncio.timeout(5):
        while await put("nodejs:default") != "nodejs:20":
            await asyncio.sleep(0.01)


async def test_sizes_types_and_methods(cluster) -> None:
    call = cluster.client.call
    big = await call("PUT", "actions/big", data=b"{}", headers={"Content-Type": "text/plain"})
    assert big.status == 415
    parameters = [{"key": "p", "value": "x" * (1 << 20)}]
    body = {"exec": {"kind": "python:3", "code": CODE}, "parameters": parameters}
    large = await call("PUT", "actions/big", data=io.BytesIO(json.dumps(body).encode()))
    assert (large.status, "parameters larger than allowed" in large.json["error"]) == (413, True)
    for method in ("POST", "PUT", "DELETE"):
        assert (await call(method, "actions")).status == 405
        assert (await call(method, "activations")).status == 405
    assert (await call("PATCH", "actions/x")).status == 405


async def test_hundred_megabytes_are_refused_unread(cluster) -> None:
    async def never():
        raise AssertionError("the body was asked for")
        yield b""

    answer = await cluster.client.call(
        "PUT", "actions/big", data=never(), headers={"Content-Length": str(100 << 20), "Expect": "100-continue"}
    )
    assert answer.status == 413


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("a%20b", 404),
        ("a%40b.c-d", 404),
        ("%20x", 400),
        ("x%20", 400),
        ("a%2Fb", 400),
        ("x" * 257, 400),
        ("%00", 400),
        ("%C3%A9", 400),
    ],
)
async def test_names(cluster, name, status) -> None:
    answer = await cluster.client.call("GET", f"actions/{name}")
    assert answer.status == status, answer.body


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("limit=201", "The value '201' is not in the range of 0 to 200 for actions."),
        ("limit=x", "The value 'x' is not an integer for actions."),
        ("skip=-1", "The value '-1' is not greater than or equal to 0 for actions."),
        ("count=maybe", "not a valid Boolean"),
    ],
)
async def test_list_parameters(cluster, query, text) -> None:
    answer = await cluster.client.call("GET", f"actions?{query}")
    assert answer.status == 400
    assert text in answer.json["error"]


async def test_activation_lists(cluster, until) -> None:
    await cluster.join()
    await cluster.client.put_echo("one")
    await cluster.client.put_echo("two")
    call = cluster.client.call
    ids = [(await call("POST", f"actions/{name}?blocking=true", {})).json["activationId"] for name in ("one", "two")]

    async def both():
        listed = (await call("GET", "activations")).json
        return listed if len(listed) == 2 else None

    listed = await until(both)
    assert {item["activationId"] for item in listed} == set(ids)
    assert all(item["statusCode"] == 0 and "response" not in item for item in listed)
    named = (await call("GET", "activations?name=one&docs=true")).json
    assert [(item["activationId"], item["response"]["success"]) for item in named] == [(ids[0], True)]
    assert (await call("GET", "activations?count=true")).json == {"activations": 2}
    start = max(item["start"] for item in listed)
    assert (await call("GET", f"activations?since={start + 1}")).json == []
    assert len((await call("GET", f"activations?upto={start}")).json) == 2
    assert (await call("GET", "activations?since=x")).status == 400
    assert (await call("GET", "activations?count=true&docs=true")).status == 400
    assert (await call("GET", "activations?name=a/b/c")).status == 400
    assert (await call("GET", f"activations/{ids[0]}/logs")).json == {
        "logs": ["2024-01-01T00:00:00.000000000Z stdout: hi"]
    }
    assert (await call("GET", "activations/123")).json["error"] == "Activation id length is 3 but must be 32."
    assert (await call("GET", "activations/" + "g" * 32)).status == 400
    assert (await call("GET", "activations/" + "0" * 32)).status == 404
    assert (await call("GET", f"activations/{ids[0]}/nothing")).status == 404


async def test_records_and_stories_are_the_namespaces_own(cluster, keys, until) -> None:
    await cluster.join()
    await cluster.client.put_echo()
    call = cluster.client.call
    activation_id = (await call("POST", "actions/echo?blocking=true", {})).json["activationId"]
    story = (await call("GET", f"activations/{activation_id}/why")).json
    assert [step["vm"] for step in story["steps"] if step["what"] == "placed"] == ["h1"]
    path = f"activations/{activation_id}"

    async def recorded():
        return (await call("GET", path)).status == 200

    await until(recorded)
    for route in (path, f"{path}/why", f"{path}/result", f"{path}/logs"):
        assert (await call("GET", route, auth=keys["other"])).status == 404
    assert (await cluster.admin("GET", f"why/{activation_id}")).json == story
