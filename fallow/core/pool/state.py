"""The invoker's brain: which call runs in which container of its VM, and when.

**Choice of a container.** A warm one of the same action revision (the most recently used, so that the others age out),
else a prewarmed one of the same kind and memory, else one that is starting and that no call waits for, else a new one.
A container never changes its action. Every container serves one call at a time, whatever `ActionSpec.concurrency` says.

**Admission** (after the prototype of Zhang et al., SOSP 2021, which queues what does not fit). CPU: the last one-second
sample is at most `cpu_fraction` of the cores, or the sum of `cap_cores` of what runs or starts is: the sample may speak
of calls that are gone. The prototype asks the largest of five samples; then one busy second shuts a VM for five, and
at a mean use of 80 % there is nearly always one (docs/decisions/0014). Memory, which does not come and go like that:
max(largest of five samples, what all containers hold) + need <= memory. A container that runs or starts
holds its limit, an idle one what it was measured to have resident (its limit until then), which is a tenth or less: so
many more stay warm than limits alone would leave room for. A call that wakes one needs the difference. The oldest idle
ones are destroyed to make room; their memory is free once `ContainerDestroyed` says so. Where nothing runs or starts,
one call may run whatever the numbers say: a VM that shrank below what it holds would stall for ever otherwise.

**Queue.** Bounded in calls and bytes. What fits may overtake, and namespaces take turns; but once the oldest has waited
`reserve_after_s`, it is asked first, and memory that becomes free, idle containers included, is kept for it.

Example: 1024 MB; A (limit 512 MB) runs, B and C (256 MB each) are idle with 20 MB each resident. D (512 MB) comes: it
lacks 40 MB, so B and C, the oldest first, are destroyed, and D's container starts when both are gone. Had C been busy,
D would wait; a call of B would wake B for 236 MB more and overtake it for one second; after that B would be destroyed.

Caveats: with several VM sizes in one fleet a call may come that is larger than the VM; it runs alone. A starting
container is never taken from the call it was started for, but that call may take a warm one that comes free first.
"""

from __future__ import annotations

from collections import deque
from typing import assert_never

from fallow.core.lifecycle import ContainerEvent, ContainerState
from fallow.core.model import ActivationId, ContainerId, ControllerId, Resources, ReturnReason
from fallow.core.pool.events import (
    CancelRequested,
    ContainerDestroyed,
    ContainerDied,
    ContainerStarted,
    ContainerStartFailed,
    NoticeChanged,
    PoolEvent,
    PoolInstruction,
    RunEnded,
    RunRequested,
    Ticked,
    VmMeasured,
)
from fallow.core.pool.ledger import ContainerView, PoolLedger
from fallow.core.pool.limits import PREWARM_RETRY_S, SAMPLES, STARTS_PER_CALL, PoolLimits
from fallow.core.pool.memory import PoolMemory
from fallow.core.pool.placing import PoolPlacing
from fallow.core.pool.queue import PoolCall
from fallow.core.pool.shrink import ShrinkWatch
from fallow.core.pool.waits import QueueCause, Waited

__all__ = ["PoolLimits", "PoolState"]


