from __future__ import annotations

import pytest

from fallow.core.eviction import make_strategy
from fallow.core.model import VmKind
from support.specs import make_spec, order

H, S, R = VmKind.HARVEST, VmKind.SPOT, VmKind.REGULAR


@pytest.mark.parametrize("long", [None, True, False])
def test_every_call_has_evictable_vms_busy_or_not_before_a_regular_one(long: bool | None) -> None:
    strategy = make_strategy("live-and-let-die", 30.0)
    strategy.observe(make_spec().app_key, 100.0)
    assert order(strategy, make_spec(long=long)) == [(H, True), (S, True), (H, False), (S, False), (R, False)]


def test_long_calls_are_told_apart_all_the_same() -> None:
    strategy = make_strategy("live-and-let-die", 30.0)
    strategy.observe(make_spec().app_key, 100.0)
    assert strategy.is_long(make_spec())
    assert not strategy.is_long(make_spec("g"))
