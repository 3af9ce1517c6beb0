"""What VMs cost, in regular core-hours: the price of one core of a regular VM for one hour is 1.

Zhang et al., SOSP 2021: a harvest VM pays for its two guaranteed cores at the discount of evictable VMs and for every
core beyond them at the (higher) discount of harvested cores:

    cost rate = 2 (1 - d_evict) + (cores - 2) (1 - d_harvest)

A worked example at Typical (70 %, 80 %): 8 cores cost 2 x 0.3 + 6 x 0.2 = 1.8 regular cores, a saving of 77.5 %.

Departures, where the paper is silent: below two cores (a shrink under the usual minimum) the cores there are pay the
evictable price; a spot VM, which is evictable and never grows, pays it for all its cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from fallow.core.model import VmKind
from fallow.report.timeline import VmLife

GUARANTEED_CORES = 2.0
SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Discount:
    """Shares of the regular price that are saved, 0 to 1."""

    evictable: float
    harvested: float


DISCOUNTS = {
    "Lowest": Discount(evictable=0.48, harvested=0.48),
    "Typical": Discount(evictable=0.70, harvested=0.80),
    "High": Discount(evictable=0.80, harvested=0.90),
    "Best": Discount(evictable=0.88, harvested=0.90),
}


def discount_named(name: str) -> Discount:
    """Case does not matter. Raises ValueError that lists the names there are."""
    for known, discount in DISCOUNTS.items():
        if known.lower() == name.lower():
            return discount
    raise ValueError(f"discount {name!r} is not one of {', '.join(DISCOUNTS)}")


def cost_rate(kind: VmKind, cores: float, discount: Discount) -> float:
    """What a VM costs while it has so many cores, in regular cores."""
    match kind:
        case VmKind.REGULAR:
            return cores
        case VmKind.SPOT:
            return cores * (1 - discount.evictable)
        case VmKind.HARVEST:
            guaranteed = min(cores, GUARANTEED_CORES)
            return guaranteed * (1 - discount.evictable) + (cores - guaranteed) * (1 - discount.harvested)
        case _:
            assert_never(kind)


def cost_core_h(life: VmLife, discount: Discount) -> float:
    """What one VM cost over its part of the run, in regular core-hours."""
    return (
        sum((to - since) * cost_rate(life.kind, cores, discount) for since, to, cores in life.pieces())
        / SECONDS_PER_HOUR
    )
