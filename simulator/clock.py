"""Virtual time: a heap of the moments at which something is to happen, and what that is."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

_Event = tuple[Callable[..., None], tuple[Any, ...]]


class VirtualClock:
    """Runs what was scheduled in order of time; what falls on one moment, in the order it was scheduled.

    Nothing is ever taken out: what was overtaken by events finds that out by itself when its time comes.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self.events = 0  # run so far
        self._moments: list[float] = []  # a heap of bare numbers: they compare faster than events would
        self._due: dict[float, list[_Event]] = {}  # by moment

    def at(self, at_s: float, what: Callable[..., None], *args: Any) -> None:
        """Raises ValueError for a moment that has passed."""
        if at_s < self.now_s:
            raise ValueError(f"{at_s} s has passed: it is {self.now_s} s")
        self._add(at_s, (what, args))

    def after(self, delay_s: float, what: Callable[..., None], *args: Any) -> None:
        """The same, `delay_s` >= 0 from now."""
        self._add(self.now_s + delay_s, (what, args))

    def _add(self, at_s: float, event: _Event) -> None:
        due = self._due.get(at_s)
        if due is None:
            self._due[at_s] = [event]
            heappush(self._moments, at_s)
        else:
            due.append(event)

    def run(self, until_s: float) -> None:
        """Until nothing is left or the next event is later than `until_s`; then it is `until_s`."""
        moments = self._moments
        while moments and moments[0] <= until_s:
            self.now_s = heappop(moments)
            due = self._due[self.now_s]
            for what, args in due:  # those among them that are added meanwhile, for this very moment
                what(*args)
            self.events += len(due)
            del self._due[self.now_s]
        if until_s != float("inf"):
            self.now_s = max(self.now_s, until_s)
