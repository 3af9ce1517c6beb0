from __future__ import annotations

import pytest

from fallow.core.model import VmKind
from fallow.report.price import DISCOUNTS, cost_core_h, cost_rate, discount_named
from fallow.report.timeline import VmLife

BUDGET = 32.0  # two regular VMs of 16 cores


@pytest.mark.parametrize(
    ("discount", "vms", "cores", "rate"),
    [("Lowest", 6, 62, 32.24), ("Typical", 12, 148, 32.0), ("High", 18, 248, 28.4), ("Best", 21, 312, 32.04)],
)
def test_what_a_budget_buys(discount: str, vms: int, cores: int, rate: float) -> None:
    """Zhang et al., SOSP 2021: their clusters for the price of 32 regular cores (at High they left some of it)."""
    per_vm = cost_rate(VmKind.HARVEST, cores / vms, DISCOUNTS[discount])
    assert vms * per_vm == pytest.approx(rate)
    assert vms * per_vm < BUDGET * 1.01


def test_saving_spans_48_to_90_percent() -> None:
    assert cost_rate(VmKind.HARVEST, 100, DISCOUNTS["Lowest"]) == pytest.approx(52)
    assert cost_rate(VmKind.HARVEST, 2, DISCOUNTS["Best"]) == pytest.approx(0.24)


def test_below_the_guaranteed_cores_all_pay_the_evictable_price() -> None:
    assert cost_rate(VmKind.HARVEST, 0.5, DISCOUNTS["Typical"]) == pytest.approx(0.15)


def test_regular_and_spot() -> None:
    assert cost_rate(VmKind.REGULAR, 6, DISCOUNTS["Best"]) == 6
    assert cost_rate(VmKind.SPOT, 10, DISCOUNTS["Typical"]) == pytest.approx(3)


def test_a_life_is_paid_piece_by_piece() -> None:
    life = VmLife(
        vm="h1",
        kind=VmKind.HARVEST,
        steps=((0.0, 12.0), (3600.0, 2.0)),
        end_s=7200.0,
        evicted=False,
        evicted_by="",
        notices=(),
    )
    assert cost_core_h(life, DISCOUNTS["Typical"]) == pytest.approx(0.6 + 2.0 + 0.6)


def test_names_of_discounts() -> None:
    assert discount_named("best") is DISCOUNTS["Best"]
    with pytest.raises(ValueError, match="'Huge' is not one of Lowest, Typical, High, Best"):
        discount_named("Huge")
