"""The containers of one VM, indexed by what the pool asks of them. Only this file moves them along their lifecycle."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TypeVar

from fallow.core.lifecycle import ContainerEvent, ContainerLifecycle, ContainerState
from fallow.core.model import ContainerId
from fallow.core.pool.queue import CodeKey, PoolCall, Stock

IDLE = (ContainerState.PREWARMED, ContainerState.READY)


class Container:
    """One container. `call` = the one it starts for, or runs."""

    __slots__ = ("call", "code_key", "held_mb", "id", "idle_since_s", "lifecycle", "memory_mb", "resident_mb", "stock")

    def __init__(self, container_id: ContainerId, stock: Stock, call: PoolCall | None) -> None:
        self.id = container_id
        self.stock = stock
        self.memory_mb = stock[1]  # its limit
        self.held_mb: float = stock[1]  # what it counts for now: its limit, or while it is idle what it has resident
        self.resident_mb: float | None = None  # when it was last measured idle; None = never
        self.lifecycle = ContainerLifecycle()
        self.call = call
        self.code_key: CodeKey | None = None  # set for good by the first call
        self.idle_since_s = 0.0

    @property
    def state(self) -> ContainerState:
        return self.lifecycle.state


K = TypeVar("K")


def remove_from(index: dict[K, dict[ContainerId, Container]], key: K, container: Container) -> None:
    """Take it out of an index that keeps no empty groups."""
    del index[key][container.id]
    if not index[key]:
        del index[key]


class ContainerTable:
    """All containers that hold memory. Every operation is O(1) but `orphan` (O(starting)) and the iterators."""

    def __init__(self) -> None:
        self._all: dict[ContainerId, Container] = {}
        self._next_id = 1
        # Insertion order is the order of becoming idle, so the first is the oldest and the last the most recently used.
        self._idle: dict[ContainerId, Container] = {}
        self._ready: dict[CodeKey, dict[ContainerId, Container]] = {}
        self._prewarmed: dict[Stock, dict[ContainerId, Container]] = {}
        self._starting: dict[ContainerId, Container] = {}
        self._busy: dict[ContainerId, Container] = {}
        self._reserved_mb = 0.0
        self._destroying_mb = 0.0
        self._idle_mb = 0.0

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Container]:
        return iter(self._all.values())

    def get(self, container_id: ContainerId) -> Container | None:
        return self._all.get(container_id)

    @property
    def reserved_mb(self) -> float:
        """What all containers hold, those being destroyed included: their memory is not free yet."""
        return self._reserved_mb

    @property
    def destroying_mb(self) -> float:
        return self._destroying_mb

    @property
    def starting(self) -> Iterable[Container]:
        return self._starting.values()

    @property
    def cap_cores(self) -> float:
        """The weights of the calls that run or have a container that starts for them. O(containers that do)."""
        containers = (*self._busy.values(), *self._starting.values())
        return sum(c.call.cap_cores for c in containers if c.call is not None)

    @property
    def idle(self) -> Iterable[Container]:
        """Oldest first."""
        return self._idle.values()

    @property
    def idle_mb(self) -> float:
        return self._idle_mb

    @property
    def starting_count(self) -> int:
        return len(self._starting)

    @property
    def busy_count(self) -> int:
        return len(self._busy)

    @property
    def ready_count(self) -> int:
        return sum(len(containers) for containers in self._ready.values())

    def oldest_idle(self, *, but: Container | None = None) -> Container | None:
        return next((container for container in self._idle.values() if container is not but), None)

    def warmest(self, code_key: CodeKey) -> Container | None:
        """The most recently used idle one with this code, so that the others age out."""
        containers = self._ready.get(code_key)
        return containers[next(reversed(containers))] if containers else None

    def warm_among(self, code_keys: Collection[CodeKey]) -> list[CodeKey]:
        """Those that an idle container holds the code of. O(the fewer of both)."""
        if len(self._ready) < len(code_keys):
            return [key for key in self._ready if key in code_keys]
        return [key for key in code_keys if key in self._ready]

    def prewarmed(self, stock: Stock) -> Container | None:
        containers = self._prewarmed.get(stock)
        return containers[next(iter(containers))] if containers else None

    def orphan(self, stock: Stock) -> Container | None:
        """A starting one that no call waits for."""
        return next((c for c in self._starting.values() if c.call is None and c.stock == stock), None)

    def count_unused(self, stock: Stock) -> int:
        """Prewarmed ones, and starting ones that no call waits for."""
        starting = sum(c.call is None and c.stock == stock for c in self._starting.values())
        return len(self._prewarmed.get(stock, ())) + starting

    def start(self, stock: Stock, call: PoolCall | None) -> Container:
        container = Container(ContainerId(self._next_id), stock, call)
        self._next_id += 1
        self._all[container.id] = self._starting[container.id] = container
        self._reserved_mb += container.held_mb
        return container

    def measured(self, container: Container, resident_mb: float) -> None:
        """What an idle container has resident."""
        container.resident_mb = resident_mb
        self._hold(container, resident_mb)

    def started(self, container: Container, now_s: float) -> None:
        container.lifecycle.advance(ContainerEvent.STARTED)
        del self._starting[container.id]
        self._prewarmed.setdefault(container.stock, {})[container.id] = container
        self._set_idle(container, now_s)

    def take(self, container: Container, call: PoolCall) -> None:
        """Give an idle container a call. Raises ValueError where another action's code is in it."""
        code_key = call.code_key
        if container.code_key not in (None, code_key):
            raise ValueError(f"container {container.id} holds {container.code_key}, the call needs {code_key}")
        self._leave_idle(container)
        self._hold(container, container.memory_mb)
        container.lifecycle.advance(ContainerEvent.TAKEN)
        container.code_key = code_key
        container.call = call
        self._busy[container.id] = container

    def release(self, container: Container, now_s: float) -> None:
        container.lifecycle.advance(ContainerEvent.RELEASED)
        assert container.code_key is not None
        del self._busy[container.id]
        container.call = None
        self._ready.setdefault(container.code_key, {})[container.id] = container
        self._set_idle(container, now_s)

    def destroy(self, container: Container) -> None:
        """Its memory stays reserved until `gone`."""
        self._leave_indexes(container)
        container.lifecycle.advance(ContainerEvent.DESTROY)
        container.call = None
        self._destroying_mb += container.held_mb

    def gone(self, container: Container, event: ContainerEvent) -> None:
        """DESTROYED, START_FAILED or DIED: forget it and free its memory."""
        if container.state is ContainerState.DESTROYING:
            self._destroying_mb -= container.held_mb
        else:
            self._leave_indexes(container)
        container.lifecycle.advance(event)
        del self._all[container.id]
        self._reserved_mb -= container.held_mb
        if not self._all:
            self._reserved_mb = self._destroying_mb = 0.0  # exactly: no rounding error may pile up

    def _hold(self, container: Container, held_mb: float) -> None:
        change_mb = held_mb - container.held_mb
        container.held_mb = held_mb
        self._reserved_mb += change_mb
        if container.id in self._idle:
            self._idle_mb += change_mb

    def _set_idle(self, container: Container, now_s: float) -> None:
        container.idle_since_s = now_s
        self._idle[container.id] = container
        self._idle_mb += container.held_mb
        if container.resident_mb is not None:  # until it is measured anew: most runs leave as much as the one before
            self._hold(container, container.resident_mb)

    def _leave_idle(self, container: Container) -> None:
        del self._idle[container.id]
        self._idle_mb = self._idle_mb - container.held_mb if self._idle else 0.0
        if container.code_key is None:
            remove_from(self._prewarmed, container.stock, container)
        else:
            remove_from(self._ready, container.code_key, container)

    def _leave_indexes(self, container: Container) -> None:
        if container.state in IDLE:
            self._leave_idle(container)
        self._starting.pop(container.id, None)
        self._busy.pop(container.id, None)

    def validate(self) -> None:
        """Raises AssertionError where an index or a sum disagrees with the containers' states."""
        by_state = {state: [c.id for c in self if c.state is state] for state in ContainerState}
        assert not by_state[ContainerState.GONE]
        assert sorted(self._starting) == sorted(by_state[ContainerState.STARTING])
        assert sorted(self._busy) == sorted(by_state[ContainerState.BUSY])
        assert sorted(self._idle) == sorted(by_state[ContainerState.READY] + by_state[ContainerState.PREWARMED])
        assert {c for group in self._ready.values() for c in group} == set(by_state[ContainerState.READY])
        assert {c for group in self._prewarmed.values() for c in group} == set(by_state[ContainerState.PREWARMED])
        assert abs(self._reserved_mb - sum(c.held_mb for c in self)) < 1e-3
        assert abs(self._idle_mb - sum(c.held_mb for c in self if c.state in IDLE)) < 1e-3
        destroying_mb = sum(c.held_mb for c in self if c.state is ContainerState.DESTROYING)
        assert abs(self._destroying_mb - destroying_mb) < 1e-3
        for container in self:
            assert container.held_mb == container.memory_mb or container.state not in (
                ContainerState.STARTING,
                ContainerState.BUSY,
            )
            assert (container.call is not None) >= (container.state is ContainerState.BUSY)
            assert container.call is None or container.state in (ContainerState.BUSY, ContainerState.STARTING)
            if container.state is ContainerState.BUSY and container.call is not None:
                assert container.call.action.container_key == container.code_key
