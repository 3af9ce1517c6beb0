"""Invocation traces drawn from the published distributions; every one follows from its seed.

**Scale.** The published trace had 424 functions in 119 apps; the apps of a generated one are in proportion, each with
at least one function. **Popularity** falls as rank^-1.2 (assumed: not published). **Durations** over all calls follow
`INVOCATION_DURATION_S`, and 48.7 % of the apps have calls above 30 s: see `durations`. In a window of minutes some of
these have none yet, so that the share of apps seen to be long grows with the window; the share of calls does not.
**Arrivals**: Poisson, timers and bursts, see `arrivals`.

How near all this comes is computed by `calibration`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fallow.traces.generated.arrivals import arrival_kind, arrival_times
from fallow.traces.generated.draws import Flags, Floats, Ints, stream, values
from fallow.traces.generated.durations import function_parts, long_apps
from fallow.traces.generated.published import INVOCATION_DURATION_S
from fallow.traces.model import InvocationTrace, TraceCall, TraceFunction

POPULARITY_EXPONENT = 1.2
PUBLISHED_APPS = 119
PUBLISHED_FUNCTIONS = 424
MEMORY_MB = (128, 256, 512)
MEMORY_WEIGHT = (0.8, 0.18, 0.02)  # apps whose mean allocation fits, in the Azure Functions Trace 2019 (100 sampled)
CPU_SHARE_RANGE = (0.1, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """The calls of a trace as columns, sorted by arrival, and what their functions are."""

    at_s: Floats
    function: Ints
    duration_s: Floats
    app: Ints  # by function
    long: Flags  # by function: its app may have calls above 30 s


def generate_invocations(*, seed: int, window_s: float, rate_per_s: float, functions: int = 68) -> InvocationTrace:
    """About `rate_per_s` x `window_s` calls. A function without a call in the window is listed all the same.

    Raises ValueError where `functions` is below 1. Cost: some 2.5 us a call.
    """
    drawn = draw_calls(seed=seed, window_s=window_s, rate_per_s=rate_per_s, functions=functions)
    columns = (drawn.at_s.tolist(), drawn.function.tolist(), drawn.duration_s.tolist())
    return InvocationTrace(
        source="generated",
        format="generated",
        functions=functions_of(seed=seed, functions=functions),
        calls=tuple(TraceCall(at_s=t, function=f, duration_s=d) for t, f, d in zip(*columns, strict=True)),
        window_s=window_s,
        notes=("memory limits (128, 256, 512 MB) and CPU shares (0.1 to 1 core) of the functions are drawn by seed",),
    )


def functions_of(*, seed: int, functions: int) -> tuple[TraceFunction, ...]:
    """The functions that the calls of `draw_calls` with the same arguments are of."""
    return _functions(_apps(functions, stream(seed, "apps")), stream(seed, "functions"))


def draw_calls(*, seed: int, window_s: float, rate_per_s: float, functions: int) -> Calls:
    """The same calls without an object for each: two million take a second."""
    if functions < 1:
        raise ValueError(f"a trace needs at least one function, not {functions}")
    weights = popularity(functions)
    app_of = _apps(functions, stream(seed, "apps"))
    long = long_apps(app_of, weights, stream(seed, "long apps"))[app_of]
    parts = function_parts(weights, long, INVOCATION_DURATION_S, stream(seed, "ranks"))
    counts = stream(seed, "counts").poisson(weights * rate_per_s * window_s)
    arrivals, durations = stream(seed, "arrivals"), stream(seed, "durations")
    at_s = [arrival_times(arrival_kind(f), count, window_s, arrivals) for f, count in enumerate(counts.tolist())]
    quantile = [part.draw(count, durations) for part, count in zip(parts, counts.tolist(), strict=True)]
    function = np.repeat(np.arange(functions), counts)
    order = np.lexsort((function, np.concatenate(at_s)))
    return Calls(
        at_s=np.concatenate(at_s)[order],
        function=function[order],
        duration_s=values(INVOCATION_DURATION_S, np.concatenate(quantile)[order]),
        app=app_of,
        long=long,
    )


def popularity(functions: int) -> Floats:
    """Each function's share of the calls."""
    weights = np.arange(1, functions + 1, dtype=np.float64) ** -POPULARITY_EXPONENT
    shares: Floats = weights / weights.sum()
    return shares


def _apps(functions: int, rng: np.random.Generator) -> Ints:
    """By function, its app: as many apps as the published trace has for so many functions, none of them empty."""
    apps = max(1, round(functions * PUBLISHED_APPS / PUBLISHED_FUNCTIONS))
    return rng.permutation(np.concatenate((np.arange(apps), rng.integers(0, apps, functions - apps))))


def _functions(app_of: Ints, rng: np.random.Generator) -> tuple[TraceFunction, ...]:
    memory = rng.choice(MEMORY_MB, len(app_of), p=MEMORY_WEIGHT).tolist()
    share = rng.uniform(*CPU_SHARE_RANGE, len(app_of)).tolist()
    return tuple(
        TraceFunction(name=f"fn{i + 1:03d}", app=f"app{app + 1:02d}", memory_mb=memory[i], cpu_share=share[i])
        for i, app in enumerate(app_of.tolist())
    )
