"""What generated traces show, measured so that the window does not distort it.

**Lives.** Who averages over the lives that end in a window, or over those alive at a moment, gets them wrong: long
lives are cut by the window's ends, and met more often at a moment. So a life counts if it *begins* in the window at
least `LONGEST_LIFE_S` before its end: all of these are seen whole, and that one begins says nothing of how long it
lasts. (The lives going on at 0 are left out: they began before.) **Intervals** likewise: one counts if it begins,
with a change, at least `LONGEST_INTERVAL_S` before the life and the window end. Counting all that complete would
leave out about one in 650, the last of each life, and that one is long more often than others. **Sizes** of changes
need no such care.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fallow.traces.generated.draws import Flags, Floats, Ints
from fallow.traces.generated.invocations import Calls
from fallow.traces.generated.published import CORE_CHANGE_INTERVAL_S, LONG_CALL_S, VM_LIFETIME_S
from fallow.traces.generated.vms import Lives
from fallow.traces.vms import VmTrace

LONGEST_LIFE_S = VM_LIFETIME_S.points[-1][1]
LONGEST_INTERVAL_S = CORE_CHANGE_INTERVAL_S.points[-1][1]


@dataclass(frozen=True, slots=True, kw_only=True)
class VmFigures:
    lifetime_s: Floats  # of every life seen whole
    shrank: Flags  # by life seen whole, whether it did at least once
    grew: Flags
    interval_s: Floats
    change: Floats  # cores added (or, below 0, taken) by every change
    least_cores: float
    most_cores: float


def whole_lives(lives: Lives, window_s: float) -> Floats:
    """How long those lives last that count."""
    begins = (lives.born_s > 0) & (lives.born_s <= window_s - LONGEST_LIFE_S)
    lasts: Floats = (lives.end_s - lives.born_s)[begins]
    return lasts


def vm_figures(traces: Sequence[VmTrace], window_s: float) -> VmFigures:
    """Raises ValueError where a life that should be seen whole has no end."""
    at_s, cores = np.array([step for trace in traces for step in trace.steps]).T
    first = np.zeros(len(at_s), dtype=bool)
    first[list(itertools.accumulate([0, *(len(trace.steps) for trace in traces[:-1])]))] = True
    alive = cores > 0
    was_alive = np.append(False, alive[:-1]) & ~first
    joins, changes, ends = alive & ~was_alive, alive & was_alive, ~alive
    life = np.cumsum(joins) - 1
    end_s = np.full(int(joins.sum()), np.inf)
    end_s[life[ends]] = at_s[ends]
    change = np.diff(cores, prepend=0.0)[changes]
    whole = (at_s[joins] > 0) & (at_s[joins] <= window_s - LONGEST_LIFE_S)
    if not np.isfinite(end_s[whole]).all():
        raise ValueError(f"a life lasts longer than the longest published, {LONGEST_LIFE_S:g} s")
    return VmFigures(
        lifetime_s=(end_s - at_s[joins])[whole],
        shrank=np.bincount(life[changes], weights=change < 0, minlength=len(end_s))[whole] > 0,
        grew=np.bincount(life[changes], weights=change > 0, minlength=len(end_s))[whole] > 0,
        interval_s=_intervals(at_s, changes, np.minimum(end_s, window_s)[life]),
        change=change,
        least_cores=float(cores[alive].min()),
        most_cores=float(cores.max()),
    )


def _intervals(at_s: Floats, changes: Flags, stop_s: Floats) -> Floats:
    """From one change to the next; those that count."""
    between = changes[1:] & changes[:-1] & (at_s[:-1] <= stop_s[:-1] - LONGEST_INTERVAL_S)
    intervals: Floats = np.diff(at_s)[between]
    return intervals


def long_app_shares(calls: Calls) -> tuple[float, float]:
    """The share of apps with at least one call above 30 s, of those with a call; their share of the execution time."""
    app: Ints = calls.app[calls.function]
    long = np.unique(app[calls.duration_s > LONG_CALL_S])
    time_s = np.bincount(app, weights=calls.duration_s)
    return len(long) / len(np.unique(app)), float(time_s[long].sum() / time_s.sum())


def own_gaps(calls: Calls) -> tuple[Ints, Floats]:
    """Of every two successive calls of one function: the function, and the seconds between them."""
    order = np.lexsort((calls.at_s, calls.function))
    function, at_s = calls.function[order], calls.at_s[order]
    same = function[1:] == function[:-1]
    return function[1:][same], np.diff(at_s)[same]
