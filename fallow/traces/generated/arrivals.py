"""When the calls of a function arrive, and what gaps that makes: the draw and, apart from it, the formula.

No curve of inter-arrival times was at hand, so the kinds of arrival are a model. A function with a mean of `r` calls
per second is called

- *Poisson*: at independent moments;
- by a *timer*: every 1/r seconds, from a random phase on;
- in *bursts*: bursts begin at independent moments, r / 5 a second; after each call another one follows with a chance of
  4/5, after a gap of mean 0.5 s (exponential). So a burst has 5 calls on average.

In all three the number of calls in the window has a Poisson distribution and is drawn first.

**The gaps.** With V(x) the chance that no call of a function falls into a given stretch of x seconds, and P(x) the
chance that none of its own follows within x seconds of one of its calls:

| kind | V(x) | P(x) |
|---|---|---|
| Poisson | exp(-r x) | exp(-r x) |
| timer | max(0, 1 - r x) | 1 if r x < 1, else 0 |
| bursts | exp(-r/5 (x + 2 (1 - exp(-2x)))) | V(x) (1/5 + 4/5 exp(-2x)) |

In a burst's V, x counts the bursts that begin in the stretch and the other term those that began before and reach into
it. The functions are independent, so a gap after a call of any function exceeds x seconds with the chance
sum over f of r_f / r x P_f(x) x product over the others of V_g(x).
Example: two Poisson functions of 1/s: 2 x 1/2 x exp(-x) exp(-x) = exp(-2x).
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from fallow.traces.generated.draws import Floats

BURST_CALLS = 5.0  # mean calls of a burst
BURST_GAP_S = 0.5  # mean gap within a burst
_MORE = 1 - 1 / BURST_CALLS  # the chance that another call of the burst follows


class ArrivalKind(StrEnum):
    POISSON = "poisson"
    TIMER = "timer"
    BURSTS = "bursts"


_CYCLE = (ArrivalKind.POISSON, ArrivalKind.TIMER, ArrivalKind.POISSON, ArrivalKind.BURSTS)


def arrival_kind(function: int) -> ArrivalKind:
    """By the function's number, which is its rank of popularity: half Poisson, a quarter timers, a quarter bursts."""
    return _CYCLE[function % len(_CYCLE)]


def arrival_times(kind: ArrivalKind, count: int, window_s: float, rng: np.random.Generator) -> Floats:
    """`count` moments in [0, window_s), in no order; what runs over the window's end comes at its beginning."""
    times: Floats
    match kind:
        case ArrivalKind.POISSON:
            times = rng.random(count) * window_s
        case ArrivalKind.TIMER:
            times = (np.arange(count) + rng.random()) * window_s / max(count, 1)
        case ArrivalKind.BURSTS:
            begins = rng.random(count) >= _MORE
            begins[:1] = True
            burst = np.cumsum(begins) - 1
            since = np.cumsum(rng.exponential(BURST_GAP_S, count))
            times = (rng.random(count) * window_s)[burst] + since - since[begins][burst]
    return np.minimum(times % window_s, np.nextafter(window_s, 0.0))


def longer_gaps(x_s: Floats, rates_per_s: Floats) -> Floats:
    """The share of the gaps between any two successive calls of all functions that exceed each of `x_s` seconds.

    `rates_per_s` by function number. Cost: gaps x functions.
    """
    rates = list(enumerate(rates_per_s.tolist()))
    log_void = np.array([_log_void(arrival_kind(f), x_s, rate) for f, rate in rates])
    possible = np.isfinite(log_void)  # a timer cannot be silent for more than its period
    log_void[~possible] = 0.0
    total, silent = log_void.sum(axis=0), possible.sum(axis=0)
    longer = np.zeros_like(x_s)
    for f, rate in rates:
        others = np.where(silent - possible[f] == len(rates) - 1, np.exp(total - log_void[f]), 0.0)
        longer += rate * _after_call(arrival_kind(f), x_s, rate) * others
    share: Floats = longer / rates_per_s.sum()
    return share


def longer_own_gaps(kind: ArrivalKind, x_s: Floats, rates_per_s: Floats) -> Floats:
    """The share of the gaps between successive calls of one function of this kind, over all such, that exceed `x_s`."""
    rates = [rate for f, rate in enumerate(rates_per_s.tolist()) if arrival_kind(f) is kind]
    longer = sum((rate * _after_call(kind, x_s, rate) for rate in rates), np.zeros_like(x_s))
    share: Floats = longer / sum(rates)
    return share


def _log_void(kind: ArrivalKind, x_s: Floats, rate: float) -> Floats:
    """log V(x); minus infinity where V is 0."""
    void: Floats
    match kind:
        case ArrivalKind.POISSON:
            void = -rate * x_s
        case ArrivalKind.TIMER:
            with np.errstate(divide="ignore"):
                void = np.log(np.maximum(0.0, 1 - rate * x_s))
        case ArrivalKind.BURSTS:
            reach_s = _MORE / (1 - _MORE) * BURST_GAP_S
            void = -rate / BURST_CALLS * (x_s + reach_s * -np.expm1(-x_s / BURST_GAP_S))
    return void


def _after_call(kind: ArrivalKind, x_s: Floats, rate: float) -> Floats:
    """P(x)."""
    if kind is ArrivalKind.TIMER:
        return np.where(rate * x_s < 1, 1.0, 0.0)
    alone = np.exp(_log_void(kind, x_s, rate))
    return alone * (1 - _MORE + _MORE * np.exp(-x_s / BURST_GAP_S)) if kind is ArrivalKind.BURSTS else alone
