"""Traces drawn from the published distributions; every one follows from its seed.

**Durations.** The mix over all calls follows `INVOCATION_DURATION_S`, exactly in the limit: the functions, sorted from
quick to slow, share out the interval 0..1 in proportion to their calls; a call draws its quantile from its function's
part, and from all of 0..1 in `STRAY_SHARE` of the cases. Both have the uniform distribution over all calls together.
Rare functions are mostly the slow ones: in the published trace 48.7 % of the apps had a call above 30 s, but only 4.1 %
of the calls were. Here the share of apps grows with the window (over 600 s at 2.5 calls/s it is 0.5 to 0.7), the share
of calls does not.

**Arrivals.** Popularity falls as rank^-1.2. Half of the functions are called at random (Poisson), a quarter by a timer
(even gaps), a quarter in bursts.

**VMs.** `NEVER_CHANGED_SHARE` of the VMs, rounded, keep their cores; the others change by `CORE_CHANGE_INTERVAL_S` and
`CORE_CHANGE_WEIGHT` within 2..32 cores. Those there at 0 are in the middle of their lives, so that a window of hours
rarely holds an eviction. An evicted VM comes back after a mean of ten minutes (assumed: not published).
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from fallow.traces.model import InvocationTrace, TraceCall, TraceFunction
from fallow.traces.quantiles import (
    CORE_CHANGE_INTERVAL_S,
    CORE_CHANGE_WEIGHT,
    INVOCATION_DURATION_S,
    NEVER_CHANGED_SHARE,
    VM_LIFETIME_S,
    Quantiles,
)
from fallow.traces.vms import VmTrace

POPULARITY_EXPONENT = 1.2
STRAY_SHARE = 0.05
FUNCTIONS_PER_APP = 424 / 119  # of the published trace
BURST_CALLS = 5.0  # mean calls of a burst
BURST_GAP_S = 0.5  # mean gap within a burst
MEMORY_MB = (128, 256, 512)
MEMORY_WEIGHT = (0.8, 0.18, 0.02)  # apps whose mean allocation fits, in the Azure Functions Trace 2019 (100 sampled)
CPU_SHARE_RANGE = (0.1, 1.0)
MIN_CORES, MAX_CORES = 2, 32
ABSENCE_MEAN_S = 600.0
DRAWS = 100  # sets of VM traces to look at for one that shrinks and grows
VISIBLE = (0.05, 0.9)  # part of the window in which a change counts as seen
VISIBLE_CORES = 4  # what such a change adds or takes at least
VISIBLE_CHANGES = 2  # shrinks, and growths, that a set should show there

Floats = NDArray[np.float64]


def generate_invocations(*, seed: int, window_s: float, rate_per_s: float, functions: int = 68) -> InvocationTrace:
    """About `rate_per_s` x `window_s` calls. A function without a call in the window is listed all the same."""
    weights = np.arange(1, functions + 1, dtype=np.float64) ** -POPULARITY_EXPONENT
    weights /= weights.sum()
    counts = _rng(seed, "counts").poisson(weights * rate_per_s * window_s)
    arrivals, durations = _rng(seed, "arrivals"), _rng(seed, "durations")
    parts = _quantile_parts(weights, _rng(seed, "ranks"))
    calls: list[TraceCall] = []
    for index, count in enumerate(counts.tolist()):
        at = np.sort(_arrival_times(index, count, window_s, arrivals))
        low, high = parts[index]
        share = np.where(
            durations.random(count) < STRAY_SHARE, durations.random(count), durations.uniform(low, high, count)
        )
        calls.extend(
            TraceCall(at_s=t, function=index, duration_s=d)
            for t, d in zip(at.tolist(), _values(INVOCATION_DURATION_S, share).tolist(), strict=True)
        )
    calls.sort(key=lambda c: (c.at_s, c.function))
    return InvocationTrace(
        source="generated",
        format="generated",
        functions=_functions(functions, _rng(seed, "functions")),
        calls=tuple(calls),
        window_s=window_s,
        notes=("memory limits (128, 256, 512 MB) and CPU shares (0.1 to 1 core) of the functions are drawn by seed",),
    )


def generate_vm_traces(*, seed: int, vms: int, window_s: float) -> list[VmTrace]:
    """Traces h1, h2, ... of `window_s` seconds, all present at 0.

    The published curves make a window in which hardly anything happens likely. So of `DRAWS` sets the first is taken
    that shows two shrinks and two growths of four cores or more away from the window's ends, else the one that shows
    most.
    """
    rng = _rng(seed, "vms")
    constant = round(NEVER_CHANGED_SHARE * vms)
    best: list[VmTrace] = []
    best_seen = -1
    for _ in range(DRAWS):
        changing = rng.permutation(vms) >= constant
        traces = [VmTrace(name=f"h{i + 1}", steps=_vm_steps(window_s, bool(changing[i]), rng)) for i in range(vms)]
        seen = min(_visible(traces, window_s))
        if seen > best_seen:
            best, best_seen = traces, seen
        if seen >= VISIBLE_CHANGES:
            break
    return best


def _visible(traces: list[VmTrace], window_s: float) -> tuple[int, int]:
    """How many shrinks and how many growths fall into the middle of the window; evictions and joins are neither."""
    deltas = [
        after - before
        for trace in traces
        for (_, before), (at_s, after) in itertools.pairwise(trace.steps)
        if before > 0 and after > 0 and VISIBLE[0] * window_s <= at_s <= VISIBLE[1] * window_s
    ]
    return sum(1 for d in deltas if d <= -VISIBLE_CORES), sum(1 for d in deltas if d >= VISIBLE_CORES)


def _rng(seed: int, purpose: str) -> np.random.Generator:
    """A stream of its own for every purpose: to change how one thing is drawn leaves the others as they were."""
    return np.random.default_rng([seed % (1 << 64), *purpose.encode()])


def _values(table: Quantiles, shares: Floats) -> Floats:
    """`table.at` of every share."""
    points = np.array(table.points)
    values: Floats = np.exp(np.interp(shares, points[:, 0], np.log(points[:, 1])))
    return values


def _quantile_parts(weights: Floats, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Each function's part of 0..1: as long as its weight, the rare functions mostly high up."""
    slowness = -np.log(weights) + rng.normal(0.0, 1.5, len(weights))
    order = np.argsort(slowness)
    ends = np.cumsum(weights[order])
    parts = [(0.0, 0.0)] * len(weights)
    for function, low, high in zip(order.tolist(), (ends - weights[order]).tolist(), ends.tolist(), strict=True):
        parts[function] = (max(low, 0.0), min(high, 1.0))
    return parts


