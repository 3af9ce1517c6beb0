"""Azure Functions Trace 2019: calls per minute and function, percentiles of durations, memory per app.

**Calls.** A timer's calls of a minute are evenly spaced, at a phase of its own; all others are at random moments of
their minute. **Durations.** Each call draws a quantile, and the value between the percentile columns on either side of
it, linearly (many are 0 ms, so not log-linearly). Both by seed, with a stream for every function, so that a function's
calls do not depend on which others are read. **Memory.** AverageAllocatedMb of the app, for each of its functions.
The trace's zero is the first minute column that the file holds.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from fallow.traces.azure.csvfile import CsvFile
from fallow.traces.azure.functions import CPU_NOTE, DEFAULT_MEMORY_MB, MAX_MEMORY_MB, MIN_MEMORY_MB, FunctionTable
from fallow.traces.errors import TraceError
from fallow.traces.generated.published import interpolate
from fallow.traces.model import InvocationTrace, TraceCall

KEY_COLUMNS = ("HashOwner", "HashApp", "HashFunction")
INVOCATION_COLUMNS = (*KEY_COLUMNS, "Trigger")
PERCENTILES = (0, 1, 25, 50, 75, 99, 100)
DURATION_COLUMNS = (*KEY_COLUMNS, *(f"percentile_Average_{p}" for p in PERCENTILES))
MEMORY_COLUMNS = ("HashOwner", "HashApp", "AverageAllocatedMb")
MINUTES_PER_DAY = 1440
MINUTE_S = 60.0
MAX_CALLS = 500_000  # of one window in memory; the whole trace has some 10^9 a day

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """One function's calls: (minute since the file's first, calls), only minutes with a call."""

    timer: bool
    minutes: tuple[tuple[int, int], ...]

    def calls(self) -> int:
        return sum(n for _, n in self.minutes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    start_s: float
    end_s: float  # no later than the file's last minute
    first: int  # minutes that reach into the window, from `first` to before `stop`
    stop: int


def read(
    invocations: CsvFile,
    durations: CsvFile,
    memory: CsvFile | None,
    *,
    start_s: float,
    window_s: float | None,
    seed: int,
) -> InvocationTrace:
    """Raises TraceError where any of the files is wrong, in so far as the window touches it."""
    window, found = _counts(invocations, start_s, window_s)
    counts = _at_most(found, MAX_CALLS, seed)
    percentiles = _percentiles(durations, counts)
    memory_mb = {} if memory is None else _memory_mb(memory, {key[:2] for key in counts})
    functions = FunctionTable(seed)
    calls: list[TraceCall] = []
    without_memory = 0
    for key in (key for key in counts if key in percentiles):
        made = list(_calls(key, counts[key], percentiles[key], window, seed))
        if made:
            used_mb = memory_mb.get(key[:2])
            without_memory += used_mb is None
            limit_mb = DEFAULT_MEMORY_MB if used_mb is None else math.ceil(used_mb)
            index = functions.index(key, app=key[1], function=key[2], memory_mb=limit_mb)
            calls.extend(TraceCall(at_s=at_s, function=index, duration_s=d) for at_s, d in made)
    calls.sort(key=lambda c: (c.at_s, c.function))
    unknown = [count for key, count in counts.items() if key not in percentiles]
    return InvocationTrace(
        source=str(invocations.path),
        format="azure2019",
        functions=functions.all(),
        calls=tuple(calls),
        window_s=max(window.end_s - window.start_s, 0.0),
        notes=(CPU_NOTE, *_notes(len(found) - len(counts), unknown, without_memory, functions.clamped)),
    )


def _notes(unread: int, unknown: list[Counts], without_memory: int, clamped: int) -> Iterator[str]:
    """What the trace lost or got on the way; all but the list are numbers of functions."""
    if unread:
        yield f"the window holds more than {MAX_CALLS} calls: {unread} functions drawn by seed were left out"
    if unknown:
        lost = sum(count.calls() for count in unknown)
        yield f"{len(unknown)} functions ({lost} calls) have no durations and were left out"
    if without_memory:
        yield f"{without_memory} functions without memory use have {DEFAULT_MEMORY_MB} MB"
    if clamped:
        yield (
            f"the memory of {clamped} functions was raised to {MIN_MEMORY_MB} MB or lowered to {MAX_MEMORY_MB} MB, "
            "what an action may have"
        )


def minute_columns(columns: list[str]) -> dict[int, int]:
    """Minute of the day -> position, in order of time."""
    found = {int(c): i for i, c in enumerate(columns) if c.isascii() and c.isdecimal()}
    return dict(sorted(found.items()))


def _counts(file: CsvFile, start_s: float, window_s: float | None) -> tuple[Window, dict[Key, Counts]]:
    owner, app, function, trigger = (file.position(c) for c in INVOCATION_COLUMNS)
    minutes = minute_columns(file.columns)
    outside = [m for m in minutes if not 1 <= m <= MINUTES_PER_DAY]
    if not minutes or outside:
        found = "there is none" if not minutes else f"found {outside[0]}"
        raise TraceError(f"{file.path}:1: expected a column for each minute, 1 to {MINUTES_PER_DAY}: {found}")
    zero = min(minutes)
    window = _window(start_s, window_s, last_minute=max(minutes) - zero)
    wanted = [(m - zero, position) for m, position in minutes.items() if window.first <= m - zero < window.stop]
    counts: dict[Key, Counts] = {}
    for row in file.rows():
        found_counts = tuple(
            (minute, _count(file, row, position)) for minute, position in wanted if row[position] != "0"
        )
        if found_counts:
            key = (row[owner], row[app], row[function])
            earlier = counts[key].minutes if key in counts else ()  # a function with two triggers has two rows
            counts[key] = Counts(timer=row[trigger] == "timer", minutes=(*earlier, *found_counts))
    return window, counts


def _window(start_s: float, window_s: float | None, *, last_minute: int) -> Window:
    file_end_s = (last_minute + 1) * MINUTE_S
    end_s = file_end_s if window_s is None else min(start_s + window_s, file_end_s)
    return Window(start_s=start_s, end_s=end_s, first=int(start_s // MINUTE_S), stop=math.ceil(end_s / MINUTE_S))


def _count(file: CsvFile, row: list[str], position: int) -> int:
    value = file.number(row, position)
    if not value.is_integer():
        raise file.error(position, f"{row[position]!r} is no whole number of calls")
    return int(value)


def _at_most(counts: dict[Key, Counts], most: int, seed: int) -> dict[Key, Counts]:
    """Whole functions, drawn by seed, of at most `most` calls together."""
    if sum(c.calls() for c in counts.values()) <= most:
        return counts
    order = list(counts)
    random.Random(f"{seed}:at-most").shuffle(order)
    kept: set[Key] = set()
    total = 0
    for key in order:
        if total + counts[key].calls() <= most:
            kept.add(key)
            total += counts[key].calls()
    return {key: c for key, c in counts.items() if key in kept}


def _percentiles(file: CsvFile, wanted: dict[Key, Counts]) -> dict[Key, list[tuple[float, float]]]:
    """(share, seconds) of every wanted function that the file knows."""
    owner, app, function, *positions = (file.position(c) for c in DURATION_COLUMNS)
    found: dict[Key, list[tuple[float, float]]] = {}
    for row in file.rows():
        key = (row[owner], row[app], row[function])
        if key not in wanted:
            continue
        values = [file.number(row, position) / 1e3 for position in positions]
        for i in range(1, len(values)):
            if values[i] < values[i - 1]:
                raise file.error(positions[i], f"{row[positions[i]]!r} is below the percentile before it")
        found[key] = [(p / 100, value) for p, value in zip(PERCENTILES, values, strict=True)]
    return found


def _memory_mb(file: CsvFile, wanted: set[tuple[str, str]]) -> dict[tuple[str, str], float]:
    owner, app, allocated = (file.position(c) for c in MEMORY_COLUMNS)
    return {
        (row[owner], row[app]): file.number(row, allocated) for row in file.rows() if (row[owner], row[app]) in wanted
    }


def _calls(
    key: Key, counts: Counts, percentiles: list[tuple[float, float]], window: Window, seed: int
) -> Iterator[tuple[float, float]]:
    """(seconds since the window began, duration in s) of one function's calls in the window."""
    rng = random.Random(f"{seed}:calls:{':'.join(key)}")
    phase = rng.random()
    for minute, count in counts.minutes:
        for i in range(count):
            part = (i + phase) / count if counts.timer else rng.random()
            at_s = (minute + part) * MINUTE_S
            duration_s = interpolate(percentiles, rng.random())
            if window.start_s <= at_s < window.end_s:
                yield at_s - window.start_s, duration_s
