"""What a client learns before it calls, what an operator asks, and the headers of every answer."""

from __future__ import annotations

import asyncio
import io
import json
import re
import socket
import sys
import tarfile
from pathlib import Path

import aiohttp
import pytest

NAMESPACES = "/api/v1/namespaces"
METHODS = "GET, DELETE, POST, PUT, HEAD"


@pytest.mark.parametrize("path", [NAMESPACES, f"{NAMESPACES}/nobody/nothing/at/all", f"{NAMESPACES}/_/actions/x/y/z"])
async def test_credentials_come_before_paths(cluster, path) -> None:
    for auth, text in (
        (None, "The resource requires authentication, which was not supplied with the request"),
        ("Basic bm9ib2R5OndyaXRlcw==", "The supplied authentication is invalid"),
        ("Bearer x", "The supplied authentication is invalid"),
        ("Basic ???", "The supplied authentication is invalid"),
    ):
        answer = await cluster.client.call("GET", path, auth=auth)
        assert (answer.status, answer.json["error"]) == (401, text)
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="OpenWhisk secure realm"'


async def test_unknown_paths_below_a_namespace_are_not_found_once_known(cluster) -> None:
    for path in (f"{NAMESPACES}/_/nothing", f"{NAMESPACES}/_"):
        assert (await cluster.client.call("GET", path)).status == 404


@pytest.mark.parametrize(
    ("method", "path", "resource"),
    [
        ("GET", "actions", "other"),
        ("GET", "actions/x", "other/x"),
        ("PUT", "actions/x", "other/x"),
        ("DELETE", "actions/x", "other/x"),
        ("POST", "actions/x", "other/x"),
        ("GET", "activations", "other"),
        ("GET", "limits", "other"),
    ],
)
async def test_other_namespaces_are_closed(cluster, method, path, resource) -> None:
    for namespace, named in (("other", resource), ("nobody", resource.replace("other", "nobody"))):
        answer = await cluster.client.call(method, f"{NAMESPACES}/{namespace}/{path}", {} if method == "PUT" else None)
        assert answer.status == 403
        assert answer.json["error"] == f"The supplied authentication is not authorized to access '{named}'."


@pytest.mark.parametrize(
    "path", ["/", "/ping", "/api/v1", "/api/v1/", NAMESPACES, f"{NAMESPACES}/_/actions/none", "/nowhere", "/metrics"]
)
async def test_every_answer_carries_an_id_and_lets_browsers_in(cluster, path) -> None:
    client = cluster.client
    given = await client.call("GET", path, headers={"X-Request-ID": "mine-1", "X-OW-EXTRA-LOGGING": "on"})
    assert given.headers["X-Request-ID"] == "mine-1"
    reserved = await client.call("GET", path, headers={"X-Request-ID": "sid_mine"})
    own = await client.call("GET", f"{path}?")
    for answer in (reserved, own):
        assert re.fullmatch("[A-Za-z0-9]{32}", answer.headers["X-Request-ID"])
    for answer in (given, reserved, own):
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.headers["Access-Control-Allow-Methods"] == METHODS
        assert answer.headers["Access-Control-Allow-Headers"].startswith("Authorization, Origin, X-Requested-With")
        if answer.status >= 400:
            assert set(answer.json) == {"error", "code"}
            assert answer.json["code"] == answer.headers["X-Request-ID"]
    preflight = await client.call("OPTIONS", path, auth=None)
    assert (preflight.status, preflight.headers["Access-Control-Allow-Methods"]) == (200, METHODS)


async def test_service_and_api_describe_themselves(cluster) -> None:
    await cluster.join()
    service = (await cluster.client.call("GET", "/", auth=None)).json
    assert set(service) == {"description", "support", "api_paths", "limits", "runtimes"}
    assert (service["description"], service["api_paths"], set(service["support"])) == (
        "OpenWhisk", ["/api/v1"], {"github", "slack"},
    )  # fmt: skip
    bounded = {f"{kind}_action_{what}" for kind in ("min", "max") for what in ("duration", "memory", "logs")}
    assert set(service["limits"]) == {
        "actions_per_minute", "triggers_per_minute", "concurrent_actions", "sequence_length",
        *bounded, *(f"default_{name}" for name in bounded),
    }  # fmt: skip
    assert all(type(limit) is int for limit in service["limits"].values())
    (kind, *_) = service["runtimes"]["python"]
    assert set(kind) == {"kind", "image", "deprecated", "default", "attached", "requireMain"}
    api = (await cluster.client.call("GET", "/api/v1", auth=None)).json
    assert set(api) == {"description", "api_version", "api_version_path", "build", "buildno", "swagger_paths"}
    assert (api["description"], api["api_version"], api["api_version_path"]) == ("OpenWhisk API", "1.0.0", "v1")
    assert api["swagger_paths"] == {"ui": "/docs", "api-docs": "/api-docs"}