def _arrival_times(index: int, count: int, window_s: float, rng: np.random.Generator) -> Floats:
    """`count` moments in [0, window_s); the kind of arrival goes by the function's index."""
    times: Floats
    if index % 4 == 1:
        times = (np.arange(count) + rng.random()) * window_s / max(count, 1)
    elif index % 4 == 3:
        starts = rng.random(count) * window_s
        burst = np.cumsum(rng.random(count) < 1 / BURST_CALLS)
        times = starts[burst % max(count, 1)] + rng.exponential(BURST_GAP_S * BURST_CALLS / 2, count)
    else:
        times = rng.random(count) * window_s
    return np.minimum(times % window_s, np.nextafter(window_s, 0.0))


def _functions(count: int, rng: np.random.Generator) -> tuple[TraceFunction, ...]:
    apps = rng.integers(0, max(1, round(count / FUNCTIONS_PER_APP)), count).tolist()
    memory = rng.choice(MEMORY_MB, count, p=MEMORY_WEIGHT).tolist()
    share = rng.uniform(*CPU_SHARE_RANGE, count).tolist()
    return tuple(
        TraceFunction(name=f"fn{i + 1:03d}", app=f"app{apps[i] + 1:02d}", memory_mb=memory[i], cpu_share=share[i])
        for i in range(count)
    )


def _vm_steps(window_s: float, changing: bool, rng: np.random.Generator) -> tuple[tuple[float, float], ...]:
    """Lives one after the other until the window ends; cores only change while the VM lives."""
    steps: list[tuple[float, float]] = []
    join_s = 0.0
    end_s = _life_left_s(rng)
    while join_s < window_s:
        cores = int(rng.integers(MIN_CORES, MAX_CORES + 1))
        at_s = join_s
        while at_s < min(end_s, window_s):
            steps.append((round(at_s, 3), float(cores)))
            if not changing:
                break
            at_s += float(_values(CORE_CHANGE_INTERVAL_S, rng.random(1))[0])
            cores = _changed(cores, rng)
        if end_s >= window_s:
            break
        steps.append((round(end_s, 3), 0.0))
        join_s = end_s + float(rng.exponential(ABSENCE_MEAN_S))
        end_s = join_s + float(_values(VM_LIFETIME_S, rng.random(1))[0])
    return tuple(steps)


def _life_left_s(rng: np.random.Generator) -> float:
    """How long a VM met at a random moment still lives: long lives are met in proportion to their length."""
    longest_s = VM_LIFETIME_S.points[-1][1]
    while True:
        life_s = float(_values(VM_LIFETIME_S, rng.random(1))[0])
        if rng.random() < life_s / longest_s:
            return life_s * float(rng.random())


def _changed(cores: int, rng: np.random.Generator) -> int:
    """The cores after a change: drawn from the published sizes that stay within 2..32."""
    targets = [c for c in range(MIN_CORES, MAX_CORES + 1) if abs(c - cores) in CORE_CHANGE_WEIGHT]
    weights = np.array([CORE_CHANGE_WEIGHT[abs(c - cores)] for c in targets])
    return int(rng.choice(targets, p=weights / weights.sum()))
