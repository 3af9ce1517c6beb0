"""Does what the pool's brain decides: starts and ends containers, runs calls in them, reports how it went.

All decisions are `PoolState`'s. This keeps its own books only of what it does: containers that exist, starts under way,
calls that were dispatched here and have not been finished with.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, assert_never

from fallow.core.attempt_waits import AttemptWaits
from fallow.core.model import ActivationId, ContainerId, ControllerId, Outcome, ReturnReason, Status
from fallow.core.pool.events import (
    AbandonRun,
    CancelRequested,
    ContainerDestroyed,
    ContainerDied,
    ContainerStarted,
    ContainerStartFailed,
    DestroyContainer,
    FailUnstarted,
    PoolEvent,
    PoolInstruction,
    ReturnUnstarted,
    RunEnded,
    RunInContainer,
    RunRequested,
    StartContainer,
)
from fallow.core.pool.waits import CoresSeen
from fallow.infra import clock, codec
from fallow.infra.log import get_logger
from fallow.infra.messages import Completed, Recorded, Result, Returned, Run
from invoker import logs, outcome
from invoker.attempt import Attempt, Ran, Unstarted
from invoker.backends.base import Backend, Container, StartError
from invoker.calls import Call, CallKey, VmFacts, make_record, make_result
from invoker.code_cache import CodeCache
from invoker.recorder import Recorder, Settled

log = get_logger("invoker.executor")


class Brain(Protocol):
    """What the executor needs of PoolState."""

    def handle(self, event: PoolEvent, now_s: float) -> list[PoolInstruction]: ...


class Outbound(Protocol):
    """What the executor says, and to whom (`links.Links`)."""

    def send(self, controller_id: str, message: Returned | Result | Completed | Recorded) -> None: ...

    def api_url(self, controller_id: str) -> str: ...


class Executor:
    """Runs inside `group`: one task per call, one per container that starts or ends."""

    def __init__(
        self,
        *,
        group: asyncio.TaskGroup,
        pool: Brain,
        backend: Backend,
        codes: CodeCache,
        recorder: Recorder,
        outbound: Outbound,
        vm: VmFacts,
    ) -> None:
        self._group = group
        self._pool = pool
        self._backend = backend
        self._codes = codes
        self._recorder = recorder
        self._outbound = outbound
        self._vm = vm
        self._calls: dict[CallKey, Call] = {}
        self._containers: dict[ContainerId, Container] = {}
        self._starts: dict[ContainerId, asyncio.Task[None]] = {}
        self._busy: dict[ContainerId, Call] = {}
        self._dead: set[ContainerId] = set()  # ended while a call ran in them
        self._unmeasured: set[ContainerId] = set()  # came to rest since `idle_memory` was last asked
        self._unrecorded: dict[CallKey, tuple[str, Result]] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    # What the links bring.

    def run_requested(self, controller_id: str, run: Run) -> None:
        """A dispatch. What is here already is not started twice."""
        key = (run.activation_id, run.attempt)
        if key in self._calls or key in self._unrecorded:
            return
        spec = codec.decode_action(run.action)
        reason = self._vm.refusal()
        if reason is None and spec.kind not in self._backend.kinds:
            reason = ReturnReason.UNSUPPORTED
        if reason is not None:
            self._return(controller_id, key, reason)
            return
        call = Call(controller_id=controller_id, run=run, spec=spec, received_mono_s=clock.mono_s())
        self._calls[key] = call
        self._idle.clear()
        self._request(call)

    def cancel_requested(self, activation_id: str, attempt: int) -> None:
        """A controller fenced this attempt off: nothing of it is wanted, but its slot must be freed."""
        call = self._calls.get((activation_id, attempt))
        if call is None:
            return
        self.feed(CancelRequested(activation_id=ActivationId(activation_id), attempt=attempt))
        if call.result is None and self._calls.get(call.key) is call:
            self._finish(call, Completed(activation_id=activation_id, attempt=attempt))  # it was still queued

    def holds(self, controller_id: str) -> list[CallKey]:
        """Attempts of a controller that run, wait, or ended without their record standing yet."""
        running = [c.key for c in self._calls.values() if c.controller_id == controller_id]
        ended = [key for key, (owner, _) in self._unrecorded.items() if owner == controller_id]
        return list(dict.fromkeys([*running, *ended]))

    def undelivered(self, controller_id: str) -> list[Result]:
        """Results a reconnected controller may never have got: those whose records do not stand yet."""
        return [result for owner, result in self._unrecorded.values() if owner == controller_id]

    def settled(self, controller_id: str, flush: Settled) -> None:
        """The recorder is done with these attempts."""
        for key in flush.attempts:
            self._unrecorded.pop(key, None)
        if flush.standing or flush.fenced:
            self._outbound.send(controller_id, Recorded(activation_ids=flush.standing, fenced=tuple(flush.fenced)))

    def idle_memory(self) -> tuple[tuple[ContainerId, float], ...]:
        """(container, resident MB) of those that have come to rest since this was last asked and still do."""
        unmeasured, self._unmeasured = self._unmeasured, set()
        resting = {i: self._containers[i] for i in sorted(unmeasured) if i in self._containers and i not in self._busy}
        measured = ((i, container.memory_used_mb()) for i, container in resting.items())
        return tuple((i, memory_mb) for i, memory_mb in measured if memory_mb is not None)

    async def stop(self) -> None:
        """Cut off every call without an outcome: nothing is said of it, so its controller runs it elsewhere."""
        tasks = [c.task for c in self._calls.values() if c.task is not None and c.result is None]
        tasks += self._starts.values()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def idle(self) -> None:
        """Wait until no call is here."""
        await self._idle.wait()

    def feed(self, event: PoolEvent) -> None:
        """Tell the brain, do what it says."""
        for instruction in self._pool.handle(event, clock.mono_s()):
            self._do(instruction)

    def used_by(self) -> list[tuple[str, int, float]]:
        """What each running attempt has used so far: (activation, attempt, CPU in the VM's cores x seconds)."""
        used = ((call, self._used_cpu_s(call)) for call in self._calls.values() if call.result is None)
        return [(call.run.activation_id, call.run.attempt, cpu_s) for call, cpu_s in used if cpu_s is not None]

    def _used_cpu_s(self, call: Call) -> float | None:
        real_s = None if call.spent_real_s is None else call.spent_real_s()
        return None if real_s is None else real_s / self._vm.core_scale()

    def cores_changed(self, before: float, cores: float) -> None:
        """The VM shrank or grew. O(calls here)."""
        if not self._calls:
            return
        now_s, throttled_s = clock.mono_s(), self._vm.throttled_s()
        for call in self._calls.values():
            if call.result is None:
                if call.cores is None:
                    call.cores = CoresSeen(before, running=call.task is not None)
                call.cores.changed(cores, now_s, throttled_s)

    # What the brain says.

    def _do(self, instruction: PoolInstruction) -> None:
        match instruction:
            case StartContainer(container_id=container_id):
                self._starts[container_id] = self._group.create_task(self._start(instruction))
            case RunInContainer(activation_id=activation_id, attempt=attempt):
                call = self._calls[(activation_id, attempt)]
                self._busy[instruction.container_id] = call
                call.task = self._group.create_task(self._run(call, instruction))
            case DestroyContainer():
                self._group.create_task(self._destroy(instruction))
            case ReturnUnstarted(activation_id=activation_id, attempt=attempt):
                waits = self._waits(self._calls[(activation_id, attempt)], instruction.waited)
                self._return(instruction.controller_id, (activation_id, attempt), instruction.reason, waits)
            case FailUnstarted(activation_id=activation_id, attempt=attempt):
                call = self._calls[(activation_id, attempt)]
                if (
                    self._backend.trouble and not instruction.developer_error
                ):  # another VM may well have a container for it
                    waits = self._waits(call, instruction.waited)
                    self._return(instruction.controller_id, call.key, ReturnReason.UNHEALTHY, waits)
                else:
                    self._fail_unstarted(call, instruction.error, instruction.waited, instruction.developer_error)
            case AbandonRun(activation_id=activation_id, attempt=attempt):
                self._abandon(self._calls[(activation_id, attempt)])
            case _:
                assert_never(instruction)

    def _request(self, call: Call) -> None:
        run = call.run
        self.feed(
            RunRequested(
                controller_id=ControllerId(call.controller_id),
                activation_id=ActivationId(run.activation_id),
                attempt=run.attempt,
                action=call.spec,
                payload_bytes=len(run.args),
                cap_cores=run.cap_cores,
            )
        )

    def _return(
        self, controller_id: str, key: CallKey, reason: ReturnReason, waits: AttemptWaits | None = None
    ) -> None:
        self._forget(key)
        message = Returned(activation_id=key[0], attempt=key[1], reason=reason.value, waits=codec.encode_waits(waits))
        self._outbound.send(controller_id, message)

    def _forget(self, key: CallKey) -> None:
        self._calls.pop(key, None)
        if not self._calls:
            self._idle.set()

    def _finish(self, call: Call, message: Completed | None) -> None:
        self._forget(call.key)
        if message is not None:
            self._outbound.send(call.controller_id, message)

    def _fail_unstarted(
        self, call: Call, error: str, waited: AttemptWaits | None = None, developer_error: str = ""
    ) -> None:
        log.error("no_container", activation=call.run.activation_id, action=str(call.spec.key), error=error)
        now_s, now_ms = clock.mono_s(), clock.unix_ms()
        ending = (
            outcome.error(Status.DEVELOPER_ERROR, developer_error)
            if developer_error
            else outcome.error(Status.WHISK_ERROR, outcome.NO_CONTAINER)
        )
        waits = self._waits(call, waited)
        measured = Outcome(status=ending.status, wait_s=now_s - call.received_mono_s, waits=waits)
        result = make_result(call, ending, measured, start_unix_ms=now_ms, end_unix_ms=now_ms, completed=True)
        self._conclude(call, result, [])
        self._finish(call, None)

    def _abandon(self, call: Call) -> None:
        """A decided outcome is recorded all the same: the fence says whether it counts."""
        call.abandoned = True
        if call.result is not None:
            return
        if call.task is not None:
            call.task.cancel()
        run = call.run
        self._finish(
            call, Completed(activation_id=run.activation_id, attempt=run.attempt, cpu_s=self._used_cpu_s(call))
        )

    # Containers.

    async def _start(self, order: StartContainer) -> None:
        container_id = order.container_id
        try:
            container = await self._backend.start(
                container_id,
                kind=order.kind,
                memory_mb=order.memory_mb,
                cap_cores=order.cap_cores,
                on_exit=lambda: self._died(container_id),
            )
        except StartError as e:
            del self._starts[container_id]
            log.warning("container_start_failed", container=container_id, kind=order.kind, error=str(e))
            self.feed(ContainerStartFailed(container_id=container_id, error=str(e), developer_error=e.developer_error))
            return
        del self._starts[container_id]
        self._containers[container_id] = container
        self._unmeasured.add(container_id)
        self.feed(ContainerStarted(container_id=container_id))

    async def _destroy(self, order: DestroyContainer) -> None:
        start = self._starts.pop(order.container_id, None)
        if start is not None:
            start.cancel()
            await asyncio.wait([start])
        container = self._containers.pop(order.container_id, None)
        if container is not None:
            await container.destroy()
        self.feed(ContainerDestroyed(container_id=order.container_id))

    def _died(self, container_id: ContainerId) -> None:
        """A container's process ended by itself. In a run the broken connection tells; in a start, the start."""
        if container_id in self._busy:
            self._dead.add(container_id)
        elif container_id in self._containers:
            self.feed(ContainerDied(container_id=container_id))
            order = DestroyContainer(container_id=container_id, reason="it ended by itself")
            self._group.create_task(self._destroy(order))  # for what it leaves: its directory, its children

    # Runs.

    async def _run(self, call: Call, order: RunInContainer) -> None:
        container = self._containers[order.container_id]
        container.watch(running=True)
        container.logs.begin(call.spec.logs_mb)
        keep = False
        try:
            keep = await self._attempt(call, container, order)
        except Exception as e:  # the activation's door: one call's bug must not end the others
            log.error("activation_broke", activation=call.run.activation_id, exc_info=e)
            if call.result is None:
                self._fail_unstarted(call, repr(e))
            else:
                self._finish(call, None)
        finally:
            container.watch(running=False)
            del self._busy[order.container_id]
            keep = keep and order.container_id not in self._dead
            self._dead.discard(order.container_id)
            if keep:
                self._unmeasured.add(order.container_id)
        if not call.abandoned:
            activation_id = ActivationId(call.run.activation_id)
            self.feed(RunEnded(container_id=order.container_id, activation_id=activation_id, keep=keep))
        if call.key in self._calls and call.result is None and not call.abandoned:
            self._request(call)  # the warm container had gone before the call reached it

    async def _attempt(self, call: Call, container: Container, order: RunInContainer) -> bool:
        """Run, answer, collect logs, record. Returns whether the container may serve again."""
        if call.cores is not None:
            call.cores.began(clock.mono_s(), self._vm.throttled_s())
        attempt = Attempt(call, container, api_host=self._outbound.api_url(call.controller_id))
        call.spent_real_s = attempt.cpu_real_s
        ran = await attempt.execute(self._codes, init=order.init)
        match ran:
            case Unstarted.NO_STORE:
                log.warning("returned", activation=call.run.activation_id, reason=ran.value)
                self._return(call.controller_id, call.key, ReturnReason.UNHEALTHY, self._waits(call, order.waited))
                return False
            case Unstarted.STALE_CONTAINER:
                return False
            case Ran():
                pass
        ending = ran.ending
        if not container.logs.complete:
            container.drain_logs()
        # After a developer error nobody waits for sentinels that a broken runtime may never write.
        joined = container.logs.complete or not ending.keeps_container
        result = make_result(
            call,
            ending,
            self._outcome(call, ran, order),
            start_unix_ms=ran.start_unix_ms,
            end_unix_ms=ran.start_unix_ms + max(0, round((clock.mono_s() - ran.start_mono_s) * 1000)),
            completed=joined,
        )
        keep = ending.keeps_container and container.logs.complete
        if joined:
            self._conclude(call, result, container.logs.take("" if container.logs.complete else logs.DEVELOPER_ERROR))
            self._finish(call, None)
            return keep
        self._decide(call, result)
        keep = await container.logs.wait(call.spec.logs_mb)
        self._record(call, result, container.logs.take("" if keep else logs.INCOMPLETE))
        self._finish(call, Completed(activation_id=call.run.activation_id, attempt=call.run.attempt))
        return keep

    def _outcome(self, call: Call, ran: Ran, order: RunInContainer) -> Outcome:
        return Outcome(
            status=ran.ending.status,
            wait_s=max(0.0, ran.start_mono_s - call.received_mono_s),
            init_s=ran.init_s,
            run_s=ran.run_s,
            cpu_s=None if ran.cpu_real_s is None else ran.cpu_real_s / self._vm.core_scale(),
            prewarmed=order.prewarmed and ran.init_s is not None,
            waits=order.waited if call.cores is None else self._waits(call, order.waited),
        )

    def _waits(self, call: Call, waited: AttemptWaits | None) -> AttemptWaits | None:
        """What the pool measured, and what became of the VM's cores meanwhile."""
        if call.cores is None:
            return waited
        vm = self._vm
        return call.cores.told(waited, clock.mono_s(), vm.throttled_s(), vm.throttled_note())

    def _conclude(self, call: Call, result: Result, lines: list[str]) -> None:
        self._decide(call, result)
        self._record(call, result, lines)

    def _decide(self, call: Call, result: Result) -> None:
        call.result = result
        self._unrecorded[call.key] = (call.controller_id, result)
        self._outbound.send(call.controller_id, result)

    def _record(self, call: Call, result: Result, lines: list[str]) -> None:
        record = make_record(call, result, lines, self._vm)
        self._recorder.add(call.controller_id, record)
