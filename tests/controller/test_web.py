"""Web actions over HTTP: who may call them, what they are told, what is answered."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest

from fallow.core.model import Status
from support.functions import functions

WEB = "/api/v1/web/guest"
EXPORT = {"web-export": True, "final": True}


async def put(cluster: Any, name: str = "page", *, parameters: Any = (), **annotations: Any) -> None:
    noted = {**EXPORT, **{key.replace("_", "-"): value for key, value in annotations.items()}}
    answer = await cluster.client.put_echo(
        name,
        annotations=[{"key": key, "value": value} for key, value in noted.items()],
        parameters=list(parameters),
    )
    assert answer.status == 200, answer.body


async def get(cluster: Any, path: str, method: str = "GET", **more: Any) -> Any:
    return await cluster.client.call(method, f"{WEB}/{path}", **{"auth": None, **more})


async def test_anybody_is_answered(cluster: Any) -> None:
    invoker = await cluster.join(behaviour=functions(page=lambda a: {"body": f"hello {a.get('name')}"}))
    await put(cluster)
    answer = await get(cluster, "default/page?name=you")
    assert (answer.status, answer.body) == (200, b"hello you")
    assert answer.headers["Content-Type"] == "text/html; charset=UTF-8"
    assert answer.headers["X-Openwhisk-Activation-Id"] == invoker.runs[0].activation_id
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Access-Control-Allow-Methods"] == "OPTIONS, GET, DELETE, POST, PUT, HEAD, PATCH"
    told = json.loads(invoker.runs[0].args)
    assert (told["__ow_method"], told["__ow_path"], told["name"]) == ("get", "", "you")
    assert "__ow_user" not in told
    assert invoker.runs[0].subject == "guest"


async def test_packages_extensions_and_paths(cluster: Any) -> None:
    invoker = await cluster.join()
    await cluster.client.call("PUT", "packages/pkg", {"parameters": [{"key": "p", "value": 1}]})
    await put(cluster, "pkg/my.page")
    answer = await get(cluster, "pkg/my.page.json/a%20b/c?x=1", auth="")
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "application/json"
    assert (answer.json["p"], answer.json["x"], answer.json["__ow_path"]) == (1, "1", "/a b/c")
    assert answer.json["__ow_user"] == "guest"
    assert answer.body.startswith(b"{\n")
    assert json.loads(invoker.runs[0].args)["__ow_headers"]["authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    "path",
    [
        "default/none",
        "default/private",
        "none/page",
        "default/page.xyz",
        "default",
        "",
        "default/page%2Fx",
        "../other/default/page",
    ],
)
async def test_what_is_not_exported_is_not_there(cluster: Any, path: str) -> None:
    await put(cluster)
    await cluster.client.put_echo("private")
    answer = await get(cluster, path)
    assert (answer.status, answer.json["error"]) == (404, "The requested resource does not exist.")
    foreign = await cluster.client.call("GET", "/api/v1/web/nobody/default/page", auth=None)
    assert foreign.status == 404


async def test_bodies(cluster: Any) -> None:
    await cluster.join()
    await put(cluster, parameters=[{"key": "open", "value": None}, {"key": "fixed", "value": 1}])
    json_body = await get(cluster, "default/page.json?a=1", "POST", body={"a": 2})
    assert json_body.json["a"] == 2
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    formed = await get(cluster, "default/page.json?a=1", "PUT", data=b"b=2", headers=form)
    assert (formed.json["a"], formed.json["b"], formed.json["__ow_method"]) == ("1", "2", "put")
    for query in ("fixed=2", "__ow_method=x"):
        refused = await get(cluster, f"default/page.json?{query}")
        assert refused.status == 400
        assert "not allowed" in refused.json["error"]
    assert (await get(cluster, "default/page.json?open=2")).json["open"] == "2"
    assert (await get(cluster, "default/page", "POST", data=b"{")).status == 400
    assert (await get(cluster, "default/page", "POST", data=io.BytesIO(b" " * ((1 << 20) + 1)))).status == 413


async def test_raw_http(cluster: Any) -> None:
    await cluster.join()
    await put(cluster, raw_http=True, parameters=[{"key": "p", "value": 1}])
    answer = await get(cluster, "default/page.json?a=1&__ow_method=x", "POST", body={"p": 2})
    assert answer.json["__ow_query"] == "a=1&__ow_method=x"
    assert base64.b64decode(answer.json["__ow_body"]) == b'{"p": 2}'
    assert answer.json["p"] == 1
    assert "a" not in answer.json


async def test_errors_of_the_action(cluster: Any) -> None:
    await cluster.join(behaviour=functions(page=lambda a: {"error": {"statusCode": 418, "body": "tea"}}))
    await put(cluster)
    answer = await get(cluster, "default/page")
    assert (answer.status, answer.body) == (418, b"tea")
    assert len(answer.headers["X-Openwhisk-Activation-Id"]) == 32


@pytest.mark.parametrize("status", [Status.DEVELOPER_ERROR, Status.WHISK_ERROR])
async def test_errors_that_are_not_the_actions_to_show(cluster: Any, status: Status) -> None:
    await cluster.join(behaviour=lambda invoker, run: invoker.finish(run, b'{"error":"secret"}', status))
    await put(cluster)
    answer = await get(cluster, "default/page.json")
    assert (answer.status, answer.json["error"]) == (400, "There was an error processing your request.")
    assert set(answer.json) == {"error", "code"}


@pytest.mark.parametrize("body", ["[" * 5000 + "]" * 5000, "1" * 5000])
async def test_results_that_cannot_be_shown(cluster: Any, body: str) -> None:
    await cluster.join(behaviour=lambda invoker, run: invoker.finish(run, f'{{"body":{body}}}'.encode()))
    await put(cluster)
    answer = await get(cluster, "default/page")
    assert answer.status == 400
    assert (await get(cluster, "default/page.svg")).json["error"] == "There was an error processing your request."


async def test_a_number_that_nothing_can_hold(cluster: Any) -> None:
    await cluster.join(behaviour=lambda invoker, run: invoker.finish(run, b'{"body":' + b"9" * 5000 + b"}"))
    await put(cluster)
    assert (await get(cluster, "default/page")).status == 400


async def test_accept_is_heard(cluster: Any) -> None:
    await cluster.join(behaviour=functions(page=lambda a: {"body": "<b>"}))
    await put(cluster)
    answer = await get(cluster, "default/page.html", headers={"Accept": "application/json"})
    assert answer.status == 406
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert (await get(cluster, "default/page.html", headers={"Accept": "text/*"})).status == 200
    assert (await get(cluster, "default/page", headers={"Accept": "application/json"})).status == 200


async def test_credentials_and_secrets(cluster: Any) -> None:
    await cluster.join(behaviour=functions())
    await put(cluster, "users", require_whisk_auth=True)
    await put(cluster, "secret", require_whisk_auth="s3cret")
    await put(cluster, "number", require_whisk_auth=123)
    await put(cluster)
    assert (await get(cluster, "default/users.json")).status == 401
    wrong = "Basic " + base64.b64encode(b"a:b").decode()
    denied = await get(cluster, "default/users.json", auth=wrong)
    assert (denied.status, denied.headers["WWW-Authenticate"][:5]) == (401, "Basic")
    assert (await get(cluster, "default/users.json", auth="")).json["__ow_user"] == "guest"
    for name, value in (("secret", "s3cret"), ("number", "123")):
        for given, status in ((None, 401), ("x", 401), (value, 200)):
            headers = {} if given is None else {"X-Require-Whisk-Auth": given}
            assert (await get(cluster, f"default/{name}.json", headers=headers)).status == status
    for nothing in ("", [], {"a": 1}):
        await put(cluster, "odd", require_whisk_auth=nothing)
        assert (await get(cluster, "default/odd.json")).status == 401
    ignored = await get(cluster, "default/page.json", auth=wrong)
    assert ignored.status == 200
    assert "__ow_user" not in ignored.json


async def test_another_namespaces_key_is_not_the_actions_to_see(cluster: Any, keys: dict[str, str]) -> None:
    await cluster.join()
    await put(cluster)
    own = await get(cluster, "default/page.json", auth="")
    assert own.json["__ow_headers"]["authorization"] == keys["guest"]
    other = await get(cluster, "default/page.json", auth=keys["other"])
    assert other.json["__ow_user"] == "other"
    assert "authorization" not in other.json["__ow_headers"]


async def test_options(cluster: Any) -> None:
    invoker = await cluster.join(behaviour=functions(own=lambda a: {"headers": {"x-own": "1"}}))
    await put(cluster, require_whisk_auth=True)
    asked = {"Access-Control-Request-Headers": "X-Mine"}
    answer = await get(cluster, "default/page", "OPTIONS", headers=asked)
    assert (answer.status, answer.body, invoker.runs) == (200, b"", [])
    assert answer.headers["Access-Control-Allow-Headers"] == "X-Mine"
    await put(cluster, "own", web_custom_options=True, require_whisk_auth=True)
    custom = await get(cluster, "default/own", "OPTIONS")
    assert (custom.status, custom.headers["x-own"]) == (204, "1")
    assert "Access-Control-Allow-Origin" not in custom.headers
    assert (await get(cluster, "default/none", "OPTIONS")).status == 404


async def test_head_and_other_methods(cluster: Any) -> None:
    await cluster.join(behaviour=functions(page=lambda a: {"body": a["__ow_method"], "headers": {"x-a": "1"}}))
    await put(cluster)
    head = await get(cluster, "default/page", "HEAD")
    assert (head.status, head.body, head.headers["x-a"]) == (200, b"", "1")
    for method in ("PATCH", "DELETE"):
        assert (await get(cluster, "default/page", method)).body == method.lower().encode()
    assert (await get(cluster, "default/page", "PROPFIND")).status == 405


async def test_repeated_headers_and_own_cors(cluster: Any) -> None:
    headers = {"Set-Cookie": ["a=1", "b=2"], "access-control-allow-origin": "https://x"}
    await cluster.join(behaviour=functions(page=lambda a: {"headers": headers, "body": "x"}))
    await put(cluster)
    async with cluster.client.session.get(f"{cluster.client.url}{WEB}/default/page") as response:
        assert response.headers.getall("Set-Cookie") == ["a=1", "b=2"]
        assert response.headers.getall("Access-Control-Allow-Origin") == ["https://x"]


async def test_a_sequence_answers(cluster: Any) -> None:
    await cluster.join(behaviour=functions(one=lambda a: {"n": 1}, two=lambda a: {"body": f"{a['n'] + 1}"}))
    await cluster.client.put_echo("one")
    await cluster.client.put_echo("two")
    body = {
        "exec": {"kind": "sequence", "components": ["/_/one", "/_/two"]},
        "annotations": [{"key": "web-export", "value": True}],
    }
    await cluster.client.call("PUT", "actions/s", body)
    assert (await get(cluster, "default/s")).body == b"2"


async def test_a_slow_action_is_not_waited_for(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.api.web.MAX_BLOCKING_MS", 50)
    invoker = await cluster.join(behaviour=lambda invoker, run: None)
    await put(cluster)
    answer = await get(cluster, "default/page")
    assert (answer.status, answer.json["error"]) == (202, "Response not yet ready.")
    assert answer.headers["X-Openwhisk-Activation-Id"] == invoker.runs[0].activation_id
    invoker.finish(invoker.runs[0], b"{}")
