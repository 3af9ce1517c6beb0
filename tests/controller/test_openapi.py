"""The API's document against the API: every route, method and parameter in it is there, and nothing else is."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from controller.api import admin, router
from controller.api.openapi.document import document
from controller.api.schema import Bounds

METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE")
DOCUMENT = document(Bounds(max_timeout_ms=300_000, max_memory_mb=2048))
PATHS: dict[str, dict[str, Any]] = DOCUMENT["paths"]
OPERATIONS = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, methods in PATHS.items()
    for method, operation in methods.items()
}
EXAMPLES = {"namespace": "_", "activationId": "0" * 32, "vm": "h1", "uuid": "u", "name": "n"}


def filled(path: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: EXAMPLES.get(found[1], f"some-{found[1]}"), path)


def auth(path: str, keys: dict[str, str]) -> str:
    security = next(iter(PATHS[path].values()))["security"]
    return keys["operator" if security == [{"operator": []}] else "guest"]


def resolved(value: dict[str, Any]) -> Any:
    if "$ref" not in value:
        return value
    found: Any = DOCUMENT
    for part in value["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of the document."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects(inner)


def test_it_is_what_version_3_0_allows() -> None:
    for value in objects(DOCUMENT):
        assert value.get("required") != []
        assert "$ref" not in value or list(value) == ["$ref"]
        assert not value.get("nullable") or "type" in value


def test_all_that_is_referred_to_is_there_and_all_that_is_there_is_referred_to() -> None:
    named = {value["$ref"] for value in objects(DOCUMENT) if "$ref" in value and resolved(value) is not None}
    there = {
        f"#/components/{kind}/{name}"
        for kind, parts in DOCUMENT["components"].items()
        for name in parts
        if kind != "securitySchemes"
    }
    assert there == named


def test_operations_and_their_links_have_names_of_their_own() -> None:
    assert len(OPERATIONS) == sum(map(len, PATHS.values()))
    for _, path, operation in OPERATIONS.values():
        in_path = {p["name"] for p in map(resolved, operation["parameters"]) if p["in"] == "path"}
        assert in_path == set(re.findall(r"\{(\w+)\}", path))
        for answer in map(resolved, operation["responses"].values()):
            for link in answer.get("links", {}).values():
                *_, target = OPERATIONS[link["operationId"]]
                assert set(link["parameters"]) <= {p["name"] for p in map(resolved, target["parameters"])}


async def test_each_path_has_the_methods_that_the_document_names_and_no_others(cluster, keys) -> None:
    for path, methods in PATHS.items():
        answer = await cluster.client.call("TRACE", filled(path), auth=auth(path, keys))
        if path.endswith("{package}/"):  # where OpenWhisk knows nothing else, not even that it is not allowed
            assert answer.status == 404
        else:
            assert answer.status == 405, path
            assert {m.lower() for m in answer.headers["Allow"].split(", ")} == set(methods), path


def test_the_document_names_each_path_of_the_router() -> None:
    segments = {segment for path in PATHS for segment in (path, *path.split("/"))}
    named = {
        node.value.value
        for module in (router, admin)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.MatchValue) and isinstance(node.value, ast.Constant)
    }
    assert {"/ping", "actions", "result", "resize"} <= named
    verbs = {*METHODS, "/api/v1/", ""}
    assert named - verbs <= segments


@pytest.mark.parametrize(("wrong", "kinds"), [("perhaps", ("boolean", "integer")), ("-1", ("integer",))])
async def test_each_parameter_is_read(cluster, keys, wrong: str, kinds: tuple[str, ...]) -> None:
    """By what is said of a value that it cannot have: blocking calls alone look at `timeout`."""
    await cluster.client.call("PUT", "packages/some-package", {})
    tried = 0
    for method, path, operation in OPERATIONS.values():
        for parameter in map(resolved, operation["parameters"]):
            if parameter["in"] == "query" and parameter["schema"]["type"] in kinds:
                tried += 1
                blocking = "&blocking=true" if method == "POST" and parameter["name"] == "timeout" else ""
                body = {} if method in ("PUT", "POST") else None
                target = f"{filled(path)}?{parameter['name']}={wrong}{blocking}"
                answer = await cluster.client.call(method, target, body, auth=keys["guest"])
                text = f"The query parameter '{parameter['name']}' was malformed:"
                assert (answer.status, answer.json["error"].partition("\n")[0]) == (400, text), target
    assert tried


MADE = {
    "putPackage": {},
    "putAction": {"exec": {"kind": "python:default", "code": "def main(args):\n    return args\n"}},
    "putActionInPackage": {"exec": {"kind": "sequence", "components": ["/_/some-action"]}},
    "putTrigger": {},
    "putRule": {"trigger": "/_/some-trigger", "action": "/_/some-action"},
    "invokeAction": {},
    "invokeActionInPackage": {},
    "fireTrigger": {},
}


def value(expression: str, path: dict[str, str], answer: Any) -> str:
    """What a link takes from a request or its answer."""
    source, _, name = expression.removeprefix("$").partition(".")
    where, _, what = name.partition("#/" if name.startswith("body") else ".")
    assert source in ("request", "response")
    return str({"path": path, "header": answer.headers, "body": answer.json}[where][what])


async def test_links_lead_to_what_is_there(cluster, until) -> None:
    """Those that only read: a record is there a moment after the answer."""
    await cluster.join()
    followed = set()
    for name, body in MADE.items():
        method, path, operation = OPERATIONS[name]
        where = {part: EXAMPLES.get(part, f"some-{part}") for part in re.findall(r"\{(\w+)\}", path)}
        for query in ("blocking=true", "blocking=false") if name.startswith("invoke") else ("overwrite=false",):
            answer = await cluster.client.call(method, f"{path.format(**where)}?{query}", body)
            links = resolved(operation["responses"][str(answer.status)])["links"]
            for link in links.values():
                verb, target, _ = OPERATIONS[link["operationId"]]
                at = {key: value(told, where, answer) for key, told in link["parameters"].items()}
                if verb == "GET":

                    async def read(url: str = target.format(**at)) -> bool:
                        return (await cluster.client.call("GET", url)).status == 200

                    assert await until(read)
                    followed.add(link["operationId"])
    assert followed >= {"getPackage", "listActionsOfPackage", "getRule", "getActivation", "getResult", "getLogs"}


async def test_the_document_is_served_and_names_the_limits_that_hold_here(boot) -> None:
    async with boot(max_timeout_s=7.5, max_memory_mb=1024) as cluster:
        answer = await cluster.client.call("GET", "/api/v1/api-docs", auth=None)
        limits = answer.json["components"]["schemas"]["Limits"]["properties"]
        assert (limits["timeout"]["maximum"], limits["memory"]["maximum"]) == (7500, 1024)
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


async def test_the_page_shows_every_operation_and_needs_nothing_from_elsewhere(cluster) -> None:
    answer = await cluster.client.call("GET", "/api/v1/docs", auth=None)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    shown: list[str] = []
    asks: list[tuple[str, str | None]] = []

    class Page(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            asks.extend((tag, value) for name, value in attrs if name in ("src", "href"))
            assert tag not in ("script", "link", "iframe", "img")

        def handle_data(self, data: str) -> None:
            shown.append(data)

    Page().feed(answer.body.decode())
    assert {path for _, path, _ in OPERATIONS.values()} <= set(shown)
    assert {operation["summary"] for *_, operation in OPERATIONS.values()} <= set(shown)
    named = {f"#{name}" for name in DOCUMENT["components"]["schemas"]}
    assert {value for _, value in asks} <= {*named, "api-docs"}
