"""A whole invoker against a real store and a controller that speaks the real link."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from fallow.core.model import ActionSpec, Status
from fallow.infra import codec
from fallow.infra.messages import (
    Cancel,
    CommandDone,
    Completed,
    Hello,
    Report,
    Result,
    Returned,
    VmCommand,
)
from fallow.infra.settings import InvokerSettings
from fallow.infra.store import Store
from fallow.infra.vmstate import VmState
from invoker.backends import procfs
from invoker.backends.runtimes import find_nodejs
from support.invoker_rig import WAIT_S, Controller, Serving

ECHO = b"def main(args):\n    print('said', args)\n    return args"
SLEEP = b"import time\ndef main(args):\n    time.sleep(args['s'])\n    return {}"
UNTIL = b"""import os, time
def main(args):
    while not os.path.exists(args['f']):
        time.sleep(0.01)
    return {}
"""
CRASH = b"import os\ndef main(args):\n    os._exit(1)"
ECHO_JS = b"function main(args) { return args }"


def nodejs_kind(run_dir: Path) -> str:
    [kind] = find_nodejs(run_dir)
    return kind


@pytest.fixture
async def invoker(store: Store, controller: Controller, run_dir: Path) -> AsyncIterator[Serving]:
    url: str = store.test_url  # type: ignore[attr-defined]
    serving = Serving(InvokerSettings(redis_url=url, join_secret="secret", vm_id="r1", run_dir=str(run_dir)))
    await controller.until(lambda _: bool(controller.links))
    yield serving
    assert await serving.stop() == 0


async def test_hello_says_what_the_vm_is(controller: Controller, invoker: Serving) -> None:
    hello = await controller.hear(Hello)
    assert (hello.vm_id, hello.kind, hello.runtimes[0], hello.holds) == ("r1", "regular", "python:3", [])
    assert hello.report.cores >= 1
    assert hello.report.healthy
    report = await controller.hear(Report)
    assert report.notice_left_s is None


async def test_cold_then_warm_call_with_logs_and_records(
    controller: Controller, invoker: Serving, store: Store, deploy: Callable[..., Awaitable[ActionSpec]]
) -> None:
    spec = await deploy("echo", ECHO)
    for n, cold in ((1, True), (2, False)):
        activation_id = f"{n:032x}"
        controller.run(spec, activation_id, b'{"n":1, "t": "a\\u00e9"}')
        result = await controller.hear(Result, activation_id)
        assert result.status == Status.SUCCESS
        assert json.loads(result.result) == {"n": 1, "t": "aé"}
        assert (result.init_s is not None) is cold
        assert result.cpu_s is not None
        assert result.completed, "the log is complete when the answer is"
        await controller.recorded(activation_id)
        record = await store.get_record("guest", activation_id)
        assert record is not None
        assert [line[31:] for line in record.logs] == ["stdout: said {'n': 1, 't': 'aé'}"]
        assert record.wait_ms == record.start_unix_ms - 1_700_000_000_000
        assert (record.init_ms is not None) is cold
        assert (record.vm_id, record.transaction_id) == ("r1", "t1")
        assert (record.vm_price, record.vm_speed, record.waits) == (1.0, 1.0, result.waits)
        waits = codec.decode_waits(result.waits)
        assert (waits is not None and 0 < waits.start_s <= result.wait_s) if cold else (waits is None)


@pytest.mark.parametrize("code", [ECHO, ECHO_JS], ids=["python", "nodejs"])
async def test_a_prewarmed_container_takes_the_first_call(
    store: Store, controller: Controller, deploy: Callable[..., Awaitable[ActionSpec]], run_dir: Path, code: bytes
) -> None:
    url: str = store.test_url  # type: ignore[attr-defined]
    kind = "python:3" if code is ECHO else nodejs_kind(run_dir)
    settings = InvokerSettings(
        redis_url=url, join_secret="secret", vm_id="r1", run_dir=str(run_dir), prewarm=f"{kind}=2@128"
    )
    serving = Serving(settings)
    await controller.until(lambda heard: isinstance(heard[-1], Report) if heard else False)
    async with asyncio.timeout(WAIT_S):
        while len([name for name in os.listdir(run_dir) if name.startswith("c") and name != "code"]) < 2:
            await asyncio.sleep(0.01)
    controller.run(await deploy("echo", code, kind=kind), "a" * 32)
    result = await controller.hear(Result, "a" * 32)
    assert (result.status, result.prewarmed) == (Status.SUCCESS, True)
    assert await serving.stop() == 0


async def test_idle_containers_stay_warm_beyond_what_their_limits_would_allow(
    controller: Controller, invoker: Serving, deploy: Callable[..., Awaitable[ActionSpec]]
) -> None:
    vm_mb = (await controller.hear(Report)).memory_mb
    specs = [await deploy(name, ECHO, memory_mb=int(0.7 * vm_mb)) for name in ("one", "two")]
    for n, (spec, cold) in enumerate([(specs[0], True), (specs[1], True), (specs[0], False), (specs[1], False)]):
        activation_id = f"{n:032x}"
        controller.run(spec, activation_id)
        result = await controller.hear(Result, activation_id)
        assert (result.init_s is not None) is cold
        reports = sum(isinstance(message, Report) for message in controller.heard)
        await controller.until(lambda heard, n=reports: sum(isinstance(m, Report) for m in heard) >= n + 2)  # measured


async def test_developer_errors_end_the_container(
    controller: Controller, invoker: Serving, deploy: Callable[..., Awaitable[ActionSpec]], run_dir: Path
) -> None:
    crash, slow = await deploy("crash", CRASH), await deploy("slow", SLEEP, timeout_s=0.3)
    controller.run(crash, "c" * 32)
    controller.run(slow, "d" * 32, b'{"s": 30}')
    crashed, late = await controller.hear(Result, "c" * 32), await controller.hear(Result, "d" * 32)
    assert crashed.status == late.status == Status.DEVELOPER_ERROR
    assert b"did not produce a valid response and exited unexpectedly" in crashed.result
    assert late.result == b'{"error": "The action exceeded its time limits of 300 milliseconds."}'
    assert late.timed_out
    controller.run(crash, "e" * 32)
    assert (await controller.hear(Result, "e" * 32)).init_s is not None, "a new container"


async def test_cancelled_call_frees_its_slot_and_leaves_no_record(
    controller: Controller, invoker: Serving, store: Store, deploy: Callable[..., Awaitable[ActionSpec]]
) -> None:
    spec = await deploy("slow", SLEEP)
    controller.run(spec, "a" * 32, b'{"s": 30}')
    await controller.until(lambda heard: any(isinstance(m, Report) and m.running for m in heard))
    controller.links[-1].send(Cancel(activation_id="a" * 32, attempt=1))
    used_s = (await controller.hear(Completed, "a" * 32)).cpu_s
    assert used_s is not None
    assert used_s >= 0
    await controller.until(lambda heard: isinstance(heard[-1], Report) and heard[-1].running == 0)
    assert not [m for m in controller.heard if isinstance(m, Result)]
    assert await store.get_record("guest", "a" * 32) is None


async def test_a_new_link_hears_what_is_held_and_gets_the_result(
    controller: Controller, invoker: Serving, deploy: Callable[..., Awaitable[ActionSpec]]
) -> None:
    spec = await deploy("slow", SLEEP)
    controller.run(spec, "a" * 32, b'{"s": 2}')
    await controller.until(lambda heard: any(isinstance(m, Report) and m.running for m in heard))
    await controller.links[-1].close()
    await controller.until(lambda heard: len([m for m in heard if isinstance(m, Hello)]) == 2)
    again = [m for m in controller.heard if isinstance(m, Hello)][1]
    assert [tuple(h) for h in again.holds] == [("a" * 32, 1)]
    assert (await controller.hear(Result, "a" * 32)).status == Status.SUCCESS
    await controller.recorded("a" * 32)


async def test_unknown_runtime_and_missing_code(
    controller: Controller, invoker: Serving, make_spec: Callable[..., ActionSpec]
) -> None:
    controller.run(make_spec(kind="ruby:3"), "a" * 32)
    assert (await controller.hear(Returned, "a" * 32)).reason == "runtime not offered"
    controller.run(make_spec(code_digest="0" * 64), "b" * 32)
    assert (await controller.hear(Result, "b" * 32)).status == Status.WHISK_ERROR


async def test_stop_returns_what_waits_and_lets_short_calls_end(
    controller: Controller, invoker: Serving, deploy: Callable[..., Awaitable[ActionSpec]], run_dir: Path
) -> None:
    spec = await deploy("slow", SLEEP)
    controller.run(spec, "a" * 32, b'{"s": 1}')
    await controller.until(lambda heard: any(isinstance(m, Report) and m.running for m in heard))
    assert await invoker.stop() == 0
    assert (await controller.hear(Result, "a" * 32)).status == Status.SUCCESS
    await controller.recorded("a" * 32)
    assert [name for name in os.listdir(run_dir) if name != "code"] == []


async def test_commands_without_an_agent_say_so(controller: Controller, invoker: Serving) -> None:
    controller.links[-1].send(VmCommand(command_id=7, verb="evict", notice_s=1.0))
    done = await controller.hear(CommandDone)
    assert (done.command_id, "no agent" in done.error) == (7, True)


async def invoker_process(store: Store, run_dir: Path) -> asyncio.subprocess.Process:
    url: str = store.test_url  # type: ignore[attr-defined]
    env = {
        "FALLOW_REDIS_URL": url,
        "FALLOW_JOIN_SECRET": "secret",
        "FALLOW_VM_ID": "r1",
        "FALLOW_RUN_DIR": str(run_dir),
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "invoker", env={**os.environ, **env}, stderr=asyncio.subprocess.DEVNULL
    )


@pytest.mark.parametrize("source", [ECHO, ECHO_JS], ids=["python", "nodejs"])
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)])
async def test_no_container_outlives_the_process(
    store: Store,
    controller: Controller,
    deploy: Callable[..., Awaitable[ActionSpec]],
    run_dir: Path,
    signum: signal.Signals,
    code: int,
    source: bytes,
) -> None:
    kind = "python:3" if source is ECHO else nodejs_kind(run_dir)
    process = await invoker_process(store, run_dir)
    await controller.until(lambda _: bool(controller.links))
    controller.run(await deploy("echo", source, kind=kind), "a" * 32)
    assert (await controller.hear(Result, "a" * 32)).status == Status.SUCCESS
    home = str(run_dir / "c1")
    assert procfs.members(-1, home, procfs.all_pids())
    process.send_signal(signum)
    async with asyncio.timeout(WAIT_S):
        assert await process.wait() == code
        while procfs.members(-1, home, procfs.all_pids()):
            await asyncio.sleep(0.01)


class FakeAgent:
    """One VM's agent: says the state it is given at once, then again every 100 ms."""

    def __init__(self) -> None:
        self.state = VmState(vm_id="h1", kind="harvest", cores=4, memory_mb=1024, cpu_used=0, memory_used_mb=0)

    async def changes(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(self.state.to_json() + b"\n")
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def beside(agent: FakeAgent, store: Store, controller: Controller, run_dir: Path) -> AsyncIterator[None]:
    """An invoker that follows this agent."""
    app = web.Application()
    app.router.add_get("/v1/changes", agent.changes)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.UnixSite(runner, str(run_dir / "agent")).start()
    url: str = store.test_url  # type: ignore[attr-defined]
    settings = InvokerSettings(
        redis_url=url, join_secret="secret", vm_id="h1", kind="harvest", run_dir=str(run_dir / "i"),
        agent_socket=str(run_dir / "agent"),
    )  # fmt: skip
    serving = Serving(settings)
    assert (await controller.hear(Hello)).report.cores == 4
    yield
    assert await serving.stop() == 0
    await runner.cleanup()


async def test_a_notice_drains_and_its_withdrawal_reopens(
    store: Store, controller: Controller, deploy: Callable[..., Awaitable[ActionSpec]], run_dir: Path
) -> None:
    agent = FakeAgent()
    async with beside(agent, store, controller, run_dir):
        await drain_and_reopen(agent, controller, deploy)


async def drain_and_reopen(
    agent: FakeAgent, controller: Controller, deploy: Callable[..., Awaitable[ActionSpec]]
) -> None:
    spec = await deploy("echo", ECHO)
    agent.state = replace(agent.state, cores=2, notice_left_s=5.0)
    await controller.until(lambda heard: isinstance(heard[-1], Report) and heard[-1].notice_left_s is not None)
    assert isinstance(last := controller.heard[-1], Report)
    assert last.cores == 2
    controller.run(spec, "a" * 32)
    assert (await controller.hear(Returned, "a" * 32)).reason == "draining"
    agent.state = replace(agent.state, notice_left_s=None)
    await controller.until(lambda heard: isinstance(heard[-1], Report) and heard[-1].notice_left_s is None)
    controller.run(spec, "b" * 32)
    assert (await controller.hear(Result, "b" * 32)).status == Status.SUCCESS


async def test_what_became_of_the_cores_goes_with_the_result(
    store: Store, controller: Controller, deploy: Callable[..., Awaitable[ActionSpec]], run_dir: Path
) -> None:
    agent = FakeAgent()
    agent.state = replace(agent.state, cpu_note="no cgroup may be written")
    async with beside(agent, store, controller, run_dir):
        spec = await deploy("until", UNTIL)
        end = run_dir / "end"
        controller.run(spec, "a" * 32, json.dumps({"f": str(end)}).encode())
        await controller.until(lambda heard: isinstance(heard[-1], Report) and heard[-1].running == 1)
        agent.state = replace(agent.state, cores=8)
        await controller.until(lambda heard: isinstance(heard[-1], Report) and heard[-1].cores == 8)
        agent.state = replace(agent.state, cores=1)
        await controller.until(lambda heard: isinstance(heard[-1], Report) and heard[-1].cores == 1)
        agent.state = replace(agent.state, notice_left_s=30.0)
        await controller.until(lambda heard: isinstance(heard[-1], Report) and bool(heard[-1].used_by))
        last = controller.heard[-1]
        assert isinstance(last, Report)
        ((activation_id, attempt, used_s),) = last.used_by
        assert (activation_id, attempt) == ("a" * 32, 1)
        assert used_s >= 0
        end.touch()
        result = await controller.hear(Result, "a" * 32)
        waits = codec.decode_waits(result.waits)
        assert waits is not None
        assert (waits.cores_first, waits.cores_most, waits.cores_least, waits.cores_last) == (4, 8, 1, 1)
        assert 0 < waits.shrunk_run_s <= result.run_s + (result.init_s or 0)
        assert (waits.throttled_s, waits.throttled_note) == (
            None,
            "CPU is not enforced here: no cgroup may be written",
        )
