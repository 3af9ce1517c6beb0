"""A real cluster for a test: `fallow up` as a user starts it, in its own process."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from support.patience import patient

ACTIONS = Path(__file__).parents[2] / "functions" / "actions"


@dataclass
class Up:
    """A running `fallow up` with a client for its first controller."""

    process: asyncio.subprocess.Process
    ready: dict[str, Any]
    state_dir: Path
    session: aiohttp.ClientSession
    deployed: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        return str(self.ready["url"])

    async def deploy(self, name: str, source: str | None = None, **fields: Any) -> None:
        """PUT the action, from functions/actions/<name>.py if no source is given; annotations and limits as dicts."""
        code = source if source is not None else (ACTIONS / f"{name}.py").read_text()
        document: dict[str, Any] = {"exec": {"kind": "python:default", "code": code}}
        if "annotations" in fields:
            document["annotations"] = [{"key": k, "value": v} for k, v in fields.pop("annotations").items()]
        if "limits" in fields:
            document["limits"] = fields.pop("limits")
        path = f"{self.url}/api/v1/namespaces/_/actions/{fields.pop('as_name', name)}?overwrite=true"
        assert not fields
        async with self.session.put(path, json=document) as r:
            assert r.status == 200, await r.text()

    async def invoke(
        self, name: str, args: dict[str, Any] | None = None, *, blocking: bool = True, url: str = "", **query: str
    ) -> tuple[int, dict[str, Any]]:
        """Status and body of one invocation."""
        path = f"{url or self.url}/api/v1/namespaces/_/actions/{name}"
        params = {"blocking": "true" if blocking else "false", **query}
        async with self.session.post(path, params=params, json=args or {}) as r:
            return r.status, await r.json()

    async def record(self, activation_id: str, *, within_s: float = 30.0, url: str = "") -> dict[str, Any]:
        """The final record, as soon as it stands."""
        path = f"{url or self.url}/api/v1/namespaces/_/activations/{activation_id}"
        async with asyncio.timeout(patient(within_s)):
            while True:
                async with self.session.get(path) as r:
                    if r.status == 200:
                        return dict(await r.json())
                await asyncio.sleep(0.1)

    async def admin(self, method: str, path: str, document: Any = None, *, url: str = "") -> Any:
        key = (self.state_dir / "operator.key").read_text().strip()
        headers = {"Authorization": "Basic " + base64.b64encode(key.encode()).decode()}
        async with self.session.request(method, (url or self.url) + path, json=document, headers=headers) as r:
            assert r.status < 300, (r.status, await r.text())
            return await r.json() if r.content_type == "application/json" else None

    async def vms(self) -> dict[str, dict[str, Any]]:
        return {vm["id"]: vm for vm in (await self.admin("GET", "/admin/v1/vms"))["vms"]}

    async def until(self, condition: Any, *, within_s: float = 20.0) -> Any:
        """Poll an async condition until it is true and return it."""
        async with asyncio.timeout(patient(within_s)):
            while not (value := await condition()):
                await asyncio.sleep(0.05)
            return value


def basic(key: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(key.encode()).decode()}


@contextlib.asynccontextmanager
async def cluster_up(folder: Path, *args: str) -> AsyncIterator[Up]:
    """`fallow up` with these arguments, stopped by SIGTERM; it must end with status 0."""
    state_dir = folder / "state"
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "fallow"),
        *("up", "--port", "0", "--json", "--state-dir", str(state_dir), *args),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        assert line, "fallow up ended before it was ready"
        ready = json.loads(line)
        timeout = aiohttp.ClientTimeout(total=90)
        async with aiohttp.ClientSession(headers=basic(ready["key"]), timeout=timeout) as session:
            yield Up(process=process, ready=ready, state_dir=state_dir, session=session)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(ProcessLookupError):
            await asyncio.wait_for(process.wait(), 60)


def processes_with(text: str) -> list[int]:
    """Pids of live processes whose command line or environment names `text`."""
    found = []
    for pid in (int(p) for p in os.listdir("/proc") if p.isdigit()):
        if pid == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if text.encode() in Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes():
                found.append(pid)
    return found
