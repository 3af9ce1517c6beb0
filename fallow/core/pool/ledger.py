"""What is on one VM: its calls, its containers, and every joint move of the two, each with the instruction it means.

`PoolState` decides which move; here each is whole, so that no decision can leave a call in two places or in none.
"""

from __future__ import annotations

from dataclasses import dataclass

from fallow.core.attempt_waits import AttemptWaits
from fallow.core.lifecycle import ContainerState
from fallow.core.model import ActivationId, ContainerId, ReturnReason
from fallow.core.pool.containers import IDLE, Container, ContainerTable
from fallow.core.pool.events import (
    AbandonRun,
    DestroyContainer,
    FailUnstarted,
    PoolInstruction,
    ReturnUnstarted,
    RunInContainer,
    StartContainer,
)
from fallow.core.pool.queue import CallKey, CallQueue, CodeKey, PoolCall, Stock
from fallow.core.pool.waits import Waited


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerView:
    """A container as status pages show it."""

    id: ContainerId
    state: ContainerState
    kind: str
    memory_mb: int
    code_key: CodeKey | None  # (namespace, name, revision); None = no code in it yet
    activation_id: ActivationId | None  # what it runs or starts for
    idle_since_s: float | None


class PoolLedger:
    """Calls, queue and containers, and the instructions collected since `take_instructions`."""

    def __init__(self) -> None:
        self.containers = ContainerTable()
        self.calls: dict[CallKey, PoolCall] = {}  # everything that is here, by arrival
        self.queue = CallQueue()
        self.awaiting: dict[CodeKey, dict[CallKey, PoolCall]] = {}  # each has a container that starts for it
        self.awaiting_count = 0
        self.now_s = 0.0  # of the event that is being handled
        self._out: list[PoolInstruction] = []

    def take_instructions(self) -> list[PoolInstruction]:
        out, self._out = self._out, []
        return out

    def views(self) -> list[ContainerView]:
        return [
            ContainerView(
                id=c.id,
                state=c.state,
                kind=c.stock[0],
                memory_mb=c.memory_mb,
                code_key=c.code_key,
                activation_id=c.call.activation_id if c.call else None,
                idle_since_s=c.idle_since_s if c.state in IDLE else None,
            )
            for c in self.containers
        ]

    def is_running(self, call: PoolCall) -> bool:
        container = self.containers.get(call.container_id) if call.container_id is not None else None
        return container is not None and container.state is ContainerState.BUSY

    def run(self, call: PoolCall, container: Container, *, prewarmed: bool) -> None:
        init = container.code_key is None
        self._leave_queue(call)
        self.containers.take(container, call)
        call.container_id = container.id
        self._out.append(
            RunInContainer(
                container_id=container.id,
                activation_id=call.activation_id,
                attempt=call.attempt,
                init=init,
                prewarmed=prewarmed,
                waited=_told(call),
            )
        )

    def wait_for(self, call: PoolCall, container: Container) -> None:
        self._leave_queue(call)
        container.call = call
        call.container_id = container.id
        self.awaiting.setdefault(call.code_key, {})[call.key] = call
        self.awaiting_count += 1
        if call.waited is None:
            call.waited = Waited()
        call.waited.awaits_since_s = self.now_s

    def stop_awaiting(self, call: PoolCall) -> None:
        """The container that starts for it, if it still does, is anyone's."""
        waiting = self.awaiting[call.code_key]
        del waiting[call.key]
        if not waiting:
            del self.awaiting[call.code_key]
        self.awaiting_count -= 1
        container = self.containers.get(call.container_id) if call.container_id is not None else None
        if container is not None:
            container.call = None
        call.container_id = None
        if call.waited is not None:
            call.waited.start_s += self.now_s - call.waited.awaits_since_s

    def _leave_queue(self, call: PoolCall) -> None:
        if call in self.queue:
            self.queue.remove(call, served=True)

    def withdraw(self, call: PoolCall, reason: ReturnReason) -> None:
        if call in self.queue:
            self.queue.remove(call, served=False)
        else:
            self.stop_awaiting(call)
        self.give_back(call, reason)

    def give_back(self, call: PoolCall, reason: ReturnReason) -> None:
        del self.calls[call.key]
        self._out.append(
            ReturnUnstarted(
                controller_id=call.controller_id,
                activation_id=call.activation_id,
                attempt=call.attempt,
                reason=reason,
                waited=_told(call),
            )
        )

    def fail(self, call: PoolCall, error: str, *, developer_error: str = "") -> None:
        """Of a call that neither waits nor runs any more."""
        del self.calls[call.key]
        self._out.append(
            FailUnstarted(
                controller_id=call.controller_id,
                activation_id=call.activation_id,
                attempt=call.attempt,
                error=error,
                developer_error=developer_error,
                waited=_told(call),
            )
        )

    def fail_waiting(self, stock: Stock, error: str, developer_error: str) -> None:
        """Of queued calls that would start such a container in vain. Those stay whose action has one that serves: it
        may serve them. O(queue + containers)."""
        served = {c.code_key for c in self.containers if c.state in (ContainerState.READY, ContainerState.BUSY)}
        for call in self.queue.turns():
            if call.stock == stock and call.code_key not in served:
                self.queue.remove(call, served=False)
                self.fail(call, error, developer_error=developer_error)

    def abandon(self, call: PoolCall, container: Container) -> None:
        """Of a cancelled call that runs in the container."""
        self._out.append(AbandonRun(container_id=container.id, activation_id=call.activation_id, attempt=call.attempt))
        self.destroy(container, "its call was cancelled")

    def start(self, stock: Stock, call: PoolCall | None) -> Container:
        container = self.containers.start(stock, call)
        self._out.append(
            StartContainer(
                container_id=container.id,
                kind=stock[0],
                memory_mb=stock[1],
                cap_cores=call.cap_cores if call else 1.0,
                prewarm=call is None,
            )
        )
        return container

    def destroy(self, container: Container, reason: str) -> None:
        self.containers.destroy(container)
        self._out.append(DestroyContainer(container_id=container.id, reason=reason))

    def validate(self) -> None:
        """Raises AssertionError where the parts of the state contradict each other. O(everything)."""
        self.containers.validate()
        self.queue.validate()
        awaiting = [call for calls in self.awaiting.values() for call in calls.values()]
        assert len(awaiting) == self.awaiting_count
        assert len(self.calls) == len(self.queue) + len(awaiting) + self.containers.busy_count
        for call in awaiting:
            assert call.container_id is not None
            container = self.containers.get(call.container_id)
            assert container is not None
            assert container.state is ContainerState.STARTING
            assert container.call is call
        for container in self.containers:
            assert container.call is None or self.calls[container.call.key] is container.call


def _told(call: PoolCall) -> AttemptWaits | None:
    return None if call.waited is None else call.waited.told()
