"""Fits an invocation trace to a cluster, a machine and a window; every rule that changed the trace is said.

**Time.** Arrival gaps and durations are divided by the speed-up. **CPU.** A call of `d` seconds with CPU share `s`
burns `s x d / speedup x core_scale` seconds of real CPU and sleeps the rest: with exactly one emulated core (=
`core_scale` real cores) it takes `d / speedup`. Example: 8 s, share 0.5, speed-up 10, core scale 0.1: 40 ms of CPU,
which on one emulated core take 400 ms, and 400 ms of sleep: 0.8 s. With more cores the first half is over sooner.

**Load.** Whole functions are left out, in an order drawn by seed, where what they add would break a bound: 60 % of the
mean emulated cores, 60 % of this machine's cores (the platform's own CPU counted in), a rate of calls, and 60 % of the
VMs' memory. A function is never split, so what stays keeps its own rhythm.

**Benchmark functions.** Their calls do real work with fixed arguments: neither the speed-up nor the core scale changes
it. In the load they count with the CPU time that was measured of them, and they are never left out.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

from fallow.traces.benchmarks.profiles import Cost, Profile, measured_profile
from fallow.traces.errors import TraceError
from fallow.traces.model import Arrival, InvocationTrace, ReplayPlan, TraceFunction

LOAD_SHARE = 0.6
CORES_PER_MACHINE = 20.0  # emulated cores a machine's CPU stands for by default, shared by VMs that overcommit it
CALL_CPU_S = 0.004  # real CPU one call costs the platform and its client, on top of what the action burns
CALLS_PER_CORE_S = 30.0  # calls/s and real core: above it the machine is busy with the platform, not with the trace
TAIL_S = 10.0  # real seconds a call may run on after the window; a call without a record after 30 s counts as lost
WINDOW_PARTS = 3  # a call takes at most such a part of the window, so that one cut off near its end can run again
MAX_CALL_S = 270.0  # real seconds; the trace actions' time limit is 300 s
MIN_LOAD_SPAN_S = 5.0  # real seconds: the mean load of a handful of calls is taken over no less
BENCHMARK_ADVICE = "give a lower --speedup, a longer --duration, or --no-benchmarks"
VM_SPAN_MARGIN = 1.1  # so that a trace's last change does not fall on the very end of the window


class BenchmarksTooLargeError(TraceError):
    """The benchmark functions leave no room within the bounds of the load."""


def default_core_scale(real_cores: int) -> float:
    """Real cores an emulated core: this machine stands for 20 emulated ones."""
    return real_cores / CORES_PER_MACHINE


def default_vm_speedup(span_s: float, duration_s: float) -> float:
    """Fits the last change of the VM traces, `span_s` seconds in, into the window; at least 1."""
    return max(1.0, VM_SPAN_MARGIN * span_s / duration_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStarts:
    """What starting containers costs the machine. Each function needs one; `share` of its further calls do."""

    cpu_s: float  # real CPU of one start and removal
    share: float = 0.0
    told: str = ""  # a rule of the plan


COLD_STARTS = {
    "process": ColdStarts(cpu_s=0.1),
    "docker": ColdStarts(
        cpu_s=0.3,
        share=0.25,
        told="containers are Docker's: a start and removal is counted as 0.3 s of real CPU, the engine's included, "
        "and one call in four as cold",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    """What calls ask for, as means over the window; or the bounds of it."""

    cores: float = 0.0  # emulated
    real_cores: float = 0.0  # with the platform's own
    rate_per_s: float = 0.0
    memory_mb: float = 0.0  # limits of the calls running at once

    def __add__(self, other: _Load) -> _Load:
        return _Load(
            cores=self.cores + other.cores,
            real_cores=self.real_cores + other.real_cores,
            rate_per_s=self.rate_per_s + other.rate_per_s,
            memory_mb=self.memory_mb + other.memory_mb,
        )

    def broken(self, bounds: _Load) -> list[str]:
        """Which bounds this load exceeds, in words."""
        pairs = (
            (self.cores, bounds.cores, "emulated cores"),
            (self.real_cores, bounds.real_cores, "real cores"),
            (self.rate_per_s, bounds.rate_per_s, "calls/s"),
            (self.memory_mb, bounds.memory_mb, "MB of VM memory"),
        )
        return [f"{asked:.3g} of at most {bound:.3g} {unit}" for asked, bound, unit in pairs if asked > bound]


def make_plan(
    trace: InvocationTrace,
    *,
    duration_s: float,
    speedup: float,
    core_scale: float,
    vm_mean_cores: float,
    machine_cores: float,
    seed: int,
    vm_memory_mb: float = float("inf"),
    vms_memory_mb: float = float("inf"),
    profile: Profile | None = None,
    cold: ColdStarts = COLD_STARTS["process"],
) -> ReplayPlan:
    """What to send, and when, for `duration_s` real seconds.

    `vm_mean_cores`: emulated cores of all VMs together, mean over the window. `vm_memory_mb`: the smallest VM's memory;
    `vms_memory_mb`: all VMs' together. `profile`: what benchmark functions cost, None = as this package's was measured.
    `cold`: what starting containers costs.
    Raises TraceError where not one function fits, BenchmarksTooLargeError where the benchmark functions do not. Plans
    nothing where the trace has no call in the window. Cost: n log n in the calls.
    """
    profile = profile or measured_profile()
    costs = [profile.costs[f.benchmark] if f.benchmark else None for f in trace.functions]
    sending_s = min(duration_s, trace.window_s / speedup)
    arrivals, cut = _arrivals(trace, costs, sending_s, speedup, core_scale)
    functions = [f if f.memory_mb <= vm_memory_mb else replace(f, memory_mb=int(vm_memory_mb)) for f in trace.functions]
    loads = _loads(arrivals, functions, costs, cold, sending_s, core_scale)
    bounds = _Load(
        cores=LOAD_SHARE * vm_mean_cores,
        real_cores=LOAD_SHARE * machine_cores,
        rate_per_s=CALLS_PER_CORE_S * machine_cores,
        memory_mb=LOAD_SHARE * vms_memory_mb,
    )
    whole = sum(loads.values(), _Load())
    kept = _thin(loads, bounds, seed, always={f for f, cost in enumerate(costs) if cost is not None})
    index = {old: new for new, old in enumerate(kept)}
    sent = tuple(replace(a, function=index[a.function]) for a in arrivals if a.function in index)
    cut_calls = sum(1 for a, was_cut in zip(arrivals, cut, strict=True) if was_cut and a.function in index)
    plan = ReplayPlan(
        trace=trace,
        functions=tuple(functions[old] for old in kept),
        arrivals=sent,
        speedup=speedup,
        core_scale=core_scale,
        duration_s=sending_s,
        offered_cores=sum((loads[f] for f in kept), _Load()).cores,
        offered_cores_before=whole.cores,
        available_cores=vm_mean_cores,
        thinned_calls=len(arrivals) - len(sent),
        cut_calls=cut_calls,
        rules=(),
    )
    shrunk = sum(1 for old in kept if functions[old].memory_mb != trace.functions[old].memory_mb)
    rules = _rules(plan, duration_s, len(loads), whole.broken(bounds), shrunk, vm_memory_mb)
    runtime = [cold.told] if cold.told else []
    return replace(plan, rules=(*rules[:2], *runtime, *_benchmark_rules(plan, profile), *rules[2:]))


def _arrivals(
    trace: InvocationTrace, costs: Sequence[Cost | None], sending_s: float, speedup: float, core_scale: float
) -> tuple[list[Arrival], list[bool]]:
    """All calls of the window in real time, with the trace's function numbers; and which of them were cut."""
    arrivals: list[Arrival] = []
    cut: list[bool] = []
    for call in trace.calls:
        at_s = call.at_s / speedup
        if at_s >= sending_s:
            break
        cost = costs[call.function]
        if cost is not None:
            cpu_ms, duration_ms, was_cut = cost.cpu_ms, cost.cpu_ms / min(core_scale, 1.0), False
        else:
            alone_s = call.duration_s / speedup
            real_s = min(alone_s, longest_s(at_s, sending_s))
            cpu_ms = 1e3 * real_s * trace.functions[call.function].cpu_share * core_scale
            duration_ms, was_cut = 1e3 * real_s, real_s < alone_s
        arrivals.append(
            Arrival(
                at_s=at_s,
                function=call.function,
                cpu_ms=cpu_ms,
                duration_ms=duration_ms,
                trace_duration_s=call.duration_s,
            )
        )
        cut.append(was_cut)
    return arrivals, cut


