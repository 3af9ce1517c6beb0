"""One VM as the fleet sees it: its agent's process, and what that agent says."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

import aiohttp

from fallow.infra import clock, tasks
from fallow.infra.log import get_logger
from fallow.infra.tasks import FatalError
from fallow.infra.vmstate import VmState
from harvest_agent.fleet_config import FleetConfig, FleetVm
from harvest_agent.processes import Child

_RETRY_S = 0.05
_PLAY_TIMEOUT_S = 5.0

_log = get_logger("harvest_agent.member")


class Phase(StrEnum):
    PLANNED = "planned"  # its life begins later
    STARTING = "starting"
    UP = "up"
    ENDED = "ended"


class Member:
    def __init__(self, vm: FleetVm, config: FleetConfig) -> None:
        self.vm = vm
        self.phase = Phase.PLANNED
        self.exit_code: int | None = None
        self.child: Child | None = None
        self._config = config
        self._dir = Path(config.run_dir) / vm.id
        self._state: VmState | None = None
        self._ends_mono_s: float | None = None  # the announced eviction, on this process's clock
        self._playing = False

    @property
    def events_path(self) -> str:
        return str(Path(self._config.state_dir) / "vms" / "events.jsonl")

    @property
    def living(self) -> bool:
        """Up or on the way there. An evicted VM that is silent but not yet killed has no life left in it."""
        over = self._ends_mono_s is not None and self._ends_mono_s <= clock.mono_s()
        return self.phase in (Phase.STARTING, Phase.UP) and not over

    def describe(self) -> dict[str, Any]:
        known: dict[str, Any] = {} if self._state is None else json.loads(self._state.to_json())
        return {**known, "id": self.vm.id, "kind": self.vm.kind, "phase": self.phase, "exit_code": self.exit_code}

    async def live(self, cgroup_root: str, *, playing: bool) -> int:
        """Starts the agent and stays with it; answers its exit code. Raises FatalError where it cannot be started."""
        self._playing = playing
        self.phase = Phase.STARTING
        child = self.child = self._start(cgroup_root)
        follower = asyncio.create_task(self._follow())
        try:
            self.exit_code = await child.wait()
        finally:
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)
        self.phase = Phase.ENDED
        return self.exit_code

    async def play(self) -> None:
        """Starts the trace, now or as soon as the agent listens."""
        self._playing = True
        if self.phase is not Phase.UP or self.vm.life is None:
            return
        try:
            async with self._session() as session, session.post("http://agent/v1/play"):
                return
        except (aiohttp.ClientError, OSError, TimeoutError) as e:
            _log.error("the trace could not be started", vm=self.vm.id, error=str(e))

    def _start(self, cgroup_root: str) -> Child:
        logs = Path(self._config.state_dir) / "logs"
        (self._dir / "run").mkdir(parents=True, exist_ok=True)
        logs.mkdir(parents=True, exist_ok=True)
        if self.vm.life is not None:
            (self._dir / "life.json").write_text(json.dumps(self.vm.life.to_json()), encoding="utf-8")
        argv = [sys.executable, "-m", "harvest_agent"]
        try:
            with (logs / f"{self.vm.id}.log").open("ab") as log:
                return Child(argv, self._env(cgroup_root), output=log)
        except OSError as e:
            raise FatalError(f"cannot start the agent of {self.vm.id}: {e}") from e

    def _env(self, cgroup_root: str) -> dict[str, str]:
        vm, config = self.vm, self._config
        settings: dict[str, object] = {
            "VM_ID": vm.id,
            "KIND": vm.kind,
            "CORES": vm.cores,
            "MEMORY_MB": vm.memory_mb,
            "SPEED": vm.speed,
            "PRICE": vm.price,
            "CORE_SCALE": config.core_scale,
            "NOTICE_S": config.notice_s,
            "LINK_LOSS_S": config.link_loss_s,
            "VM_SPEEDUP": config.vm_speedup,
            "LIFE": "" if vm.life is None else self._dir / "life.json",
            "HOLD": "false" if self._playing else "true",
            "SOCKET": self._dir / "agent.sock",
            "EVENTS": self.events_path,
            "CGROUP_ROOT": cgroup_root,
            "INVOKER": config.invoker,
            "BACKEND": config.backend,
            "RUN_DIR": self._dir / "run",  # the invoker's own: it may clear it
        }
        if config.backend == "docker":
            settings |= {"CLUSTER": config.cluster, "LEASE_DIR": Path(config.run_dir) / "leases"}
        if config.redis_url:
            settings["REDIS_URL"] = config.redis_url
        if config.join_secret:
            settings["JOIN_SECRET"] = config.join_secret
        ours = {f"FALLOW_{key}": str(value) for key, value in settings.items()}
        return {**os.environ, **config.env, **ours, tasks.PARENT_DEATH_ENV: "1"}

    async def _follow(self) -> None:
        """Keeps what the agent says of its VM, until the agent is gone."""
        while True:
            connected = False
            try:
                async with self._session(timeout_s=None) as session, session.get("http://agent/v1/changes") as response:
                    connected = True
                    await self._joined()
                    async for line in response.content:
                        self._heard(VmState.from_json(line))
            except (aiohttp.ClientError, OSError, ValueError) as e:
                if connected:
                    _log.info("the agent fell silent", vm=self.vm.id, error=str(e))
            await asyncio.sleep(_RETRY_S)

    async def _joined(self) -> None:
        self.phase = Phase.UP
        if self._playing and self._config.hold:
            await self.play()

    def _heard(self, state: VmState) -> None:
        self._state = state
        left_s = state.notice_left_s
        self._ends_mono_s = None if left_s is None else clock.mono_s() + left_s

    @asynccontextmanager
    async def _session(self, timeout_s: float | None = _PLAY_TIMEOUT_S) -> AsyncIterator[aiohttp.ClientSession]:
        connector = aiohttp.UnixConnector(path=str(self._dir / "agent.sock"))
        async with aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=timeout_s)
        ) as session:
            yield session
