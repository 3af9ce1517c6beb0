"""live-and-let-die: everything on VMs that can be evicted; what an eviction cuts off is started again, or fails."""

from __future__ import annotations

from fallow.core.eviction.base import (
    KindChoice,
    Strategy,
    fits_then_busy,
    no_argument,
    register_strategy,
)
from fallow.core.eviction.learned import LongOnce
from fallow.core.model import ActionSpec, VmKind

_EVICTABLE = (VmKind.HARVEST, VmKind.SPOT)
_KINDS = fits_then_busy(*_EVICTABLE, busy=(*_EVICTABLE, VmKind.REGULAR))


class LiveAndLetDie(LongOnce):
    """Every call, long or short: harvest if it fits, spot if it fits, then the least busy harvest, then spot VM.

    A regular VM takes a call only where no harvest and no spot VM can at all, busy or not: there is none, or all drain,
    are full or too small, or do not offer its runtime. It is paid for in any case, and the call would only wait.

    Long apps are learned (see `LongOnce`) and told apart in the counts, so that a report shows how many long calls ran
    at risk; `ActionSpec.long` changes the counts and no placement.

    Source: strategy 3 of Zhang et al., SOSP 2021; 99.9985 % of their calls succeeded in the worst case, unretried.
    """

    name = "live-and-let-die"

    def kinds(self, spec: ActionSpec) -> tuple[KindChoice, ...]:
        return _KINDS


def _make(grace_s: float, argument: str) -> Strategy:
    no_argument(LiveAndLetDie.name, argument)
    return LiveAndLetDie(grace_s)


register_strategy(LiveAndLetDie.name, _make)
