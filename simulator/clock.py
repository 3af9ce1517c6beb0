"""Virtual time: a heap of what is to happen, and when."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

_Entry = tuple[float, int, Callable[..., None], tuple[Any, ...]]


class VirtualClock:
    """Runs what was scheduled in order of time; what falls on one moment, in the order it was scheduled.

    Nothing is ever taken out of the heap: what was overtaken by events finds that out by itself when its time comes.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self.events = 0  # run so far
        self._heap: list[_Entry] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._heap)

    def at(self, at_s: float, what: Callable[..., None], *args: Any) -> None:
        """Raises ValueError for a moment that has passed."""
        if at_s < self.now_s:
            raise ValueError(f"{at_s} s has passed: it is {self.now_s} s")
        self._number += 1
        heappush(self._heap, (at_s, self._number, what, args))

    def after(self, delay_s: float, what: Callable[..., None], *args: Any) -> None:
        """The same, `delay_s` >= 0 from now."""
        self._number += 1
        heappush(self._heap, (self.now_s + delay_s, self._number, what, args))

    def run(self, until_s: float) -> None:
        """Until nothing is left or the next event is later than `until_s`; then it is `until_s`."""
        heap = self._heap
        events = 0
        while heap and heap[0][0] <= until_s:
            self.now_s, _, what, args = heappop(heap)
            what(*args)
            events += 1
        self.events += events
        if until_s != float("inf"):
            self.now_s = max(self.now_s, until_s)
