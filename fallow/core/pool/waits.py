"""Why calls wait on a VM, and for how long: the clock of its queue, and the cores each call has seen there.

**Queue.** After every event the pool knows why what still waits could not start: its CPU is busy, or it is not and the
call finds no memory, or as many containers start as may. That reason holds for every call of the queue until the next
event, so three running totals are enough: a call takes their reading when it enters the queue and again when it leaves.

**Shrink.** Of the time for which the CPU was busy, a call is told apart for which it would have been let in with the
most cores the VM had since the call came: by the same rule, behind the calls whose turn comes before it (as far as
those would have been let in), and only if it then had a container or memory for one. What is measured on a VM that
shrank is what its cores allow and not what its calls would use, so the most that was measured before counts.

Example: 4 cores, of which 90 % are given; three calls with a weight of 1 run, two more wait for a container that may
start, and the VM shrinks to 2 cores. With 4 cores the rule is 3 <= 3.6 for the first of them, so the shrink keeps it
waiting; for the second it is 3 + 1 <= 3.6, so it would have waited anyway: for the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from fallow.core.attempt_waits import AttemptWaits


class QueueCause(IntEnum):
    """Why the calls of a VM's queue do not start; the numbers are places in a reading."""

    CPU = 0
    MEMORY = 1
    STARTS = 2


Reading = tuple[float, float, float]


@dataclass(slots=True, kw_only=True, eq=False)
class Waited:
    """What one call has waited for so far. Mutable, kept by its PoolCall."""

    by_cause: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    shrink_s: float = 0.0  # is in by_cause[CPU] too
    start_s: float = 0.0
    entered: Reading = (0.0, 0.0, 0.0)
    awaits_since_s: float = 0.0

    def told(self) -> AttemptWaits | None:
        """None = it waited for nothing."""
        cpu_s, memory_s, starts_s = self.by_cause
        if not (cpu_s or memory_s or starts_s or self.start_s):
            return None
        shrink_s = min(self.shrink_s, cpu_s)
        return AttemptWaits(
            cpu_s=cpu_s - shrink_s, memory_s=memory_s, starts_s=starts_s, shrink_s=shrink_s, start_s=self.start_s
        )


class QueueClock:
    """Totals of the time for which the queue stood still, by cause."""

    __slots__ = ("_at_s", "_cause", "_shrunk", "_totals")

    def __init__(self) -> None:
        self._totals = [0.0, 0.0, 0.0]
        self._at_s = 0.0
        self._cause: QueueCause | None = None  # None = nothing waits
        self._shrunk: Sequence[Waited] = ()

    def advance(self, now_s: float) -> None:
        """Charge the time since the last event to what was the cause then. O(calls held up by a shrink)."""
        if self._cause is not None:
            span_s = now_s - self._at_s
            self._totals[self._cause] += span_s
            for waited in self._shrunk:
                waited.shrink_s += span_s
        self._at_s = now_s

    def set(self, cause: QueueCause | None, shrunk: Sequence[Waited] = ()) -> None:
        """From now on this is why nothing starts; `shrunk` are those whom a shrink keeps waiting (cause CPU)."""
        self._cause = cause
        self._shrunk = shrunk

    def enters(self, waited: Waited) -> None:
        waited.entered = (self._totals[0], self._totals[1], self._totals[2])

    def leaves(self, waited: Waited) -> None:
        for cause in QueueCause:
            waited.by_cause[cause] += self._totals[cause] - waited.entered[cause]


class CoresSeen:
    """The VM's cores while one attempt is there; made at the first change, so that most attempts have none.

    Times are of the process's monotonic clock; `throttled_s` is a counter that only grows (None = cannot be read).
    """

    __slots__ = ("_mark", "_running", "_shrunk_run_s", "_throttled_s", "first", "last", "least", "most")

    def __init__(self, cores: float, *, running: bool) -> None:
        """`cores` are those before the change that is told next."""
        self.first = self.most = self.least = self.last = cores
        self._running = running
        self._shrunk_run_s = 0.0
        self._throttled_s: float | None = 0.0
        self._mark: tuple[float, float | None] | None = None  # since when it runs below the most, and the counter then

    def changed(self, cores: float, now_s: float, throttled_s: float | None) -> None:
        self._close(now_s, throttled_s)
        self.last = cores
        self.most, self.least = max(self.most, cores), min(self.least, cores)
        self._open(now_s, throttled_s)

    def began(self, now_s: float, throttled_s: float | None) -> None:
        """Its init or run starts."""
        self._running = True
        self._open(now_s, throttled_s)

    def told(self, waits: AttemptWaits | None, now_s: float, throttled_s: float | None, note: str) -> AttemptWaits:
        """`waits` with what was seen; the attempt ends now. `note` says why throttling cannot be measured."""
        self._close(now_s, throttled_s)
        shrunk = self._shrunk_run_s > 0
        measured = self._throttled_s if shrunk else None
        base = waits or AttemptWaits()
        return AttemptWaits(
            cpu_s=base.cpu_s,
            memory_s=base.memory_s,
            starts_s=base.starts_s,
            shrink_s=base.shrink_s,
            start_s=base.start_s,
            cores_first=self.first,
            cores_most=self.most,
            cores_least=self.least,
            cores_last=self.last,
            shrunk_run_s=self._shrunk_run_s,
            throttled_s=measured,
            throttled_note=note if shrunk and measured is None else "",
        )

    def _open(self, now_s: float, throttled_s: float | None) -> None:
        if self._running and self.last < self.most:
            self._mark = (now_s, throttled_s)

    def _close(self, now_s: float, throttled_s: float | None) -> None:
        if self._mark is None:
            return
        since_s, before_s = self._mark
        self._mark = None
        self._shrunk_run_s += max(0.0, now_s - since_s)
        if self._throttled_s is None or before_s is None or throttled_s is None:
            self._throttled_s = None
        else:
            self._throttled_s += max(0.0, throttled_s - before_s)
