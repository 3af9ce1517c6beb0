"""The invoker process: its parts, how they are wired, how they start and stop.

links --Run, Cancel--> executor --events--> PoolState --instructions--> executor --> containers
                           |--> recorder --> store        agent --> vm --> reports --> links
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from fallow.core.model import ReturnReason, VmKind
from fallow.core.pool.events import NoticeChanged, Ticked, VmMeasured
from fallow.core.pool.state import PoolLimits, PoolState
from fallow.infra import clock
from fallow.infra.log import get_logger
from fallow.infra.messages import (
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    Cancel,
    CommandDone,
    Hello,
    Report,
    Run,
    VmCommand,
    Welcome,
)
from fallow.infra.settings import InvokerSettings
from fallow.infra.store import Store, StoreError
from fallow.infra.tasks import FatalError, every
from fallow.infra.vmstate import VmState
from invoker.agent_client import AgentClient
from invoker.backends.base import Backend, StartError
from invoker.backends.process import ProcessBackend
from invoker.calls import VmFacts
from invoker.code_cache import CodeCache
from invoker.executor import Executor
from invoker.links import Links
from invoker.recorder import Recorder, Settled
from invoker.throttling import Throttling
from invoker.vm import PoolView, Vm, machine_state

TICK_S = 0.25
SAMPLE_S = 1.0
AGENT_START_S = 15.0  # how long an agent may take to say what its VM is
CANCEL_GRACE_S = 5.0  # for the end of calls that are cut off
FLUSH_GRACE_S = 3.0
STORE_START_S = 30.0

log = get_logger("invoker")


def parse_prewarm(text: str) -> tuple[tuple[str, int, int], ...]:
    """ "python:3=2@256,..." as (kind, memory_mb, count) each. Raises FatalError naming the part that is wrong."""
    wanted = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        kind, _, amount = part.partition("=")
        count, _, memory = amount.partition("@")
        if not kind or not count.isdigit() or not memory.isdigit():
            raise FatalError(f"prewarm: {part!r} is not of the form kind=count@memory_mb, such as python:3=2@256")
        wanted.append((kind, int(memory), int(count)))
    return tuple(wanted)


def cgroups_of(settings: InvokerSettings) -> tuple[Path, ...]:
    """The directories of the VM's cgroup; none where CPU is not enforced."""
    return tuple(Path(d) for d in settings.container_cgroups.split(":") if d)


def make_backend(settings: InvokerSettings, run_dir: Path, api_host: Callable[[], str]) -> Backend:
    """The backend that the settings name; `api_host` is what it may tell containers of the API. Raises FatalError for
    one that is not there."""
    if settings.backend == "docker":
        return docker_backend(settings, api_host)
    if settings.backend != "process":
        raise FatalError(f"backend: {settings.backend!r} is not known; there are: process, docker")
    backend = ProcessBackend(run_dir=run_dir, cgroups=cgroups_of(settings), max_starts=settings.max_starts)
    if left := backend.sweep():
        log.warning("containers_swept", count=left)
    return backend


def docker_backend(settings: InvokerSettings, api_host: Callable[[], str]) -> Backend:
    """Imported only where it is wanted: the SDK takes longer to load than the whole invoker."""
    from invoker.backends.docker import DockerBackend
    from invoker.backends.docker.options import Placement

    return DockerBackend(
        placement=Placement(
            cluster=settings.cluster,
            vm_id=settings.vm_id,
            cgroup_parent=settings.cgroup_parent,
            network=settings.docker_network,
        ),
        images=tuple(filter(None, (image.strip() for image in settings.images.split(",")))),
        cgroups=cgroups_of(settings),
        pause_grace_s=settings.pause_grace_s,
        max_starts=settings.max_starts,
        api_host=api_host,
    )


