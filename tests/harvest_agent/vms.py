"""Real agents and fleets for tests, each in its own process, with an invoker that only starts processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from support.patience import patient

# Starts `busy` processes that compute, and one that leaves its session and loses its parent; all carry the tag.
INVOKER = """
import os, subprocess, sys, time
tag, busy = sys.argv[1], int(sys.argv[2])
for _ in range(busy):
    p = subprocess.Popen([sys.executable, "-S", "-E", "-c", "input()\\nwhile True: pass", tag], stdin=subprocess.PIPE)
    for path in filter(None, os.environ["FALLOW_CONTAINER_CGROUPS"].split(":")):
        with open(path + "/cgroup.procs", "w") as f:
            f.write(str(p.pid))
    p.stdin.write(b"\\n")
    p.stdin.flush()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, "-S", "-E", "-c", "import time; time.sleep(600)", tag, "escaped"])
    os._exit(0)
time.sleep(600)
"""


def invoker_command(folder: Path, *, busy: int = 0) -> str:
    script = folder / "invoker.py"
    script.write_text(INVOKER)
    return f"{sys.executable} -S -E {script} {folder} {busy}"


def tagged(folder: Path) -> dict[int, tuple[str, str]]:
    """Every living process of this test's VMs: pid -> (state, command line)."""
    found = {}
    for pid in (int(p) for p in os.listdir("/proc") if p.isdecimal()):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(folder) in command and state != "Z" and "harvest_agent" not in command:
            found[pid] = (state, command)
    return found


def still(folder: Path) -> list[int]:
    """Those that do not run: stopped, or frozen."""
    return [pid for pid, (state, _) in tagged(folder).items() if state in "TD" or _frozen(pid)]


def _frozen(pid: int) -> bool:
    """By version 2, whose frozen processes look as if they slept."""
    try:
        own = Path(f"/proc/{pid}/cgroup").read_text().rpartition("0::")[2].strip()
        return "frozen 1" in Path(f"/sys/fs/cgroup{own}/cgroup.events").read_text()
    except OSError:
        return False


def cgroups(pid: int) -> list[Path]:
    """The cgroup directories named after a fleet or an agent, wherever they stand."""
    return [Path(folder) for folder, _, _ in os.walk("/sys/fs/cgroup") if folder.endswith(f"/fallow-{pid}")]


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def until(condition: Any, *, within_s: float = 20.0) -> Any:
    """Polls until the condition holds; the deadline only ends a test that has failed."""
    async with asyncio.timeout(patient(within_s)):
        while not (value := condition()):
            await asyncio.sleep(0.02)
        return value


class Served:
    """A process that serves a unix socket."""

    def __init__(self, process: subprocess.Popen[bytes], path: Path) -> None:
        self.process = process
        self.pid = process.pid
        self._path = path

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        async with self.session() as session, session.request(method, f"http://x{path}", json=body) as response:
            return response.status, await response.json(content_type=None)

    def session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(self._path)))

    async def ready(self) -> None:
        def listening() -> bool:
            assert self.process.poll() is None, f"ended with {self.process.returncode}"
            with socket.socket(socket.AF_UNIX) as probe:
                return probe.connect_ex(str(self._path)) == 0

        await until(listening)

    async def ended(self, *, within_s: float = 30.0) -> int:
        await until(lambda: self.process.poll() is not None, within_s=within_s)
        assert self.process.returncode is not None
        return self.process.returncode

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()


@asynccontextmanager
async def agent(folder: Path, *, env: Mapping[str, str] | None = None, **settings: object) -> AsyncIterator[Served]:
    """`python -m harvest_agent` with these settings; killed if the test leaves it running."""
    given = {"vm_id": "h1", "link_loss_s": 0.3, "socket": folder / "a.sock", "events": folder / "events.jsonl"}
    ours = {f"FALLOW_{key.upper()}": str(value) for key, value in {**given, **settings}.items()}
    async with _served("harvest_agent", [], {**ours, **(env or {})}, folder, folder / "a.sock") as served:
        yield served


@asynccontextmanager
async def service(folder: Path, *, env: Mapping[str, str] | None = None, **settings: object) -> AsyncIterator[Served]:
    """`python -m harvest_agent.service` with these settings; ready when the service itself answers."""
    given = {"link_loss_s": 0.3, "socket": folder / "a.sock", "events": folder / "events.jsonl", "return_s": 0.1}
    ours = {f"FALLOW_{key.upper()}": str(value) for key, value in {**given, **settings}.items()}
    async with _served("harvest_agent.service", [], {**ours, **(env or {})}, folder, folder / "service.sock") as served:
        yield served


@asynccontextmanager
async def fleet(folder: Path, **config: object) -> AsyncIterator[Served]:
    given = {"run_dir": str(folder / "run"), "state_dir": str(folder / "state"), "link_loss_s": 0.3}
    (folder / "run").mkdir(exist_ok=True)
    (folder / "fleet.json").write_text(json.dumps({**given, **config}))
    arguments = ["--config", str(folder / "fleet.json")]
    async with _served("harvest_agent.fleet", arguments, {}, folder, folder / "run/fleet.sock") as served:
        yield served


def start(argv: list[str], env: dict[str, str], log_path: Path) -> subprocess.Popen[bytes]:
    with log_path.open("ab") as log:
        return subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stderr=log, start_new_session=True)


def output_of(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


@asynccontextmanager
async def _served(
    module: str, arguments: list[str], env: dict[str, str], folder: Path, path: Path
) -> AsyncIterator[Served]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("FALLOW_")}
    process = start([sys.executable, "-m", module, *arguments], {**inherited, **env}, folder / "log")
    served = Served(process, path)
    try:
        await served.ready()
        yield served
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
