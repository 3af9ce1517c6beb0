"""Azure Functions Invocation Trace 2021: one row a call, `app,func,end_timestamp,duration` in seconds.

A call starts at end - duration; rows come in order of starts. The trace's zero is the start of its first row. Reading
ends at the first row that starts `SLACK_S` after the window, so that the window of a two-week file costs seconds.
"""

from __future__ import annotations

import math

from fallow.traces.azure.csvfile import CsvFile
from fallow.traces.azure.functions import CPU_NOTE, DEFAULT_MEMORY_MB, FunctionTable
from fallow.traces.model import InvocationTrace, TraceCall

COLUMNS = ("app", "func", "end_timestamp", "duration")
SLACK_S = 3600.0  # rows may be out of order by so much: more than the longest call


def read(file: CsvFile, *, start_s: float, window_s: float | None, seed: int) -> InvocationTrace:
    app, func, end, duration = (file.position(c) for c in COLUMNS)
    functions = FunctionTable(seed)
    calls: list[TraceCall] = []
    origin_s: float | None = None
    until_s = math.inf if window_s is None else start_s + window_s
    early = 0
    last_s = 0.0
    for row in file.rows():
        duration_s = file.number(row, duration)
        begin_s = file.number(row, end) - duration_s
        origin_s = begin_s if origin_s is None else origin_s
        at_s = begin_s - origin_s
        last_s = max(last_s, at_s)
        early += at_s < 0
        if start_s <= at_s < until_s:
            index = functions.index((row[app], row[func]), app=row[app], function=row[func])
            calls.append(TraceCall(at_s=at_s - start_s, function=index, duration_s=duration_s))
        elif at_s >= until_s + SLACK_S:
            break
    calls.sort(key=lambda c: c.at_s)
    notes = [CPU_NOTE, f"the trace holds no memory use: every function has {DEFAULT_MEMORY_MB} MB"]
    if early and start_s == 0:
        notes.append(f"{early} calls that start before the trace's first row were left out")
    return InvocationTrace(
        source=str(file.path),
        format="azure2021",
        functions=functions.all(),
        calls=tuple(calls),
        window_s=_window_s(last_s - start_s, window_s),
        notes=tuple(notes),
    )


def _window_s(left_s: float, asked_s: float | None) -> float:
    """The window asked for, but not beyond the trace's last call, `left_s` after the window's start; at least 1 s."""
    end_s = max(math.nextafter(left_s, math.inf), 1.0)
    return end_s if asked_s is None else min(asked_s, end_s)
