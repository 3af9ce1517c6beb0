"""What becomes of an action's result under each extension, and of a request as arguments."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.api.errors import ApiError
from controller.api.web_context import RESERVED, WebRequest, arguments, raw_arguments
from controller.api.web_projection import EXTENSIONS, Projection, accepts, project

PNG = b"\x89PNG\r\n\x1a\n\x00"
HTML = "text/html; charset=UTF-8"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
HTTP_LIKE = st.fixed_dictionaries(
    {},
    optional={
        "statusCode": JSON | st.integers(0, 1200) | st.sampled_from(["404", " 200", "9e9"]),
        "headers": JSON
        | st.dictionaries(st.text(max_size=12), JSON, max_size=4)
        | st.dictionaries(st.sampled_from(["Content-Type", "x-a", "Set-Cookie"]), JSON | st.text(), max_size=3),
        "body": JSON,
    },
)


def show(extension: str, result: Any, *, error: bool = False) -> tuple[int, bytes, str | None]:
    found = project(EXTENSIONS[extension], result, error=error)
    return found.status, found.body, found.content_type


def refused(extension: str, result: Any, *, error: bool = False) -> tuple[int, str]:
    with pytest.raises(ApiError) as e:
        project(EXTENSIONS[extension], result, error=error)
    return e.value.status, e.value.text


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        ({}, (204, b"", None)),
        ({"statusCode": 200, "body": ""}, (200, b"", None)),
        ({"statusCode": 444, "body": None}, (444, b"", None)),
        ({"body": "hi"}, (200, b"hi", HTML)),
        ({"statusCode": "418", "body": "tea"}, (418, b"tea", HTML)),
        ({"statusCode": 302.0, "headers": {"location": "/x"}}, (302, b"", None)),
        ({"body": {"a": 1}}, (200, b'{\n  "a": 1\n}', "application/json")),
        ({"body": [1, 2]}, (200, b"[\n  1,\n  2\n]", "application/json")),
        ({"body": 3}, (200, b"3", "application/json")),
        ({"body": False}, (200, b"false", "application/json")),
        (
            {"body": {"a": 1}, "headers": {"Content-Type": "application/vnd.x+json"}},
            (200, b'{\n  "a": 1\n}', "application/vnd.x+json"),
        ),
        ({"body": base64.b64encode(PNG).decode(), "headers": {"content-type": "image/png"}}, (200, PNG, "image/png")),
        (
            {"body": base64.b64encode(b'{"a":1}').decode(), "headers": {"content-type": "application/json"}},
            (200, b'{"a":1}', "application/json"),
        ),
        ({"body": '{"a": 1}', "headers": {"content-type": "application/json"}}, (200, b'{"a": 1}', "application/json")),
        ({"body": "a", "headers": {"content-type": "text/plain"}}, (200, b"a", "text/plain")),
    ],
)
def test_http_results(result: Any, shown: Any) -> None:
    assert show("http", result) == shown


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ([], "Response is not valid 'message/http'."),
        ({"statusCode": "x"}, "Response is not valid 'message/http'."),
        ({"statusCode": 99}, "Response is not valid 'message/http'."),
        ({"statusCode": 100}, "Response is not valid 'message/http'."),
        ({"statusCode": 1000}, "Response is not valid 'message/http'."),
        ({"statusCode": True}, "Response is not valid 'message/http'."),
        ({"statusCode": 200.5}, "Response is not valid 'message/http'."),
        ({"headers": []}, "Response is not valid 'message/http'."),
        ({"headers": {"a": {}}}, "Response is not valid 'message/http'."),
        ({"headers": {"a": "x\r\nSet-Cookie: y"}}, "Response is not valid 'message/http'."),
        ({"headers": {"a b": "x"}}, "Response is not valid 'message/http'."),
        ({"headers": {"a\r\n": "x"}}, "Response is not valid 'message/http'."),
        ({"body": "no base64", "headers": {"content-type": "image/png"}}, "Response is not valid 'message/http'."),
        ({"body": "x", "headers": {"content-type": "xyz"}}, "Response did not specify a known content-type."),
        (
            {"body": {"a": 1}, "headers": {"content-type": "text/html"}},
            "Response type in header did not match generated content type.",
        ),
    ],
)
def test_what_is_no_http_result(result: Any, text: str) -> None:
    assert refused("http", result) == (400, text)


def test_headers_of_a_result() -> None:
    headers = {"Set-Cookie": ["a=1", "b=2"], "x-n": 3, "x-b": True, "Content-Length": 99, "Transfer-Encoding": "x"}
    found = project(EXTENSIONS["http"], {"headers": headers, "body": "x"}, error=False)
    assert list(found.headers) == [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("x-n", "3"), ("x-b", "true")]


def test_the_other_extensions() -> None:
    assert show("json", {"a": 1}) == (200, b'{\n  "a": 1\n}', "application/json")
    assert show("json", []) == (200, b"[]", "application/json")
    assert show("html", {"html": "<b>"}) == (200, b"<b>", HTML)
    assert show("html", {"body": "<i>", "html": "<b>"}) == (200, b"<i>", HTML)
    assert show("svg", {"body": "<svg/>"}) == (200, b"<svg/>", "image/svg+xml")
    assert show("text", {"text": "a"}) == (200, b"a", "text/plain; charset=UTF-8")
    assert show("text", {"text": [1]})[1] == b"[\n  1\n]"
    assert refused("json", 3) == (400, "Response is not valid 'application/json'.")
    assert refused("html", {"html": 3}) == (400, "Response is not valid 'text/html'.")
    assert refused("html", {}) == (400, "Response is not valid 'text/html'.")
    assert refused("svg", {"a": 1}) == (400, "Response is not valid 'image/svg+xml'.")
    assert refused("text", {"a": 1}) == (404, "Response does not include requested property.")


def test_an_error_is_shown_in_the_results_place() -> None:
    assert show("http", {"error": {"statusCode": 418, "body": "tea"}}, error=True)[:2] == (418, b"tea")
    assert show("json", {"error": {"a": 1}}, error=True)[0] == 200
    assert show("text", {"error": "boom"}, error=True)[1] == b"boom"
    assert refused("http", {"error": "boom"}, error=True) == (400, "Response is not valid 'message/http'.")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(EXTENSIONS)), JSON | HTTP_LIKE, st.booleans())
def test_every_result_is_an_answer_or_a_refusal(extension: str, result: Any, error: bool) -> None:
    try:
        found = project(EXTENSIONS[extension], result, error=error)
    except ApiError as refusal:
        found = Projection(status=refusal.status, content_type="application/json", body=b"{}")
    assert 200 <= found.status <= 599
    assert isinstance(found.body, bytes)
    assert (found.content_type is None) == (found.body == b"") or found.content_type
    for name, value in (*found.headers, ("content-type", found.content_type or "")):
        assert "\r" not in name + value
        assert "\n" not in name + value
        name.encode("ascii")
        value.encode()


def request(body: bytes = b"", content_type: str | None = None, query: str = "", **more: Any) -> WebRequest:
    headers = {"content-type": content_type} if content_type else {}
    return WebRequest(method="POST", headers=headers, path="", query=query, body=body, **more)


NONE: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("body", "content_type", "given"),
    [
        (b"", "application/json", {}),
        (b'{"a":2,"c":null}', "application/json", {"a": 2, "c": None}),
        (b"[1]", "application/json; charset=utf-8", {"__ow_body": [1]}),
        (b"3", "application/x+json", {"__ow_body": 3}),
        (b"a=2&c=x%20y&c=z", "application/x-www-form-urlencoded", {"a": "2", "c": "z"}),
        ("gr\u00fc\u00df".encode(), "text/plain", {"__ow_body": "gr\u00fc\u00df"}),
        (b"<x/>", "application/xml", {"__ow_body": "<x/>"}),
        (PNG, "image/png", {"__ow_body": base64.b64encode(PNG).decode()}),
        (b"x", None, {"__ow_body": base64.b64encode(b"x").decode()}),
    ],
)
def test_bodies_and_queries_are_arguments(body: bytes, content_type: str | None, given: dict[str, Any]) -> None:
    found = arguments(request(body, content_type, "a=1&b=&a=9", user="guest"), NONE)
    assert found.pop("__ow_method") == "post"
    assert found.pop("__ow_user") == "guest"
    assert found.pop("__ow_path") == ""
    assert found.pop("__ow_headers") == ({"content-type": content_type} if content_type else {})
    assert found == {"a": "9", "b": "", **given}


def test_raw_requests_come_as_they_are() -> None:
    found = raw_arguments(request(b'{"a":1}', "application/json", "a=1&a=2"))
    assert found["__ow_body"] == base64.b64encode(b'{"a":1}').decode()
    assert found["__ow_query"] == "a=1&a=2"
    assert "a" not in found
    assert raw_arguments(request(b"a=1", "application/x-www-form-urlencoded"))["__ow_body"] == "a=1"
    assert raw_arguments(request())["__ow_body"] == ""


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_reserved_and_final_names_are_refused(name: str) -> None:
    for sent in (request(query=f"{name}=1"), request(json.dumps({name: 1}).encode(), "application/json")):
        with pytest.raises(ApiError) as e:
            arguments(sent, NONE)
        assert e.value.status == 400
        assert "not allowed" in e.value.text
    with pytest.raises(ApiError):
        arguments(request(query="a=1"), frozenset({"a"}))


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=60) | JSON.map(lambda v: json.dumps(v).encode()),
    st.sampled_from(["application/json", "text/plain", "image/png", "application/x-www-form-urlencoded", "x", ""])
    | st.text(max_size=20),
    st.text(max_size=40),
)
def test_every_request_is_arguments_or_a_refusal(body: bytes, content_type: str, query: str) -> None:
    sent = request(body, content_type, query)
    raw = raw_arguments(sent)
    assert isinstance(raw["__ow_body"], str)
    refused_with = None
    try:
        json.dumps(arguments(sent, NONE))
    except ApiError as refusal:
        refused_with = refusal.status
    assert refused_with in (None, 400)


def test_accept_headers() -> None:
    for accept in ("", "*/*", "text/*", "text/html", "text/plain, text/html;q=0.1", "nonsense", "a/b, */*;q=0.1"):
        assert accepts(accept, "text/html")
    for accept in ("application/json", "text/html;q=0, */*", "image/*, text/plain"):
        assert not accepts(accept, "text/html")
