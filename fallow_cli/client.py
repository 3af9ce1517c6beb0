"""HTTP to a running cluster: which server, whose key, and every failure as one CliError."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from fallow.core.model import VmKind
from fallow.core.names import natural_key
from fallow_cli.errors import CliError
from fallow_cli.state import StateDir, default_state_dir

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server and a key to use there; `origin` says in words where they came from."""

    urls: tuple[str, ...]
    key: str
    origin: str

    @property
    def url(self) -> str:
        return self.urls[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        try:
            return json.loads(self.body or b"null")
        except ValueError:
            raise CliError(f"the server's answer is no JSON (HTTP {self.status}); is that a Fallow server?") from None


def _wskprops() -> dict[str, str]:
    path = Path(os.environ.get("WSK_CONFIG_FILE") or Path.home() / ".wskprops")
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def tenant_target(state_dir: Path | None = None) -> Target:
    """FALLOW_URL and FALLOW_AUTH, else what the last `up` wrote, else ~/.wskprops. Raises CliError if there is none.

    The key that belongs to FALLOW_URL may stand in the state folder: so it is inside a service of a cluster.
    """
    url, key = os.environ.get("FALLOW_URL"), os.environ.get("FALLOW_AUTH") or _kept_key("guest")
    if url and key:
        return Target(urls=(url.rstrip("/"),), key=key, origin="FALLOW_URL")
    running = StateDir(state_dir or default_state_dir()).read_cluster()
    if running is not None:
        urls = (url.rstrip("/"),) if url else tuple(running.urls)
        return Target(urls=urls, key=key or running.key, origin="the running cluster")
    props = _wskprops()
    host, auth = url or props.get("APIHOST"), key or props.get("AUTH")
    if host and auth:
        return Target(
            urls=((host if "://" in host else f"https://{host}").rstrip("/"),), key=auth, origin="~/.wskprops"
        )
    raise CliError("no cluster is known here\nstart one with `fallow up`, or set FALLOW_URL and FALLOW_AUTH")


def _kept_key(name: str) -> str | None:
    """Of the cluster whose state folder FALLOW_STATE_DIR names, where FALLOW_URL says that it is no local one."""
    folder = os.environ.get("FALLOW_STATE_DIR") if os.environ.get("FALLOW_URL") else None
    return StateDir(Path(folder)).known_secret(name) if folder else None


def operator_target(state_dir: Path | None = None) -> Target:
    """The running cluster with its operator key (FALLOW_URL with FALLOW_OPERATOR_AUTH for another)."""
    url, key = os.environ.get("FALLOW_URL"), os.environ.get("FALLOW_OPERATOR_AUTH") or _kept_key("operator")
    if url and key:
        return Target(urls=(url.rstrip("/"),), key=key, origin="FALLOW_URL")
    running = StateDir(state_dir or default_state_dir()).read_cluster()
    if running is None:
        raise CliError(
            "no local cluster is running\nstart one with `fallow up`, or set FALLOW_URL and FALLOW_OPERATOR_AUTH"
        )
    return Target(urls=tuple(running.urls), key=running.operator_key, origin="the running cluster")


class Client:
    """One server, one key. Use as an async context manager."""

    def __init__(self, target: Target, *, timeout_s: float = 75.0, connections: int = 100) -> None:
        self.target = target
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Client:
        token = base64.b64encode(self.target.key.encode()).decode()
        self._session = aiohttp.ClientSession(
            timeout=self._timeout,
            headers={"Authorization": f"Basic {token}"},
            connector=aiohttp.TCPConnector(limit=self._connections),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        query: Mapping[str, str] | None = None,
        url: str = "",
    ) -> Answer:
        """Raises CliError where the server cannot be reached; any HTTP status is an Answer."""
        assert self._session is not None
        headers = {"Content-Type": "application/json"} if body is not None else {}
        base = url or self.target.url
        try:
            async with self._session.request(method, base + path, data=body, params=query, headers=headers) as r:
                return Answer(status=r.status, headers=r.headers, body=await r.read())
        except aiohttp.InvalidURL:
            raise CliError(f"{base!r} is not a URL\nset FALLOW_URL to something like http://127.0.0.1:3233") from None
        except (aiohttp.ClientError, OSError) as e:
            raise CliError(
                f"cannot reach {base} ({self.target.origin}): {e}\nis the cluster up? try `fallow status`"
            ) from None
        except TimeoutError:
            raise CliError(f"{base} did not answer in {self._timeout.total:.0f} s") from None

    async def call(
        self,
        method: str,
        path: str,
        *,
        document: object = None,
        query: Mapping[str, str] | None = None,
        url: str = "",
    ) -> Any:
        """Send a JSON document, return the answer's. Raises CliError with the server's words on any status >= 400."""
        body = None if document is None else json.dumps(document).encode()
        answer = await self.request(method, path, body=body, query=query, url=url)
        if answer.status >= 400:
            raise CliError(server_words(answer))
        return answer.json() if answer.body else None


def server_words(answer: Answer) -> str:
    """The server's own error text, with the code a person may quote to an operator."""
    try:
        document = json.loads(answer.body)
        return f"{document['error']} (HTTP {answer.status}, code {document.get('code', '-')})"
    except (ValueError, KeyError, TypeError):
        return f"the server answered HTTP {answer.status}"


def with_client(target: Target, work: Callable[[Client], Awaitable[T]], *, timeout_s: float = 75.0) -> T:
    """Run one piece of work against the target and return what it returns."""

    async def main() -> T:
        async with Client(target, timeout_s=timeout_s) as client:
            return await work(client)

    return asyncio.run(main())


async def list_vms(client: Client) -> list[dict[str, Any]]:
    """Every VM, regular ones first, then in natural order of ids: h2 before h10."""
    document = await client.call("GET", "/admin/v1/vms")
    vms: list[dict[str, Any]] = document["vms"]
    return sorted(vms, key=lambda vm: (vm["kind"] != VmKind.REGULAR, natural_key(vm["id"])))