async def test_namespace_limits_have_openwhisks_names(cluster) -> None:
    assert set((await cluster.client.call("GET", "limits")).json) == {
        "invocationsPerMinute", "concurrentInvocations", "firesPerMinute", "minActionMemory", "maxActionMemory",
        "minActionLogs", "maxActionLogs", "minActionTimeout", "maxActionTimeout", "minActionConcurrency",
        "maxActionConcurrency", "maxParameterSize", "maxActionInstances",
    }  # fmt: skip
    assert (await cluster.client.call("PUT", "limits", {})).status == 405


async def test_a_disabled_controller_ends_what_runs_and_takes_nothing_new(cluster, keys) -> None:
    held = asyncio.Event()

    async def late(invoker, run) -> None:
        await held.wait()
        invoker.finish(run, run.args)

    invoker = await cluster.join(behaviour=late)
    await cluster.client.put_echo()
    await cluster.client.call("PUT", "triggers/t", {})
    await cluster.client.call("PUT", "rules/r", {"trigger": "/_/t", "action": "/_/echo"})
    call = asyncio.ensure_future(cluster.client.call("POST", "actions/echo?blocking=true&result=true", {"n": 1}))
    (run,) = await invoker.got(1)
    base = cluster.controller.link_url.replace("ws://", "http://").removesuffix("/link")
    async with aiohttp.ClientSession() as session:

        async def internal(path: str):
            async with session.get(base + path) as response:
                return response.status, await response.json()

        assert await internal("/activation") == (200, [[run.activation_id, "guest/echo"]])
        assert await internal("/activation/count") == (200, 1)
        assert await internal("/invokers/healthy/count") == (200, 1)
        assert await internal("/invokers/ready") == (200, {"healthy": "1/1"})
        for auth in (None, keys["guest"]):
            assert (await cluster.client.call("POST", "/disable", auth=auth)).status == 401
        assert (await cluster.client.call("GET", "/disable", auth=keys["operator"])).status == 405
        assert (await cluster.client.call("POST", "/disable", auth=keys["operator"])).status == 200
        assert (await internal("/ready"))[0] == 503
        refused = await cluster.client.call("POST", "actions/echo")
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        assert (await cluster.client.call("POST", "triggers/t")).status == 503
        assert (await cluster.client.call("GET", "actions/echo")).status == 200
        held.set()
        assert (await call).json == {"n": 1}
        assert await internal("/activation/count") == (200, 0)
    again = await cluster.client.call("POST", "/disable", auth=keys["operator"])
    assert (again.status, again.body) == (200, b"controller already disabled")


async def test_the_skeleton_of_a_blackbox_runs(cluster, tmp_path: Path) -> None:
    packed = await cluster.client.call("GET", "/blackbox.tar.gz", auth=None)
    assert packed.status == 200
    with tarfile.open(fileobj=io.BytesIO(packed.body)) as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / "dockerSkeleton"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(folder / "server.py"),
        env={"PORT": str(port), "PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with aiohttp.ClientSession() as session:

            async def post(path: str, body: object) -> tuple[int, object]:
                for _ in range(500):
                    try:
                        async with session.post(f"http://127.0.0.1:{port}{path}", data=json.dumps(body)) as response:
                            return response.status, await response.json()
                    except aiohttp.ClientConnectorError:
                        await asyncio.sleep(0.02)
                raise TimeoutError

            assert await post("/init", {"value": {}}) == (200, {"ok": True})
            run = {"value": {"a": 1}, "namespace": "guest"}
            assert await post("/run", run) == (200, {"msg": "Hello from a blackbox", "args": {"a": 1}})
            script = '#!/bin/sh\necho log\necho "{\\"ns\\": \\"$__OW_NAMESPACE\\"}"\n'
            assert await post("/init", {"value": {"code": script, "binary": False}}) == (200, {"ok": True})
            assert await post("/run", run) == (200, {"ns": "guest"})
            await post("/init", {"value": {"code": "#!/bin/sh\necho no object\n"}})
            assert await post("/run", run) == (502, {"error": "The action did not return a dictionary."})
    finally:
        process.terminate()
        out, err = await process.communicate()
    end = b"XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX"
    assert out.split() == [end, b"log", end, end]
    assert err.count(end) == 3