def longest_s(at_s: float, sending_s: float) -> float:
    """How many real seconds a call sent at `at_s` may take: part of the window, the tail, and the actions' limit."""
    return min(max(sending_s / WINDOW_PARTS, TAIL_S), sending_s + TAIL_S - at_s, MAX_CALL_S)


def _loads(
    arrivals: Sequence[Arrival],
    functions: Sequence[TraceFunction],
    costs: Sequence[Cost | None],
    cold: ColdStarts,
    sending_s: float,
    core_scale: float,
) -> dict[int, _Load]:
    """Every called function's mean demand over the window."""
    span_s = max(sending_s, MIN_LOAD_SPAN_S)
    totals: dict[int, tuple[int, float, float]] = {}
    for a in arrivals:
        calls, cpu_s, busy_s = totals.get(a.function, (0, 0.0, 0.0))
        totals[a.function] = (calls + 1, cpu_s + a.cpu_ms / 1e3, busy_s + a.duration_ms / 1e3)
    return {
        f: _Load(
            cores=cpu_s / core_scale / span_s,
            real_cores=(cpu_s + calls * CALL_CPU_S + _cold_cpu_s(costs[f], cold, calls)) / span_s,
            rate_per_s=calls / span_s,
            memory_mb=busy_s * functions[f].memory_mb / span_s,
        )
        for f, (calls, cpu_s, busy_s) in totals.items()
    }


