"""The controller's waiting room: calls that no VM can take now.

Turns go round-robin over namespaces, within a namespace round-robin over its actions, and first come first served
within an action. So a namespace with a thousand waiting calls delays another's one call by one turn; and a call that
may not be placed now (its runtime or its kind of VM is missing) holds back only its own action's calls.

The order is kept by rotating OrderedDicts, which makes every step O(1) (a plain dict would walk over the holes that the
entries removed from its front leave). A pass stops after a fixed number of tries that failed
and the next one goes on where it stopped, so its cost does not grow with what waits.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class WaitingRoom(Generic[T]):
    """Unbounded by itself: its owner looks at `count` and `size_bytes` before it adds."""

    __slots__ = ("_places", "_queues", "size_bytes")

    def __init__(self) -> None:
        # namespace -> action -> id -> call
        self._queues: OrderedDict[str, OrderedDict[Hashable, OrderedDict[str, T]]] = (
            OrderedDict()
        )  # namespace -> action -> id -> call
        self._places: dict[str, tuple[str, Hashable, int]] = {}  # id -> (namespace, action, bytes)
        self.size_bytes = 0

    def __contains__(self, call_id: str) -> bool:
        return call_id in self._places

    def __iter__(self) -> Iterator[T]:
        for actions in self._queues.values():
            for calls in actions.values():
                yield from calls.values()

    def get(self, call_id: str) -> T | None:
        place = self._places.get(call_id)
        return None if place is None else self._queues[place[0]][place[1]][call_id]

    @property
    def count(self) -> int:
        return len(self._places)

    def holds_action(self, namespace: str, action: Hashable) -> bool:
        """Does a call of this action wait here? Then a new one has to wait behind it."""
        actions = self._queues.get(namespace)
        return actions is not None and action in actions

    def add(self, call_id: str, namespace: str, action: Hashable, size_bytes: int, call: T) -> None:
        """Queue a call. Raises ValueError if it is here already."""
        if call_id in self._places:
            raise ValueError(f"{call_id} waits already")
        self._places[call_id] = (namespace, action, size_bytes)
        actions = self._queues.setdefault(namespace, OrderedDict())
        actions.setdefault(action, OrderedDict())[call_id] = call
        self.size_bytes += size_bytes

    def remove(self, call_id: str) -> None:
        """Take a call out. Raises KeyError if it is not here."""
        namespace, action, size_bytes = self._places.pop(call_id)
        self.size_bytes -= size_bytes
        actions = self._queues[namespace]
        del actions[action][call_id]
        if not actions[action]:
            del actions[action]
            if not actions:
                del self._queues[namespace]

    def offer(self, take: Callable[[T], bool], *, tries: int, takes: int) -> int:
        """Offer room to the waiting calls in turn; `take` says whether the call was placed. Returns how many were.

        Ends after `tries` refused offers, `takes` accepted ones, or one refusal of every action. `take` must not touch
        the room.
        """
        taken = left = 0
        refused: dict[str, set[Hashable]] = {}  # asked for membership only, never walked
        exhausted: set[str] = set()  # namespaces that refused with every action they have
        while taken < takes and left < tries and len(exhausted) < len(self._queues):
            namespace, actions = next(iter(self._queues.items()))
            self._queues.move_to_end(namespace)
            if namespace in exhausted:
                continue
            action, calls = next(iter(actions.items()))
            actions.move_to_end(action)
            mine = refused.setdefault(namespace, set())
            if action not in mine:
                call_id, call = next(iter(calls.items()))
                if take(call):
                    self.remove(call_id)
                    taken += 1
                else:
                    mine.add(action)
                    left += 1
            if mine and len(mine) == len(actions):
                exhausted.add(namespace)
        return taken