class Invoker:
    """One invoker. `run(stop)` returns when `stop` is set and everything has ended."""

    def __init__(self, settings: InvokerSettings, *, store: Store, run_dir: Path) -> None:
        self._settings = settings
        self._store = store
        self._incarnation = secrets.token_hex(8)
        self._pool = PoolState(
            limits=PoolLimits(
                queue_calls=settings.queue_calls,
                queue_bytes=settings.queue_bytes,
                keep_alive_s=settings.keep_alive_s,
                reserve_after_s=settings.reserve_after_s,
                max_queue_wait_s=settings.max_queue_wait_s,
                max_starts=settings.max_starts,
                prewarm=parse_prewarm(settings.prewarm),
            )
        )
        self._vm = Vm(now_mono_s=clock.mono_s, state=machine_state(settings.vm_id, settings.kind))
        self._backend = make_backend(settings, run_dir, lambda: self._links.api_host)
        self._throttling = Throttling(cgroups_of(settings))
        self._codes = CodeCache(directory=run_dir / "code", fetch=store.get_code)
        self._recorder = Recorder(store=store, on_settled=self._settled)
        self._links = Links(
            secret=settings.join_secret,
            leases=store.live_controllers,
            hello=self._hello,
            report=self._report,
            on_welcome=self._welcomed,
            on_message=self._received,
        )
        self._agent: AgentClient | None = None
        self._stated = asyncio.Event()
        self._stopping = False
        self._told = (False, True)  # full, healthy: as last reported
        self._cpu_mark = (clock.mono_s(), 0.0)
        self._executor: Executor
        self._group: asyncio.TaskGroup

    async def run(self, stop: asyncio.Event) -> int:
        """Serve until `stop`. Returns the exit code."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._executor = self._make_executor(group)
                loops = [group.create_task(self._recorder.run())]
                loops += await self._follow_vm(group)
                await self._open_backend()
                loops.append(group.create_task(self._backend.supervise()))
                loops.append(group.create_task(every(TICK_S, self._tick)))
                linking = group.create_task(self._links.run())
                log.info(
                    "invoker_ready",
                    vm=self._settings.vm_id,
                    kind=self._settings.kind,
                    cores=self._vm.state.cores,
                    runtimes=list(self._backend.kinds),
                )
                await stop.wait()
                await self._drain()
                linking.cancel()
                for loop in loops:
                    loop.cancel()
                await self._backend.close()
        finally:
            await self._backend.close()
            self._throttling.close()
            await self._links.close()
            await self._codes.close()
            if self._agent is not None:
                await self._agent.close()
        return 0

    def _make_executor(self, group: asyncio.TaskGroup) -> Executor:
        facts = VmFacts(
            vm_id=self._settings.vm_id,
            vm_kind=self._settings.kind,
            price=self._settings.price,
            speed=self._settings.speed,
            core_scale=lambda: self._vm.state.core_scale,
            refusal=self._refusal,
            throttled_s=self._throttling.throttled_s,
            throttled_note=self._throttled_note,
        )
        return Executor(
            group=group,
            pool=self._pool,
            backend=self._backend,
            codes=self._codes,
            recorder=self._recorder,
            outbound=self._links,
            vm=facts,
        )

    async def _follow_vm(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Start following the agent and wait for its first word; without one, measure this machine's VM here."""
        socket = self._settings.agent_socket
        if not socket:
            self._measure_self()
            return [group.create_task(every(SAMPLE_S, self._measure_self))]
        self._agent = AgentClient(socket=socket, on_state=self._vm_stated, on_gone=self._agent_gone)
        task = group.create_task(self._agent.run())
        try:
            async with asyncio.timeout(AGENT_START_S):
                await self._stated.wait()
        except TimeoutError:
            raise FatalError(f"agent_socket: no agent answered on {socket} within {AGENT_START_S:g} s") from None
        return [task, group.create_task(every(SAMPLE_S, self._links.send_report))]

    async def _open_backend(self) -> None:
        try:
            await self._backend.open()
        except StartError as e:
            raise FatalError(f"backend: {self._settings.backend} cannot start containers here: {e}") from None

    async def _drain(self) -> None:
        """Take no more calls, return what waits, let what runs end for a while, leave no record behind."""
        self._stopping = True
        grace_s = self._settings.stop_grace_s
        self._vm.set_notice(grace_s)
        self._executor.feed(NoticeChanged(left_s=grace_s))
        self._links.send_report()
        for work, timeout_s in (
            (self._executor.idle, grace_s),
            (self._executor.stop, CANCEL_GRACE_S),
            (self._recorder.flushed, FLUSH_GRACE_S),
        ):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await work()

    # The VM.

    def _vm_stated(self, state: VmState) -> None:
        """The agent's word: each second, and at each change."""
        before = self._vm.state.cores
        cores_changed = not self._stated.is_set() or state.cores != before
        self._vm.state = state
        if cores_changed:
            self._executor.cores_changed(before, state.cores)
        changed = self._vm.set_trouble("agent", "") or cores_changed
        self._feed_sample()
        if not self._stopping and self._vm.set_notice(state.notice_left_s):
            log.info("notice", left_s=state.notice_left_s)
            self._executor.feed(NoticeChanged(left_s=state.notice_left_s))
            changed = True
        self._stated.set()
        if changed:
            self._links.send_report()

    def _agent_gone(self) -> None:
        if self._vm.set_trouble("agent", "the VM's agent does not answer"):
            self._links.send_report()

    def _measure_self(self) -> None:
        """One second's sample of a VM without an agent."""
        now, cpu_s = clock.mono_s(), self._backend.cpu_total_s()
        since, before = self._cpu_mark
        self._cpu_mark = (now, cpu_s)
        cores = (cpu_s - before) / (now - since) if now > since else 0.0
        self._vm.state = replace(self._vm.state, cpu_used=cores, memory_used_mb=self._backend.memory_mb())
        self._feed_sample()
        self._links.send_report()

    def _feed_sample(self) -> None:
        idle_mb = self._executor.idle_memory()
        self._executor.feed(VmMeasured(capacity=self._vm.capacity, used=self._vm.sample(), idle_mb=idle_mb))

    def _tick(self) -> None:
        self._executor.feed(Ticked())
        self._vm.set_trouble("engine", self._backend.trouble)
        self._vm.set_trouble("records", "records wait for the store" if self._recorder.full else "")
        told = (self._pool.full, self._vm.healthy)
        if told != self._told:
            self._told = told
            self._links.send_report()

    def _throttled_note(self) -> str:
        state = self._vm.state
        if not state.cpu_enforced:
            return f"CPU is not enforced here: {state.cpu_note}" if state.cpu_note else "CPU is not enforced here"
        return self._throttling.note

    def _refusal(self) -> ReturnReason | None:
        if self._stopping:
            return ReturnReason.DRAINING
        return None if self._vm.healthy and not self._backend.trouble else ReturnReason.UNHEALTHY

    # The controllers.

    def _hello(self, controller_id: str, seen: int) -> Hello:
        settings, state = self._settings, self._vm.state
        holds = dict.fromkeys([*self._executor.holds(controller_id), *self._links.waiting_results(controller_id)])
        return Hello(
            protocol_min=PROTOCOL_MIN,
            protocol_max=PROTOCOL_MAX,
            vm_id=settings.vm_id,
            incarnation=self._incarnation,
            kind=VmKind(settings.kind).value,
            speed=settings.speed,
            price=settings.price,
            runtimes=list(self._backend.kinds),
            report=self._report(seen),
            holds=list(holds),
            emulated=state.emulated,
            cpu_enforced=state.cpu_enforced,
            cpu_note=state.cpu_note,
        )

    def _report(self, seen: int) -> Report:
        pool = self._pool
        view = PoolView(
            running=pool.running,
            queued=pool.queued,
            full=pool.full,
            warm=pool.warm,
            reserved_mb=pool.active_mb,
        )
        # Whoever may be cut off soon will not tell any more what it has used.
        used_by = self._executor.used_by() if self._vm.notice_left_s is not None else ()
        return self._vm.report(view, seen=seen, used_by=used_by)

    def _welcomed(self, controller_id: str, welcome: Welcome) -> None:
        for activation_id, attempt in welcome.cancel:
            self._executor.cancel_requested(activation_id, attempt)
        cancelled = {(a, n) for a, n in welcome.cancel}
        waiting = set(self._links.waiting_results(controller_id))
        for result in self._executor.undelivered(controller_id):
            if (result.activation_id, result.attempt) not in cancelled | waiting:
                self._links.send(controller_id, result)

    def _received(self, controller_id: str, message: Run | Cancel | VmCommand) -> None:
        match message:
            case Run():
                self._vm.ran_for(controller_id)
                self._executor.run_requested(controller_id, message)
            case Cancel():
                self._executor.cancel_requested(message.activation_id, message.attempt)
            case VmCommand():
                self._group.create_task(self._command(controller_id, message))

    async def _command(self, controller_id: str, command: VmCommand) -> None:
        error = "this VM has no agent: it cannot be resized or evicted"
        if self._agent is not None:
            error = await self._agent.command(command.verb, cores=command.cores, notice_s=command.notice_s)
        log.info("command", verb=command.verb, error=error)
        self._links.send(controller_id, CommandDone(command_id=command.command_id, error=error))

    def _settled(self, controller_id: str, flush: Settled) -> None:
        self._executor.settled(controller_id, flush)


