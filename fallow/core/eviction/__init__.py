"""Eviction strategies: which kinds of VM may take a call, in which order.

An invocation fails by an eviction only if more of it is left than the notice lasts, so what matters is which functions
run longer than the notice ("long"). The strategies differ in whom they call long and what they forbid them
(Zhang et al., SOSP 2021). A strategy decides kinds; the placement policy then picks a VM of a kind.

    prefer-regular     long once a call exceeded the notice; regular VMs first, harvest VMs when those are busy
    no-failures        long once a call exceeded the notice; regular VMs only
    bounded:P          long while the P-th percentile of its durations exceeds the notice; regular VMs only
    live-and-let-die   long calls are treated as short ones: harvest and spot VMs as long as there are any

Importing this package registers every strategy that Fallow brings: a new one is a file with a class and a
`register_strategy("name", factory)`, imported here.
"""

from fallow.core.eviction.base import (
    KindChoice,
    Strategy,
    StrategyFactory,
    make_strategy,
    register_strategy,
    strategies,
)
from fallow.core.eviction.bounded import Bounded
from fallow.core.eviction.live_and_let_die import LiveAndLetDie
from fallow.core.eviction.no_failures import NoFailures
from fallow.core.eviction.prefer_regular import PreferRegular

__all__ = [
    "Bounded",
    "KindChoice",
    "LiveAndLetDie",
    "NoFailures",
    "PreferRegular",
    "Strategy",
    "StrategyFactory",
    "make_strategy",
    "register_strategy",
    "strategies",
]
