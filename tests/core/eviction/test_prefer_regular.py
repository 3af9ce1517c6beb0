from __future__ import annotations

from dataclasses import replace

import pytest

from fallow.core.eviction import PreferRegular, make_strategy
from fallow.core.model import VmKind
from support.specs import make_spec, order

H, S, R = VmKind.HARVEST, VmKind.SPOT, VmKind.REGULAR


def test_short_calls_are_cheap_first_and_use_idle_regular_room_before_they_wait() -> None:
    assert order(make_strategy("prefer-regular", 30.0), make_spec()) == [
        (H, True), (S, True), (R, True), (H, False), (S, False), (R, False),
    ]  # fmt: skip


def test_long_calls_go_to_regular_vms_while_there_is_room() -> None:
    assert order(make_strategy("prefer-regular", 30.0), make_spec(long=True)) == [
        (R, True), (H, True), (S, True), (H, False), (S, False), (R, False),
    ]  # fmt: skip


def test_an_app_is_learned_long_by_one_call_beyond_the_grace_period() -> None:
    strategy = make_strategy("prefer-regular", 30.0)
    strategy.observe(make_spec().app_key, 30.0)
    assert not strategy.is_long(make_spec())
    strategy.observe(make_spec().app_key, 30.001)
    strategy.observe(make_spec().app_key, 0.1)
    assert strategy.is_long(make_spec())
    assert order(strategy, make_spec())[0] == (R, True)
    assert not strategy.is_long(make_spec("g"))
    assert not strategy.is_long(make_spec(namespace="other"))


def test_actions_of_one_app_are_learned_together() -> None:
    strategy = make_strategy("prefer-regular", 30.0)
    strategy.observe(make_spec("f", app="shop").app_key, 100.0)
    assert strategy.is_long(make_spec("g", app="shop"))


def test_what_is_declared_counts_more_than_what_is_learned() -> None:
    strategy = make_strategy("prefer-regular", 30.0)
    strategy.observe(make_spec().app_key, 100.0)
    assert not strategy.is_long(replace(make_spec(), long=False))
    assert strategy.is_long(make_spec("never seen", long=True))


def test_memory_is_bounded_and_keeps_those_that_were_long_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fallow.core.eviction.learned.APPS_KEPT", 3)
    strategy = PreferRegular(1.0)
    for name in ("a", "b", "c", "a", "d"):
        strategy.observe(make_spec(name).app_key, 5.0)
    assert [name for name in "abcd" if strategy.is_long(make_spec(name))] == ["a", "c", "d"]


def test_a_call_that_was_cut_off_after_the_grace_period_was_long() -> None:
    strategy = make_strategy("prefer-regular", 30.0)
    strategy.observe_cut_off(make_spec().app_key, 30.0)
    assert not strategy.is_long(make_spec())
    strategy.observe_cut_off(make_spec().app_key, 30.1)
    assert strategy.is_long(make_spec())
