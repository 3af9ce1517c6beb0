"""no-failures: no call that is known to outlast a notice is ever on a VM that can be evicted."""

from __future__ import annotations

from fallow.core.eviction.base import REGULAR_ONLY, SHORT, KindChoice, Strategy, no_argument, register_strategy
from fallow.core.eviction.learned import LongOnce
from fallow.core.model import ActionSpec


class NoFailures(LongOnce):
    """Long calls (see `LongOnce`) on regular VMs only, busy or not; every other kind is forbidden to them.

    Short calls: harvest, spot, regular, each if it fits, then the same three busy. A notice is longer than they are, so
    they end before the eviction.

    Caveats.
    - What is not known cannot be avoided: an app's first long call is placed as a short one, and so are those that
      arrive before it has ended or was cut off. What an eviction cuts off is started again on a regular VM.
    - An action that declares `long: false` is taken at its word, whatever its app has shown: that is how one short
      action is told from the long ones of its app.
    - Where all regular VMs are busy long calls queue there; where there is none they wait, and are refused.

    Source: strategy 1 of Zhang et al., SOSP 2021. Departure: theirs knows each app's history beforehand.
    """

    name = "no-failures"

    def kinds(self, spec: ActionSpec) -> tuple[KindChoice, ...]:
        return REGULAR_ONLY if self.is_long(spec) else SHORT


def _make(grace_s: float, argument: str) -> Strategy:
    no_argument(NoFailures.name, argument)
    return NoFailures(grace_s)


register_strategy(NoFailures.name, _make)
