"""The figures by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from simulator.reproduce import evictions, load, money, traces
from simulator.reproduce.frame import Context, Made

FIGURES: dict[str, Callable[[Context], Made]] = {
    **{name: partial(traces.make, name) for name in traces.TITLES},
    "fig12": load.fig12,
    "fig13": load.fig13,
    "fig15": load.fig15,
    "budget": money.budget,
    "savings": money.savings,
    "evictions": evictions.make,
}