class PoolState:
    """Decides for one VM: `handle` takes what happened and returns what to do, in order. See the module's text."""

    def __init__(self, *, limits: PoolLimits) -> None:
        self._limits = limits
        self._ledger = PoolLedger()
        self._memory = PoolMemory(self._ledger)
        self._placing = PoolPlacing(limits, self._ledger, self._memory)
        self._capacity = Resources(cpu_cores=0.0, memory_mb=0.0)
        self._cpu_cores = 0.0  # in use in the last second measured
        self._memory_samples: deque[float] = deque(maxlen=SAMPLES)  # MB
        self._draining = False
        self._prewarm_after_s = 0.0
        self._now_s = 0.0
        self._cpu_was_open = True  # when it was last asked
        self._shrinks = ShrinkWatch()

    @property
    def running(self) -> int:
        return self._ledger.containers.busy_count

    @property
    def queued(self) -> int:
        """Calls that have not started: without a container, or with one that is still starting."""
        return len(self._ledger.queue) + self._ledger.awaiting_count

    @property
    def full(self) -> bool:
        """The queue is at a bound: a call that could not start at once would be returned."""
        queue, limits = self._ledger.queue, self._limits
        return len(queue) >= limits.queue_calls or queue.payload_bytes >= limits.queue_bytes

    @property
    def draining(self) -> bool:
        return self._draining

    @property
    def warm(self) -> int:
        """Idle containers with an action's code in them."""
        return self._ledger.containers.ready_count

    @property
    def reserved_mb(self) -> float:
        """What all containers hold, idle ones and those being destroyed included."""
        return self._ledger.containers.reserved_mb

    @property
    def active_mb(self) -> float:
        """The limits of running and starting containers: what a VmReport counts as used at least."""
        table = self._ledger.containers
        return table.reserved_mb - table.destroying_mb - table.idle_mb

    def containers(self) -> list[ContainerView]:
        return self._ledger.views()

    def holds(self) -> list[tuple[ControllerId, ActivationId, int]]:
        """(controller, activation, attempt) of everything queued or running here."""
        return [(call.controller_id, call.activation_id, call.attempt) for call in self._ledger.calls.values()]

    def handle(self, event: PoolEvent, now_s: float) -> list[PoolInstruction]:
        """What to do now. O(1) where nothing waits; O(calls that wait) only where one of them gets something or
        memory is kept for it (`placing`), or a shrink may keep some of them waiting (`shrink`)."""
        self._now_s = self._ledger.now_s = now_s
        self._ledger.queue.clock.advance(now_s)
        match event:
            case RunRequested():
                self._on_run(event)
            case ContainerStarted():
                self._on_started(event.container_id)
            case ContainerStartFailed():
                self._on_lost(
                    event.container_id, ContainerEvent.START_FAILED, event.error, developer_error=event.developer_error
                )
            case RunEnded():
                self._on_ended(event)
            case ContainerDied():
                self._on_lost(event.container_id, ContainerEvent.DIED, "the container ended by itself")
            case ContainerDestroyed():
                self._on_lost(event.container_id, ContainerEvent.DESTROYED, "")
            case CancelRequested():
                self._on_cancel(event)
            case VmMeasured():
                self._on_measured(event)
            case NoticeChanged():
                self._on_notice(event)
            case Ticked():
                self._on_tick()
            case _:
                assert_never(event)
        self._schedule()
        return self._ledger.take_instructions()

    def _on_run(self, event: RunRequested) -> None:
        call = PoolCall(
            controller_id=event.controller_id,
            activation_id=event.activation_id,
            attempt=event.attempt,
            action=event.action,
            payload_bytes=event.payload_bytes,
            cap_cores=event.cap_cores,
            arrived_s=self._now_s,
            cores_most=self._capacity.cpu_cores,
        )
        if call.key in self._ledger.calls:
            return  # sent twice
        self._ledger.calls[call.key] = call
        if self._draining:
            self._ledger.give_back(call, ReturnReason.DRAINING)
        elif self._cpu_open() and self._placing.at_once(call):
            return
        elif self.full or self._ledger.queue.payload_bytes + call.payload_bytes > self._limits.queue_bytes:
            self._ledger.give_back(call, ReturnReason.FULL)
        else:
            self._ledger.queue.add(call)

    def _on_started(self, container_id: ContainerId) -> None:
        container = self._ledger.containers.get(container_id)
        if container is None or container.state is not ContainerState.STARTING:
            return  # destroyed meanwhile
        call = container.call
        container.call = None
        self._ledger.containers.started(container, self._now_s)
        if call is not None:
            self._ledger.stop_awaiting(call)
            self._ledger.run(call, container, prewarmed=False)

    def _on_lost(
        self, container_id: ContainerId, event: ContainerEvent, error: str, *, developer_error: str = ""
    ) -> None:
        container = self._ledger.containers.get(container_id)
        if container is None:
            return
        if container.state is ContainerState.DESTROYING and event is not ContainerEvent.DESTROYED:
            return  # ContainerDestroyed follows
        if container.state is ContainerState.BUSY:
            return  # RunEnded tells how the call ended
        call = container.call
        if container.state is ContainerState.STARTING and call is None:
            self._prewarm_after_s = self._now_s + PREWARM_RETRY_S
        self._ledger.containers.gone(container, event)
        if developer_error:
            self._ledger.fail_waiting(container.stock, error, developer_error)
        if call is None:
            return
        self._ledger.stop_awaiting(call)
        call.failed_starts += 1
        if call.failed_starts < STARTS_PER_CALL and not developer_error:
            self._ledger.queue.put_back(call)  # beyond the bound perhaps: it was admitted before
            return
        self._ledger.fail(call, error, developer_error=developer_error)

    def _on_ended(self, event: RunEnded) -> None:
        container = self._ledger.containers.get(event.container_id)
        if container is None or container.state is not ContainerState.BUSY:
            return  # cancelled, and its container destroyed meanwhile
        call = container.call
        if call is None or call.activation_id != event.activation_id:
            raise ValueError(f"container {container.id} does not run {event.activation_id}")
        del self._ledger.calls[call.key]
        if not event.keep:
            self._ledger.destroy(container, "its run did not end well")
            return
        self._ledger.containers.release(container, self._now_s)
        waiting = self._ledger.awaiting.get(call.code_key)
        if waiting:  # admitted already: it takes this one rather than wait for its own
            successor = next(iter(waiting.values()))
            self._ledger.stop_awaiting(successor)
            self._ledger.run(successor, container, prewarmed=False)

    def _on_cancel(self, event: CancelRequested) -> None:
        call = self._ledger.calls.pop((event.activation_id, event.attempt), None)
        if call is None:
            return
        if call in self._ledger.queue:
            self._ledger.queue.remove(call, served=False)
            return
        container = self._ledger.containers.get(call.container_id) if call.container_id is not None else None
        if container is None:
            raise ValueError(f"{call.activation_id} is neither queued nor in a container")
        if container.state is ContainerState.STARTING:
            self._ledger.stop_awaiting(call)  # the container may serve another call
            return
        self._ledger.abandon(call, container)

    def _on_measured(self, event: VmMeasured) -> None:
        self._shrinks.cores_measured(
            self._capacity.cpu_cores,
            event.capacity.cpu_cores,
            used_cores=self._cpu_cores,
            queue=self._ledger.queue,
        )
        self._capacity = event.capacity
        self._cpu_cores = event.used.cpu_cores
        self._memory_samples.append(event.used.memory_mb)
        self._memory.measured(event.capacity.memory_mb, max(self._memory_samples), event.idle_mb)

    def _on_notice(self, event: NoticeChanged) -> None:
        self._draining = event.left_s is not None
        if not self._draining:
            return
        for call in [call for call in self._ledger.calls.values() if not self._ledger.is_running(call)]:
            self._ledger.withdraw(call, ReturnReason.DRAINING)
        for container in list(self._ledger.containers.starting):
            self._ledger.destroy(container, "the VM is to be evicted")

    def _on_tick(self) -> None:
        for call in self._ledger.queue.waiting_since(self._now_s - self._limits.max_queue_wait_s):
            self._ledger.withdraw(call, ReturnReason.WAITED)
        stock = {(kind, memory_mb): count for kind, memory_mb, count in self._limits.prewarm}
        for container in list(self._ledger.containers.idle):
            if self._now_s - container.idle_since_s <= self._limits.keep_alive_s:
                break
            kept = stock.get(container.stock, 0) if container.code_key is None else 0
            if kept < 1 or self._ledger.containers.count_unused(container.stock) > kept:
                self._ledger.destroy(container, "idle for long")
        if not self._draining and len(self._ledger.queue) == 0 and self._now_s >= self._prewarm_after_s:
            self._prewarm()

    def _prewarm(self) -> None:
        """Fill up the stock of empty containers from memory that nothing uses."""
        for kind, memory_mb, count in self._limits.prewarm:
            missing = count - self._ledger.containers.count_unused((kind, memory_mb))
            for _ in range(missing):
                if (
                    self._ledger.containers.starting_count >= self._limits.max_starts
                    or memory_mb > self._memory.room_mb()
                ):
                    break
                self._ledger.start((kind, memory_mb), None)

    def _schedule(self) -> None:
        """Start every queued call that may start, in the order of the module's text, and note why the others wait."""
        queue = self._ledger.queue
        if len(queue) > 0:
            self._placing.start_queued(self._cpu_open)
        if len(queue) == 0:
            queue.clock.set(None)
            self._shrinks.queue_empty(self._capacity.cpu_cores)
        elif not self._cpu_was_open:
            queue.clock.set(QueueCause.CPU, self._held_by_shrink())
        elif self._ledger.containers.starting_count >= self._limits.max_starts:
            queue.clock.set(QueueCause.STARTS)
        else:
            queue.clock.set(QueueCause.MEMORY)

    def _cpu_open(self) -> bool:
        limit_cores = self._limits.cpu_fraction * self._capacity.cpu_cores
        self._cpu_was_open = (
            self._cpu_cores <= limit_cores and self._capacity.cpu_cores > 0
        ) or self._ledger.containers.cap_cores <= limit_cores
        return self._cpu_was_open

    def _held_by_shrink(self) -> list[Waited]:
        table, limits = self._ledger.containers, self._limits
        return self._shrinks.held(
            self._ledger.queue,
            table,
            cores=self._capacity.cpu_cores,
            cpu_fraction=limits.cpu_fraction,
            used_cores=self._cpu_cores,
            room_mb=self._memory.room_mb() + table.idle_mb,
            starts=limits.max_starts - table.starting_count,
        )

    def validate(self) -> None:
        """Raises AssertionError where the parts of the state contradict each other. O(everything)."""
        self._ledger.validate()
        assert self._ledger.containers.starting_count <= self._limits.max_starts
        if self._draining:
            assert self.queued == 0
