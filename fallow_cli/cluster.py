"""A local cluster: Redis, controllers, and the fleet with its VMs, as child processes of this one.

`LocalCluster` starts them in order, waits until every VM has joined, and stops all of it whatever happens: each child
dies with its parent (PR_SET_PDEATHSIG), the fleet ends its VMs, a VM's agent ends its invoker and containers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import sys
import tempfile
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fallow.core.monitor import CORES_PER_VM
from fallow.infra import tenant_keys
from fallow.infra.clock import mono_s
from fallow.infra.redis_server import RedisServer, RedisServerError, start_redis
from fallow.infra.settings import RESERVED_ENV
from fallow_cli.client import Client, Target, list_vms
from fallow_cli.cluster_plan import ClusterPlan
from fallow_cli.errors import CliError
from fallow_cli.machine import free_ports
from fallow_cli.options import check_settings, harvest_price
from fallow_cli.state import RunningCluster, StateDir, guest_key

DOCKER = "docker"
READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0  # a fleet gives its agents 20 s where an engine has containers to remove
MAX_RESTARTS = 5  # of controllers, within RESTART_WINDOW_S
RESTART_WINDOW_S = 60.0


class LocalCluster:
    """Starts and stops one cluster from a state folder. Use `start()` and, in a finally, `stop()`."""

    def __init__(self, plan: ClusterPlan, state: StateDir) -> None:
        self.plan = plan
        self.state = state
        self.run_dir = Path()
        self.urls: list[str] = []
        self.key = ""
        self.operator_key = ""
        self.redis: RedisServer | None = None
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._ports: list[int] = []
        self._common_env: dict[str, str] = {}

    @property
    def tenant(self) -> Target:
        return Target(urls=tuple(self.urls), key=self.key, origin="this cluster")

    @property
    def operator(self) -> Target:
        return Target(urls=tuple(self.urls), key=self.operator_key, origin="this cluster")

    @property
    def fleet_socket(self) -> Path:
        return self.run_dir / "fleet.sock"

    async def start(self) -> None:
        """Returns when the API answers and every VM that lives from the start has joined. Raises CliError."""
        check_settings(self.plan.config)
        if self.plan.runtime == DOCKER:
            from fallow_cli.docker import check_docker  # the SDK takes a while to import

            await check_docker(self.plan.config)
        self.state.prepare()
        self.state.lock()
        self._clear_leftovers()
        ports = free_ports(self.plan.port, self.plan.controllers)
        self.run_dir = Path(tempfile.mkdtemp(prefix="fallow-", dir="/tmp"))
        self.key, self.operator_key = self._guest_key(), self.state.secret("operator")
        try:
            self.redis = await start_redis(
                state_dir=self.state.path,
                run_dir=self.run_dir,
                url=self.plan.redis_url,
                durability=self.plan.durability,
            )
        except RedisServerError as e:
            raise CliError(str(e)) from None
        secret = secrets.token_urlsafe(32)
        self._ports = ports
        common = {
            "FALLOW_REDIS_URL": self.redis.url,
            "FALLOW_JOIN_SECRET": secret,
            **_given(log_level=self.plan.log_level, config=self.plan.config),
        }
        self._common_env = common
        for number, port in enumerate(ports):
            self.urls.append(f"http://127.0.0.1:{port}")
            await self._spawn_controller(number)
        # At the same time: a VM whose invoker is up before any controller looks for one until there is.
        config = self.run_dir / "fleet.json"
        config.write_text(json.dumps(self._fleet_config(self.redis.url, secret)))
        await self._spawn("fleet", ["-m", "harvest_agent.fleet", "--config", str(config)], common)
        await self._wait_for_api()
        await self._wait_for_vms()
        self.state.write_cluster(self._description())

    def _guest_key(self) -> str:
        """Raises CliError for a key that everybody knows, unless it is wanted."""
        if self.plan.openwhisk_guest_key:
            return tenant_keys.OPENWHISK_GUEST
        return guest_key(self.state)

    def _clear_leftovers(self) -> None:
        """The run folder of a cluster that was killed with this state folder; the lock says that it is gone."""
        before = self.state.read_cluster()
        if before is not None and Path(before.run_dir).name.startswith("fallow-"):
            shutil.rmtree(before.run_dir, ignore_errors=True)
        self.state.clear_cluster()

    def _controller_env(self, number: int, port: int) -> dict[str, str]:
        plan = self.plan
        return {
            "FALLOW_CONTROLLER_ID": f"c{number}-{uuid.uuid4().hex[:8]}",
            "FALLOW_PORT": str(port),
            "FALLOW_OPERATOR_KEY": self.operator_key,
            "FALLOW_GRACE_S": str(plan.notice_s),
            "FALLOW_MONITOR_PERIOD_S": str(plan.monitor_period_s),
            "FALLOW_PROVIDER_URL": f"unix://{self.fleet_socket}",
            **_given(
                policy=plan.policy,
                strategy=plan.strategy,
                seed=plan.seed,
                target_cores=plan.target_cores,
                limits=plan.limits,
                allow_well_known_keys=plan.openwhisk_guest_key or None,
            ),
        }

    def _fleet_config(self, redis_url: str, secret: str) -> dict[str, Any]:
        plan = self.plan
        return {
            "vms": [
                {
                    "id": vm.id,
                    "kind": vm.kind,
                    "cores": vm.cores,
                    "memory_mb": vm.memory_mb,
                    "speed": vm.speed,
                    "price": vm.price,
                    "life": vm.life,
                }
                for vm in plan.vms
            ],
            "backend": plan.runtime,
            "cluster": self.state.private("cluster", lambda: secrets.token_hex(4)) if plan.runtime == DOCKER else "",
            "core_scale": plan.core_scale,
            "notice_s": plan.notice_s,
            "vm_speedup": plan.vm_speedup,
            "hold": plan.hold,
            "run_dir": str(self.run_dir),
            "state_dir": str(self.state.path),
            "redis_url": redis_url,
            "join_secret": secret,
            "env": {"FALLOW_KEEP_ALIVE_S": str(plan.keep_alive_s)},
            "provider": {
                "cores": CORES_PER_VM,
                "memory_mb": plan.provider_memory_mb,
                "max_vms": max(plan.provider_max_vms, 1),
                "price": harvest_price(CORES_PER_VM),
            },
        }

    async def _spawn_controller(self, number: int) -> None:
        env = self._common_env | self._controller_env(number, self._ports[number])
        await self._spawn(f"controller-{number}", ["-m", "controller"], env)

    async def _spawn(self, name: str, args: list[str], env: dict[str, str]) -> None:
        own = RESERVED_ENV - {"FALLOW_CONFIG"}
        inherited = {k: v for k, v in os.environ.items() if k not in own}
        again = name in self._processes
        with (self.state.path / "logs" / f"{name}.log").open("ab" if again else "wb") as log:
            self._processes[name] = await asyncio.create_subprocess_exec(
                sys.executable,
                *args,
                env={**inherited, **env, "FALLOW_PARENT_DEATH": "1"},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C at the terminal reaches `up` alone, which stops the rest in order
            )

    async def _wait_for_api(self) -> None:
        deadline = mono_s() + READY_TIMEOUT_S
        for number, url in enumerate(self.urls):
            target = Target(urls=(url,), key=self.operator_key, origin="this cluster")
            async with Client(target, timeout_s=5.0) as client:
                while True:
                    self._check_alive()
                    with contextlib.suppress(CliError):
                        await client.call("PUT", "/admin/v1/keys", document={"namespace": "guest", "key": self.key})
                        break
                    if mono_s() > deadline:
                        raise CliError(self._last_words(f"controller-{number}", "did not become ready"))
                    await asyncio.sleep(0.05)

    async def _wait_for_vms(self) -> None:
        expected = {vm.id for vm in self.plan.vms if vm.life is None or vm.life.get("join_s", 0) <= 0}
        deadline = mono_s() + READY_TIMEOUT_S
        for url in self.urls:
            target = Target(urls=(url,), key=self.operator_key, origin="this cluster")
            async with Client(target, timeout_s=5.0) as client:
                while missing := expected - {vm["id"] for vm in await list_vms(client) if vm["usable"]}:
                    self._check_alive()
                    if mono_s() > deadline:
                        raise CliError(
                            f"these VMs did not join within {READY_TIMEOUT_S:.0f} s: {', '.join(sorted(missing))}\n"
                            f"their logs are in {self.state.path / 'logs'}"
                        )
                    await asyncio.sleep(0.05)

    def _check_alive(self) -> None:
        for name, process in self._processes.items():
            if process.returncode is not None:
                raise CliError(self._last_words(name, f"ended with status {process.returncode}"))

    def _last_words(self, name: str, what: str) -> str:
        path = self.state.path / ("redis/redis.log" if name == "redis" else f"logs/{name}.log")
        lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
        return f"{name} {what}\n{lines[-1][:300] if lines else 'it said nothing'}\nits log is {path}"

    def _description(self) -> RunningCluster:
        return RunningCluster(
            urls=self.urls,
            key=self.key,
            operator_key=self.operator_key,
            pid=os.getpid(),
            run_dir=str(self.run_dir),
            fleet_socket=str(self.fleet_socket),
            processes={name: p.pid for name, p in self._processes.items()},
        )

    async def watch(self, on_restart: Callable[[str], None]) -> str:
        """Start controllers that end by themselves again, telling `on_restart`; returns, with a sentence about it, when
        something ends that cannot be started again (Redis, the fleet) or a controller does so too often."""
        restarts: deque[float] = deque(maxlen=MAX_RESTARTS)
        while True:
            name = await self._first_to_end()
            words = self._last_words(name, "ended by itself")
            too_often = len(restarts) == MAX_RESTARTS and mono_s() - restarts[0] < RESTART_WINDOW_S
            if not name.startswith("controller-") or too_often:
                return words
            restarts.append(mono_s())
            on_restart(words)
            await self._spawn_controller(int(name.removeprefix("controller-")))
            self.state.write_cluster(self._description())

    async def _first_to_end(self) -> str:
        assert self.redis is not None
        waits = {asyncio.create_task(p.wait()): name for name, p in self._processes.items()}
        if self.redis.pid is not None:
            waits[asyncio.create_task(self.redis.wait())] = "redis"
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return waits[next(iter(done))]
        finally:
            for task in waits:
                task.cancel()

    def processes(self) -> dict[str, int]:
        """Name -> pid of the processes this one started."""
        return {name: p.pid for name, p in self._processes.items()}

    async def stop(self) -> None:
        """Stop everything in order: controllers drain, the fleet ends its VMs, Redis goes last. Never raises."""
        if not self.state.locked:
            return  # the folder was refused: what is in it is another cluster's
        self.state.clear_cluster()
        controllers = [p for name, p in self._processes.items() if name.startswith("controller")]
        await asyncio.gather(*(end(p) for p in controllers))
        await asyncio.gather(*(end(p) for p in self._processes.values()))
        if self.redis is not None:
            await self.redis.stop()
        if self.run_dir != Path():
            shutil.rmtree(self.run_dir, ignore_errors=True)
        self.state.unlock()


def _given(**values: object) -> dict[str, str]:
    """FALLOW_* variables of what was given (not None)."""
    return {f"FALLOW_{key.upper()}": str(value) for key, value in values.items() if value is not None}


async def end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, then SIGKILL to what does not end within STOP_TIMEOUT_S."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
