"""`fallow key` and `fallow limits` against a real controller."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable

import pytest
from click.testing import CliRunner

from fallow_cli.errors import CliError
from fallow_cli.main import cli


@pytest.fixture
def fallow(cluster, keys, monkeypatch) -> Callable[..., Awaitable[str]]:
    """Runs the command as the operator, in a thread, since it brings its own loop; gives what it prints."""
    monkeypatch.setenv("FALLOW_URL", cluster.client.url)
    monkeypatch.setenv("FALLOW_OPERATOR_AUTH", base64.b64decode(keys["operator"].split()[1]).decode())

    async def run(*args: str) -> str:
        result = await asyncio.to_thread(CliRunner().invoke, cli, args)
        if result.exit_code:
            raise CliError(result.output)
        return result.output

    return run


async def test_a_key_is_created_listed_and_revoked(cluster, fallow) -> None:
    key = (await fallow("key", "create", "ann", "--subject", "Ann", "--right", "read")).strip()
    auth = "Basic " + base64.b64encode(key.encode()).decode()
    assert (await cluster.client.call("GET", "/api/v1/namespaces", auth=auth)).json == ["ann"]
    uuid = key.partition(":")[0]
    assert f"{uuid}  ann  Ann  only READ\n" in await fallow("key", "list")
    assert uuid in {each["uuid"] for each in json.loads(await fallow("key", "list", "--json"))}
    assert await fallow("key", "revoke", uuid) == f"{uuid} is revoked\n"
    assert (await cluster.client.call("GET", "/api/v1/namespaces", auth=auth)).status == 401
    with pytest.raises(CliError, match="There is no key"):
        await fallow("key", "revoke", uuid)
    with pytest.raises(CliError, match="illegal characters"):
        await fallow("key", "create", "a:b")


async def test_limits_are_shown_set_and_unset(fallow) -> None:
    given = ("--invocations-per-minute", "9", "--fires-per-minute", "0")
    shown = json.loads(await fallow("limits", "set", "guest", *given, "--json"))
    assert shown["set"] == ["invocations_per_minute", "fires_per_minute"]
    lines = (await fallow("limits", "get", "guest")).splitlines()
    assert [line.split() for line in lines] == [
        ["invocations-per-minute", "9", "set"],
        ["concurrent-invocations", "20000", "default"],
        ["fires-per-minute", "0", "set"],
    ]
    shown = json.loads(await fallow("limits", "unset", "guest", "fires-per-minute", "--json"))
    assert shown["set"] == ["invocations_per_minute"]
    assert json.loads(await fallow("limits", "unset", "guest", "--json"))["set"] == []
