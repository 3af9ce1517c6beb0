"""prefer-regular: long calls on regular VMs while those have room, and nothing is forbidden. The default."""

from __future__ import annotations

from fallow.core.eviction.base import (
    CHEAP_FIRST,
    SHORT,
    KindChoice,
    Strategy,
    fits_then_busy,
    no_argument,
    register_strategy,
)
from fallow.core.eviction.learned import LongOnce
from fallow.core.model import ActionSpec, VmKind

_LONG = fits_then_busy(VmKind.REGULAR, VmKind.HARVEST, VmKind.SPOT, busy=CHEAP_FIRST)


class PreferRegular(LongOnce):
    """Long calls go to regular VMs while there is room, else to harvest and spot VMs; short ones the other way round.

    - Long (see `LongOnce`): regular if it fits, harvest if it fits, spot if it fits; then, all being busy, the least
      busy harvest, spot, regular VM. A busy regular VM is the last resort: the call would wait there behind others as
      long as elsewhere, and keep the next one from its room.
    - Short: harvest, spot, regular, each if it fits, then the same three busy. So a short call takes idle regular room
      rather than wait at a busy harvest VM: that room is paid for already, and a short call gives it back within the
      grace period. Long calls that meanwhile find it taken go to harvest VMs, where most survive.

    Nothing is forbidden: with one kind of VM only, every call runs there.
    """

    name = "prefer-regular"

    def kinds(self, spec: ActionSpec) -> tuple[KindChoice, ...]:
        return _LONG if self.is_long(spec) else SHORT


def _make(grace_s: float, argument: str) -> Strategy:
    no_argument(PreferRegular.name, argument)
    return PreferRegular(grace_s)


register_strategy(PreferRegular.name, _make)
