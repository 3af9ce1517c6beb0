"""A real controller on loopback ports, a real Redis, and an invoker that speaks the real link but runs nothing."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from controller.app import Controller
from fallow.core.model import ActionSpec, Status
from fallow.infra import codec
from fallow.infra.clock import unix_ms
from fallow.infra.link import Link, dial
from fallow.infra.messages import (
    Cancel,
    CommandDone,
    Completed,
    Hello,
    Message,
    Recorded,
    Rejected,
    Report,
    Result,
    Returned,
    Run,
    VmCommand,
    Welcome,
)
from fallow.infra.records import Record
from fallow.infra.redis_server import start_redis
from fallow.infra.settings import ControllerSettings
from fallow.infra.store import Store, WriteVerdict

KEY = "23bc46b1-71f6-4ed5-8c54-816aa4f8c502:123zO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP"
OTHER_KEY = "789c46b1-71f6-4ed5-8c54-816aa4f8c502:abczO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP"
OPERATOR_KEY = "00000000-0000-4000-8000-000000000000:opszO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP"
SECRET = "join-secret"
WAIT_S = 10.0  # the most a test waits for something that happens at once or never


def basic(key: str) -> str:
    return "Basic " + base64.b64encode(key.encode()).decode()


async def eventually(check: Callable[[], Awaitable[Any]]) -> Any:
    """Waits until `check` gives something true, and gives that."""
    async with asyncio.timeout(WAIT_S):
        while not (found := await check()):
            await asyncio.sleep(0.01)
    return found


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """Speaks HTTP to one controller as the guest."""

    session: aiohttp.ClientSession
    url: str
    auth: str = basic(KEY)

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        data: Any = None,
        headers: dict[str, str] | None = None,
        auth: str | None = "",
    ) -> Answer:
        """`path` under /api/v1/namespaces/_ unless it starts with a slash. `auth` None sends none."""
        url = self.url + (path if path.startswith("/") else f"/api/v1/namespaces/_/{path}")
        all_headers = {"Content-Type": "application/json"} if body is not None or data is not None else {}
        if auth is not None:
            all_headers["Authorization"] = auth or self.auth
        all_headers.update(headers or {})
        sent = json.dumps(body).encode() if body is not None else data
        async with self.session.request(method, url, data=sent, headers=all_headers) as response:
            return Answer(response.status, dict(response.headers), await response.read())

    async def put_echo(self, name: str = "echo", **more: Any) -> Answer:
        body = {"exec": {"kind": "python:default", "code": "def main(args):\n    return args\n"}, **more}
        return await self.call("PUT", f"actions/{name}?overwrite=true", body)


Behaviour = Callable[["FakeInvoker", Run], Awaitable[None] | None]


def echo(invoker: FakeInvoker, run: Run) -> None:
    invoker.finish(run, run.args)


@dataclass
class FakeInvoker:
    """Answers Run messages as `behaviour` says, and writes records as an invoker would."""

    link: Link
    store: Store
    vm_id: str
    behaviour: Behaviour = echo
    runs: list[Run] = field(default_factory=list)
    cancels: list[Cancel] = field(default_factory=list)
    commands: list[VmCommand] = field(default_factory=list)
    welcome: Welcome | None = None
    verdicts: list[WriteVerdict] = field(default_factory=list)
    records: bool = True  # write records and confirm them
    command_error: str = ""
    report: Report = field(
        default_factory=lambda: Report(cores=4.0, memory_mb=4096.0, cpu_used=0.0, memory_used_mb=0.0)
    )
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def finish(self, run: Run, result: bytes, status: Status = Status.SUCCESS, **more: Any) -> None:
        now = unix_ms()
        message = Result(
            activation_id=run.activation_id,
            attempt=run.attempt,
            status=status,
            result=result,
            start_unix_ms=now,
            end_unix_ms=now + 3,
            wait_s=0.001,
            init_s=0.02 if run.seq == 1 else None,
            run_s=0.003,
            cpu_s=0.001,
            completed=True,
        )
        message = replace(message, **more)
        self.link.send(message)
        if self.records:
            self._spawn(self.record(run, message))

    async def record(self, run: Run, result: Result) -> None:
        spec = codec.decode_action(run.action)
        record = record_of(spec, run, result, self.vm_id)
        self.verdicts += await self.store.write_records([record])
        self.link.send(Recorded(activation_ids=[run.activation_id]))

    def give_back(self, run: Run, reason: str) -> None:
        self.link.send(Returned(activation_id=run.activation_id, attempt=run.attempt, reason=reason))

    async def got(self, count: int) -> list[Run]:
        """Waits until so many Run messages came."""
        async with asyncio.timeout(WAIT_S):
            while len(self.runs) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.runs

    async def serve(self, ready: asyncio.Event) -> None:
        async for messages in self.link:
            for message in messages:
                await self._take(message)
            if self.welcome is not None:
                ready.set()

    async def _take(self, message: Message) -> None:
        match message:
            case Welcome():
                self.welcome = message
            case Run():
                self.runs.append(message)
                self._arrived.set()
                pending = self.behaviour(self, message)
                if pending is not None:
                    self._spawn(pending)
            case Cancel():
                self.cancels.append(message)
                self.link.send(Completed(activation_id=message.activation_id, attempt=message.attempt))
            case VmCommand():
                self.commands.append(message)
                self.link.send(CommandDone(command_id=message.command_id, error=self.command_error))
            case Rejected():
                raise AssertionError(message.reason)
            case _:
                raise AssertionError(f"unexpected {message}")

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        await self.link.close()
        if self._tasks:
            await asyncio.wait(set(self._tasks))


def record_of(spec: ActionSpec, run: Run, result: Result, vm_id: str) -> Record:
    return Record(
        activation_id=run.activation_id,
        namespace=spec.caller_namespace,
        action_namespace=spec.namespace if spec.caller else "",
        binding=spec.binding,
        cause=run.cause,
        caused_by=run.caused_by,
        name=spec.name,
        version=spec.version,
        subject=run.subject,
        attempt=run.attempt,
        start_unix_ms=result.start_unix_ms,
        end_unix_ms=result.end_unix_ms,
        status=result.status,
        result=result.result,
        logs=["2024-01-01T00:00:00.000000000Z stdout: hi"],
        kind=spec.kind,
        timeout_ms=round(spec.timeout_s * 1000),
        memory_mb=spec.memory_mb,
        logs_mb=spec.logs_mb,
        concurrency=spec.concurrency,
        wait_ms=1,
        init_ms=None,
        run_ms=3.0,
        cpu_ms=1.0,
        vm_id=vm_id,
        vm_kind="harvest",
        transaction_id=run.transaction_id,
        accepted_unix_ms=run.accepted_unix_ms,
    )


@dataclass
class Cluster:
    """What a test drives."""

    controller: Controller
    client: Client
    store: Store
    settings: ControllerSettings
    redis_url: str
    stack: AsyncExitStack
    stop: asyncio.Event

    async def join(self, vm_id: str = "h1", **hello: Any) -> FakeInvoker:
        """Links an invoker and waits for its welcome."""
        behaviour = hello.pop("behaviour", echo)
        link = await dial(self.client.session, self.controller.link_url, SECRET, timeout_s=5)
        invoker = FakeInvoker(link, self.store, vm_id, behaviour=behaviour)
        message = Hello(
            protocol_min=1,
            protocol_max=1,
            vm_id=vm_id,
            incarnation="1",
            kind="harvest",
            speed=1.0,
            price=0.3,
            runtimes=["python:3", "python:3.11"],
            report=invoker.report,
            holds=[],
            emulated=True,
        )
        link.send(replace(message, **hello))
        ready = asyncio.Event()
        serving = asyncio.ensure_future(invoker.serve(ready))

        async def end() -> None:
            await invoker.close()
            await serving

        self.stack.push_async_callback(end)
        async with asyncio.timeout(WAIT_S):
            await ready.wait()
        return invoker

    async def admin(self, method: str, path: str, body: Any = None) -> Answer:
        return await self.client.call(method, f"/admin/v1/{path}", body, auth=basic(OPERATOR_KEY))


@asynccontextmanager
async def running(redis_url: str, **settings: Any) -> AsyncIterator[Cluster]:
    """A controller of its own process's making, but in this loop."""
    all_settings = ControllerSettings(
        redis_url=redis_url,
        join_secret=SECRET,
        link_port=0,
        operator_key=OPERATOR_KEY,
        **{"port": 0, "allow_well_known_keys": True, **settings},
    )
    async with AsyncExitStack() as stack:
        store = await Store.open(redis_url)
        stack.push_async_callback(store.close)
        await store.put_key("guest", KEY)
        await store.put_key("other", OTHER_KEY)
        controller = Controller(all_settings, store)
        ready, stop = asyncio.Event(), asyncio.Event()
        serving = asyncio.ensure_future(controller.run(stop, ready=ready.set))
        waiting = asyncio.ensure_future(ready.wait())
        await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            waiting.cancel()
            serving.result()

        async def end() -> None:
            stop.set()
            await serving

        stack.push_async_callback(end)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        client = Client(session, controller.api_url)
        yield Cluster(controller, client, store, all_settings, redis_url, stack, stop)


@pytest.fixture
async def redis() -> AsyncIterator[str]:
    """A Redis of the test's own."""
    folder = Path(tempfile.mkdtemp(prefix="fallow-", dir="/tmp"))
    server = await start_redis(state_dir=folder / "s", run_dir=folder / "r")
    try:
        yield server.url
    finally:
        await server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def cluster(redis: str) -> AsyncIterator[Cluster]:
    async with running(redis) as made:
        yield made


@pytest.fixture
def boot(redis: str) -> Callable[..., Any]:
    """Starts further controllers, or one with other settings: `async with boot(waiting_calls=1) as cluster`."""
    return lambda **settings: running(redis, **settings)


@pytest.fixture
def keys() -> dict[str, str]:
    """Authorization headers."""
    return {"guest": basic(KEY), "other": basic(OTHER_KEY), "operator": basic(OPERATOR_KEY)}


@pytest.fixture
def until() -> Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]:
    return eventually
