"""The calls that wait on one VM for a container: first in, first out within a namespace, by turns over namespaces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fallow.core.model import ActionSpec, ActivationId, ContainerId, ControllerId
from fallow.core.pool.waits import QueueClock, Waited

CallKey = tuple[ActivationId, int]  # activation and attempt: an attempt is one call here
Stock = tuple[str, int]  # kind and memory_mb: what a container without code is told apart by
CodeKey = tuple[str, str, str]  # ActionSpec.container_key: namespace, name, revision


@dataclass(slots=True, kw_only=True, eq=False)
class PoolCall:
    """One attempt that is on this VM: queued, promised a container that is starting, or running."""

    controller_id: ControllerId
    activation_id: ActivationId
    attempt: int
    action: ActionSpec
    payload_bytes: int
    cap_cores: float
    arrived_s: float
    container_id: ContainerId | None = None  # the one that starts for it, or that it runs in
    failed_starts: int = 0
    cores_most: float = 0.0  # of the VM since the call came; kept up to date while it is queued
    waited: Waited | None = None  # None = it has not waited so far
    code_key: CodeKey = field(init=False)  # of a warm container that could serve it
    stock: Stock = field(init=False)  # of a new or prewarmed one

    def __post_init__(self) -> None:
        self.code_key = self.action.container_key
        self.stock = (self.action.container_kind, self.action.memory_mb)

    @property
    def key(self) -> CallKey:
        return (self.activation_id, self.attempt)


class CallQueue:
    """Calls without a container. `turns()` costs O(n); everything else O(1) or O(namespaces)."""

    def __init__(self) -> None:
        # Both dicts are ordered: the namespace whose turn is next comes first, and so does its oldest call.
        self._by_namespace: dict[str, dict[CallKey, PoolCall]] = {}
        self._needs: dict[Stock, dict[CodeKey, int]] = {}
        self._calls = 0
        self._bytes = 0
        self.clock = QueueClock()

    def __len__(self) -> int:
        return self._calls

    @property
    def payload_bytes(self) -> int:
        """Size of the arguments of all that wait."""
        return self._bytes

    @property
    def needs(self) -> Mapping[Stock, Mapping[CodeKey, int]]:
        """How many calls of each action wait, by the container that they need. In no order that means anything."""
        return self._needs

    def add(self, call: PoolCall) -> None:
        self._by_namespace.setdefault(call.action.caller_namespace, {})[call.key] = call
        actions = self._needs.setdefault(call.stock, {})
        actions[call.code_key] = actions.get(call.code_key, 0) + 1
        self._calls += 1
        self._bytes += call.payload_bytes
        if call.waited is None:
            call.waited = Waited()
        self.clock.enters(call.waited)

    def put_back(self, call: PoolCall) -> None:
        """Add a call that had left, at the place its arrival gives it. O(calls of its namespace)."""
        self.add(call)
        calls = self._by_namespace[call.action.caller_namespace]
        in_order = sorted(calls.items(), key=lambda item: item[1].arrived_s)
        calls.clear()
        calls.update(in_order)

    def remove(self, call: PoolCall, *, served: bool) -> None:
        """Take a call out; `served` = it got a container, so its namespace goes to the end of the turns."""
        namespace = call.action.caller_namespace
        calls = self._by_namespace[namespace]
        del calls[call.key]
        self._needed_no_more(call)
        self._calls -= 1
        self._bytes -= call.payload_bytes
        if call.waited is not None:
            self.clock.leaves(call.waited)
        if not calls:
            del self._by_namespace[namespace]
        elif served:
            self._by_namespace[namespace] = self._by_namespace.pop(namespace)

    def _needed_no_more(self, call: PoolCall) -> None:
        actions = self._needs[call.stock]
        actions[call.code_key] -= 1
        if not actions[call.code_key]:
            del actions[call.code_key]
        if not actions:
            del self._needs[call.stock]

    def __contains__(self, call: PoolCall) -> bool:
        return call.key in self._by_namespace.get(call.action.caller_namespace, {})

    def oldest(self) -> PoolCall | None:
        """The call that has waited longest."""
        if not self._by_namespace:
            return None  # the usual case, asked for with every call
        heads = (next(iter(calls.values())) for calls in self._by_namespace.values())
        return min(heads, key=lambda call: call.arrived_s, default=None)

    def turns(self) -> Iterator[PoolCall]:
        """Every call: the oldest of each namespace in the order of turns, then the second oldest of each, and so on.

        A snapshot: calls may be removed meanwhile.
        """
        lines = [list(calls.values()) for calls in self._by_namespace.values()]
        depth = 0
        while lines:
            for line in lines:
                yield line[depth]
            depth += 1
            lines = [line for line in lines if len(line) > depth]

    def waiting_since(self, moment_s: float) -> list[PoolCall]:
        """Those that arrived at `moment_s` or before."""
        found = []
        for calls in self._by_namespace.values():
            for call in calls.values():
                if call.arrived_s > moment_s:
                    break
                found.append(call)
        return found

    def validate(self) -> None:
        """Raises AssertionError where the counts do not agree with what waits."""
        calls = list(self.turns())
        assert len(calls) == self._calls
        assert sum(call.payload_bytes for call in calls) == self._bytes
        assert all(self._by_namespace.values())
        needs: dict[Stock, Counter[CodeKey]] = {}
        for call in calls:
            needs.setdefault(call.stock, Counter())[call.code_key] += 1
        assert needs == self._needs
        assert all(call.container_id is None for call in calls)
