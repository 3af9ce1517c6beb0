"""The agent's socket: states, silence, commands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from fallow.infra.vmstate import VmState
from invoker import agent_client
from invoker.agent_client import AgentClient


class FakeAgent:
    """Speaks as `harvest_agent` does: one state a line."""

    def __init__(self) -> None:
        self.states: asyncio.Queue[VmState | None] = asyncio.Queue()
        self.commands: list[tuple[str, dict[str, float]]] = []

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/v1/changes", self._changes)
        app.router.add_post("/v1/{verb}", self._command)
        return app

    async def _changes(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while (state := await self.states.get()) is not None:
            await answer.write(state.to_json() + b"\n")
        return answer

    async def _command(self, request: web.Request) -> web.Response:
        self.commands.append((request.match_info["verb"], await request.json()))
        if request.match_info["verb"] == "evict":
            return web.json_response({"error": "this VM is a real one"}, status=409)
        return web.Response(status=204)


def state(cores: float) -> VmState:
    return VmState(vm_id="h1", kind="harvest", cores=cores, memory_mb=1024, cpu_used=0.5, memory_used_mb=10)


@pytest.fixture
async def agent(run_dir: Path) -> AsyncIterator[FakeAgent]:
    fake = FakeAgent()
    runner = web.AppRunner(fake.app(), shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(run_dir / "agent")).start()
    yield fake
    fake.states.put_nowait(None)
    await runner.cleanup()


async def test_states_silence_and_return(agent: FakeAgent, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_client, "GONE_AFTER_S", 0.2)
    monkeypatch.setattr(agent_client, "RETRY_S", 0.01)
    states: asyncio.Queue[VmState] = asyncio.Queue()
    gone = asyncio.Event()
    client = AgentClient(socket=str(run_dir / "agent"), on_state=states.put_nowait, on_gone=gone.set)
    task = asyncio.ensure_future(client.run())
    async with asyncio.timeout(10):
        agent.states.put_nowait(state(4))
        assert (await states.get()).cores == 4
        await gone.wait()  # the stream stands, but nothing comes
        for _ in range(20):  # some go to streams that the client has given up
            agent.states.put_nowait(state(2))
        assert (await states.get()).cores == 2
    task.cancel()
    await client.close()


async def test_commands(agent: FakeAgent, run_dir: Path) -> None:
    client = AgentClient(socket=str(run_dir / "agent"), on_state=lambda _: None, on_gone=lambda: None)
    assert await client.command("resize", cores=2.0, notice_s=None) == ""
    assert await client.command("evict", cores=None, notice_s=3.0) == "this VM is a real one"
    assert agent.commands == [("resize", {"cores": 2.0}), ("evict", {"notice_s": 3.0})]
    assert "does not know" in await client.command("explode", cores=None, notice_s=None)
    await client.close()
    gone = AgentClient(socket=str(run_dir / "none"), on_state=lambda _: None, on_gone=lambda: None)
    assert "does not answer" in await gone.command("withdraw", cores=None, notice_s=None)
    await gone.close()
