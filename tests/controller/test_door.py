"""Whatever bytes come in, an answer in the API's own words goes out, and it is never the server's fault."""

from __future__ import annotations

import asyncio
import gzip
import json
from urllib.parse import urlsplit

import pytest

CODE = {"kind": "python:default", "code": "def main(args):\n    return args\n"}


async def send(cluster, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the first answer to these bytes."""
    url = urlsplit(cluster.client.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(data)
    async with asyncio.timeout(10):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await reader.readexactly(int(headers["content-length"]))
    writer.close()
    await writer.wait_closed()
    return int(head[0].split()[1]), headers, body


def post(cluster, extra: str, body: bytes = b"{}") -> bytes:
    head = (
        "POST /api/v1/namespaces/_/actions/echo?blocking=true HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: {cluster.client.auth}\r\nContent-Type: application/json\r\n{extra}\r\n"
    )
    return head.encode() + body


@pytest.mark.parametrize(
    ("extra", "body", "status"),
    [
        ("Content-Length: abc\r\n", b"{}", 400),
        ("Content-Length: -5\r\n", b"{}", 400),
        ("Content-Length: 2\r\nContent-Length: 3\r\n", b"{}", 400),
        ("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", b"2\r\n{}\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked\r\n", b"zz\r\n", 400),
        ("Transfer-Encoding: chunked\r\n", b"2\r\n{}\r\nzz\r\n", 400),
        ("Content-Length: 2\r\nContent-Encoding: gzip\r\n", b"{}", 415),
        (f"X-Long: {'a' * 20_000}\r\nContent-Length: 2\r\n", b"{}", 431),
    ],
)
async def test_broken_requests_get_json(cluster, extra, body, status) -> None:
    await cluster.client.put_echo()
    answered, headers, text = await send(cluster, post(cluster, extra, body))
    assert answered == status, text
    assert headers["content-type"] == "application/json"
    error = json.loads(text)
    assert error["error"]
    assert error["code"] == headers["x-request-id"]


async def test_a_body_that_unpacks_to_much_is_not_unpacked(cluster) -> None:
    await cluster.client.put_echo()
    packed = gzip.compress(b" " * 5_000_000 + b"{}")
    status, _, _ = await send(
        cluster, post(cluster, f"Content-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n", packed)
    )
    assert status == 415


async def test_not_http_at_all(cluster) -> None:
    status, headers, text = await send(cluster, b"\x00\x01\x02\r\n\r\n")
    assert (status, headers["content-type"]) == (400, "application/json")
    assert json.loads(text)["error"]


async def test_chunks_pipelines_and_absolute_forms_are_http(cluster) -> None:
    await cluster.join()
    await cluster.client.put_echo()
    status, _, _ = await send(cluster, post(cluster, "Transfer-Encoding: chunked\r\n", b"2\r\n{}\r\n0\r\n\r\n"))
    assert status == 200
    two = post(cluster, "Content-Length: 2\r\n") + b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"
    assert (await send(cluster, two))[0] == 200
    status, _, body = await send(cluster, b"GET http://proxied/ping HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (status, body) == (200, b"pong")


async def test_a_client_that_leaves_in_its_body_breaks_nothing(cluster) -> None:
    await cluster.client.put_echo()
    url = urlsplit(cluster.client.url)
    _, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(post(cluster, "Content-Length: 1000\r\n"))
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await cluster.client.call("GET", "actions/echo")).status == 200


@pytest.mark.parametrize("field", ["parameters", "annotations"])
async def test_what_is_stored_can_be_read_again_at_any_depth(cluster, field) -> None:
    """Nesting that the parser only just takes would fail in whoever reads it with a deeper stack."""
    await cluster.join()
    statuses = set()
    for depth in (100, 800, *range(860, 1000, 3), 100_000):
        body = json.dumps({"exec": CODE, field: [{"key": "deep", "value": 0}]})
        body = body.replace('"value": 0', '"value":' + "[" * depth + "]" * depth)
        put = await cluster.client.call("PUT", "actions/deep?overwrite=true", data=body.encode())
        statuses.add(put.status)
        assert put.status in (200, 400), (depth, put.body[:200])
    assert statuses == {200, 400}
    assert (await cluster.client.call("GET", "actions/deep")).status == 200
    assert (await cluster.client.call("POST", "actions/deep?blocking=true", {"a": 1})).status == 200


async def test_values_that_json_or_utf8_cannot_say(cluster) -> None:
    invoker = await cluster.join()
    endless = b'{"exec":{"kind":"python:3","code":"x=1"},"parameters":[{"key":"a","value":1e999}]}'
    assert (await cluster.client.call("PUT", "actions/inf", data=endless)).status == 400
    assert (await cluster.client.call("GET", "actions/inf")).status == 404
    odd = [{"key": "lone", "value": "\ud800"}, {"key": "huge", "value": 10**40}]
    put = await cluster.client.put_echo("odd", parameters=odd, annotations=odd)
    assert put.status == 200
    assert put.json["parameters"] == odd
    called = await cluster.client.call("POST", "actions/odd?blocking=true&result=true", {"b": "é"})
    assert called.status == 200, called.body
    assert json.loads(invoker.runs[0].args.decode("utf-8")) == {"lone": "\ud800", "huge": 10**40, "b": "é"}
    assert (await cluster.client.call("POST", "actions/odd?blocking=true", data=b'{"b":1e999}')).status == 400