def _cold_cpu_s(cost: Cost | None, cold: ColdStarts, calls: int) -> float:
    """Real CPU of a function's starts beyond that of its calls: libraries take long to load."""
    one_s = cold.cpu_s if cost is None else max(cold.cpu_s, (cost.cold_cpu_ms - cost.cpu_ms) / 1e3)
    return one_s * (1 + cold.share * (calls - 1))


def _thin(loads: dict[int, _Load], bounds: _Load, seed: int, *, always: Set[int]) -> list[int]:
    """The functions to keep, in the trace's order: those of `always`, and each other, in a drawn order, if all bounds
    hold with it."""
    order = [f for f in sorted(loads) if f not in always]
    random.Random(f"{seed}:thinning").shuffle(order)
    kept = [f for f in loads if f in always]
    total = sum((loads[f] for f in kept), _Load())
    if broken := total.broken(bounds):
        raise BenchmarksTooLargeError(
            f"the benchmark functions alone ask for {' and '.join(broken)}\n{BENCHMARK_ADVICE}"
        )
    for f in order:
        if not (total + loads[f]).broken(bounds):
            kept.append(f)
            total += loads[f]
    if order and not set(kept) - always:
        if kept:
            raise BenchmarksTooLargeError(f"beside the benchmark functions no other fits\n{BENCHMARK_ADVICE}")
        least = min((loads[f].broken(bounds) for f in order), key=len)
        raise TraceError(
            f"not one function of the trace fits this cluster: the nearest asks for {', '.join(least)}\n"
            "give a lower --speedup or --core-scale, or a longer --duration"
        )
    return sorted(kept)


def _benchmark_rules(plan: ReplayPlan, profile: Profile) -> list[str]:
    """What a reader of the figures has to know of the calls that are real work; nothing where there are none."""
    names = [plan.functions[a.function].benchmark for a in plan.arrivals]
    counts = Counter(name for name in names if name)
    if not counts:
        return []
    spent_ms = sorted(profile.costs[name].cpu_ms for name in counts)
    part = counts.total() / len(names)
    return [
        f"benchmarks: {counts.total()} of {len(names)} calls ({part:.1%}) run {len(counts)} real "
        "functions, drawn by seed; neither speed-up nor core scale applies to them: a warm call burns its own "
        f"{spent_ms[0]:.0f} to {spent_ms[-1]:.0f} ms of real CPU (measured {profile.conditions})"
    ]


def _rules(
    plan: ReplayPlan, duration_s: float, called: int, broken: Sequence[str], shrunk: int, vm_memory_mb: float
) -> list[str]:
    rules = [
        f"speed-up {plan.speedup:g}: arrival gaps, durations, CPU demands, notices and keep-alive are divided by it",
        f"core scale {plan.core_scale:g}: one emulated core is {plan.core_scale:g} real cores and CPU demand is "
        "multiplied by it; a call alone on one emulated core takes its trace time",
    ]
    if plan.duration_s < duration_s:
        rules.append(
            f"the trace ends {plan.trace.window_s:g} s after the start: it is sent in {plan.duration_s:.3g} s instead "
            f"of {duration_s:g} s (a lower --speedup stretches it)"
        )
    if plan.cut_calls:
        rules.append(
            f"{plan.cut_calls} calls were cut: none may take longer than 1/{WINDOW_PARTS} of the window (at least "
            f"{TAIL_S:g} s, at most {MAX_CALL_S:g} s), nor run on for more than {TAIL_S:g} s after the window"
        )
    if plan.thinned_calls:
        before = len(plan.arrivals) + plan.thinned_calls
        rules.append(
            f"thinned: {plan.thinned_calls} of {before} calls ({plan.thinned_calls / before:.1%}) left out: the whole "
            f"trace asks for {' and '.join(broken)}; in an order drawn by seed, {called - len(plan.functions)} of "
            f"{called} functions no longer fitted"
        )
    if shrunk:
        rules.append(f"{shrunk} functions had their memory limit lowered to a VM's memory, {vm_memory_mb:.0f} MB")
    return [*rules, *plan.trace.notes]