@contextlib.contextmanager
def _run_dir(configured: str) -> Iterator[Path]:
    """The directory of containers and code: the one configured, else one of its own that goes with the process."""
    directory = Path(configured or tempfile.mkdtemp(prefix="fallow-", dir="/tmp"))
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise FatalError(f"run_dir: cannot make {directory}: {e.strerror}") from None
    try:
        yield directory
    finally:
        if not configured:
            shutil.rmtree(directory, ignore_errors=True)


async def open_store(url: str, stop: asyncio.Event) -> Store | None:
    """Connect, patiently: an invoker may start before its Redis. None = `stop` came first. Raises FatalError."""
    deadline_s = clock.mono_s() + STORE_START_S
    while not stop.is_set():
        try:
            return await Store.open(url)
        except StoreError as e:
            if clock.mono_s() > deadline_s:
                raise FatalError(f"redis_url: cannot use the store at {url}: {e}") from None
            log.info("store_awaited", error=str(e))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await stop.wait()
    return None


async def serve(settings: InvokerSettings, stop: asyncio.Event) -> int:
    """The whole life of an invoker process. Returns its exit code; raises FatalError for what it cannot work with."""
    if settings.kind not in set(VmKind):
        raise FatalError(f"kind: {settings.kind!r} is not one of {', '.join(VmKind)}")
    store = await open_store(settings.redis_url, stop)
    if store is None:
        return 0
    try:
        with _run_dir(settings.run_dir) as run_dir:
            return await Invoker(settings, store=store, run_dir=run_dir).run(stop)
    finally:
        await store.close()
