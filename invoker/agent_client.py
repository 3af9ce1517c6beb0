"""Follows the VM's agent on its unix socket: what the VM is now, and what is about to happen to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import aiohttp

from fallow.infra import clock
from fallow.infra.log import get_logger
from fallow.infra.vmstate import VmState

GONE_AFTER_S = 3.0  # an agent that says nothing for so long is gone: it speaks every second
RETRY_S = 0.25
COMMAND_TIMEOUT_S = 10.0

log = get_logger("invoker.agent")


class AgentClient:
    """`on_state` gets every state the agent sends, `on_gone` is called once when it has been silent for 3 s."""

    def __init__(self, *, socket: str, on_state: Callable[[VmState], None], on_gone: Callable[[], None]) -> None:
        self._on_state = on_state
        self._on_gone = on_gone
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path=socket), timeout=aiohttp.ClientTimeout(total=None)
        )
        self._heard_mono_s = clock.mono_s()
        self._gone = False

    async def run(self) -> None:
        """Follow for ever, reconnecting."""
        while True:
            try:
                await self._follow()
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as e:
                log.info("agent_unreachable", error=str(e) or type(e).__name__)
            if not self._gone and clock.mono_s() - self._heard_mono_s > GONE_AFTER_S:
                self._gone = True
                self._on_gone()
            await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=1.0, sock_read=GONE_AFTER_S)
        async with self._session.get("http://agent/v1/changes", timeout=timeout) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                state = VmState.from_json(line)
                self._heard_mono_s = clock.mono_s()
                self._gone = False
                self._on_state(state)

    async def command(self, verb: str, *, cores: float | None, notice_s: float | None) -> str:
        """Pass an operator's wish on. Returns "" or why it was refused, in words."""
        bodies: dict[str, dict[str, float]] = {
            "resize": {} if cores is None else {"cores": cores},
            "evict": {} if notice_s is None else {"notice_s": notice_s},
            "withdraw": {},
        }
        if verb not in bodies:
            return f"this VM does not know the command {verb!r}"
        try:
            async with (
                asyncio.timeout(COMMAND_TIMEOUT_S),
                self._session.post(f"http://agent/v1/{verb}", json=bodies[verb]) as answer,
            ):
                return "" if answer.status < 300 else _error_of(await answer.read(), answer.status)
        except (aiohttp.ClientError, OSError) as e:
            return f"the VM's agent does not answer: {e}"
        except TimeoutError:
            return f"the VM's agent did not answer within {COMMAND_TIMEOUT_S:g} s"

    async def close(self) -> None:
        await self._session.close()


def _error_of(body: bytes, status: int) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return f"the VM's agent answered {status}"
