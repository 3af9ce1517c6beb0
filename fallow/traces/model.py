"""Invocation traces and what a replay makes of them. Trace time is seconds since the trace's window began."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceFunction:
    """One function of a trace: it becomes one action of its own."""

    name: str  # unique in the trace, fit for an action's name
    app: str
    memory_mb: int
    cpu_share: float  # CPU time / wall time of its calls, in cores; 0..1
    benchmark: str = ""  # the one of benchmarks.profiles that its calls run; "" = they burn and sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceCall:
    at_s: float  # arrival
    function: int  # index into the trace's functions
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InvocationTrace:
    """Calls sorted by arrival within [0, window_s)."""

    source: str  # file names, or "generated"
    format: str  # "azure2021" | "azure2019" | "generated"
    functions: tuple[TraceFunction, ...]
    calls: tuple[TraceCall, ...]
    window_s: float
    notes: tuple[str, ...] = ()  # what the reader assumed or left out, one sentence each


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One call to send, in real time: what the trace action burns and sleeps is its argument; of a benchmark function
    it is what was measured."""

    at_s: float  # since the replay began
    function: int
    cpu_ms: float  # real CPU time to burn: trace CPU / speedup x core scale
    duration_ms: float  # what the call takes alone on one emulated core: trace duration / speedup
    trace_duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPlan:
    """A trace fitted to a cluster and a window, with every rule that changed it."""

    trace: InvocationTrace
    functions: tuple[TraceFunction, ...]  # those kept; Arrival.function points here
    arrivals: tuple[Arrival, ...]
    speedup: float
    core_scale: float  # real cores per emulated core
    duration_s: float  # real seconds of sending
    offered_cores: float  # mean emulated cores that the kept calls ask for
    offered_cores_before: float  # ... that all calls asked for
    available_cores: float  # mean emulated cores of the VMs over the window
    thinned_calls: int  # calls of functions left out because the load was too high
    cut_calls: int  # calls longer than the window, shortened
    rules: tuple[str, ...]  # every rule applied, one sentence each, for the head of the report
