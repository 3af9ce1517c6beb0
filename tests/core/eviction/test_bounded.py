from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.core.eviction import Bounded, make_strategy
from fallow.core.model import VmKind
from support.specs import make_spec, order

H, S, R = VmKind.HARVEST, VmKind.SPOT, VmKind.REGULAR
GRACE_S = 30.0
KEY = make_spec().app_key


@given(
    st.lists(st.floats(0.0, 100.0), min_size=1, max_size=300),
    st.sampled_from(["50", "75", "90", "99", "99.9", "100", "0.5"]),
)
def test_an_app_is_long_while_its_percentile_exceeds_the_grace_period(durations: list[float], p: str) -> None:
    strategy = make_strategy(f"bounded:{p}", GRACE_S)
    for count, duration_s in enumerate(durations, 1):
        strategy.observe(KEY, duration_s)
        rank = math.ceil(Fraction(p) * count / 100)
        percentile = sorted(durations[:count])[rank - 1]
        assert strategy.is_long(make_spec()) is (percentile > GRACE_S)


def test_the_worked_example_of_the_docstring() -> None:
    strategy = make_strategy("bounded:99", GRACE_S)
    assert not strategy.is_long(make_spec())
    strategy.observe(KEY, 40.0)
    for _ in range(98):
        strategy.observe(KEY, 1.0)
        assert strategy.is_long(make_spec())
    strategy.observe(KEY, 1.0)
    assert not strategy.is_long(make_spec()), "99 of 100"
    strategy.observe(KEY, 40.0)
    assert strategy.is_long(make_spec()), "two of 101"


def test_a_thousandth_is_held_apart_from_a_hundredth() -> None:
    loose, strict = make_strategy("bounded:99", GRACE_S), make_strategy("bounded:99.9", GRACE_S)
    for number in range(500):
        for strategy in (loose, strict):
            strategy.observe(KEY, 40.0 if number == 250 else 1.0)
    assert (loose.is_long(make_spec()), strict.is_long(make_spec())) == (False, True)


def test_long_calls_have_regular_vms_and_nothing_else() -> None:
    strategy = make_strategy("bounded:99", GRACE_S)
    assert order(strategy, make_spec())[0] == (H, True)
    strategy.observe(KEY, 40.0)
    assert order(strategy, make_spec()) == [(R, False)]
    assert order(strategy, make_spec(long=False))[0] == (H, True)
    assert order(strategy, make_spec("never seen", long=True)) == [(R, False)]


def test_a_call_cut_off_early_says_nothing() -> None:
    strategy = make_strategy("bounded:50", GRACE_S)
    strategy.observe(KEY, 40.0)
    for _ in range(9):
        strategy.observe_cut_off(KEY, 5.0)
    assert strategy.is_long(make_spec()), "nine that were cut off after 5 s were not short"
    strategy = make_strategy("bounded:50", GRACE_S)
    strategy.observe(KEY, 1.0)
    strategy.observe_cut_off(KEY, 31.0)
    strategy.observe_cut_off(KEY, 31.0)
    assert strategy.is_long(make_spec())


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("bounded", "needs a percentile, such as bounded:99 or bounded:99.9"),
        ("bounded:", "'bounded:' has nothing behind the colon"),
        ("bounded:abc", "'bounded:abc': 'abc' is no percentile, such as 99 or 99.9"),
        ("bounded:nan", "'nan' is no percentile"),
        ("bounded:-1", "'-1' is no percentile"),
        ("bounded:9/10", "'9/10' is no percentile"),
        ("bounded:0", "'bounded:0': the percentile is 0: it must be above 0 and at most 100"),
        ("bounded:101", "'bounded:101': the percentile is 101: it must be above 0 and at most 100"),
        ("bounded:100.1", "the percentile is 100.1: it must be above 0 and at most 100"),
    ],
)
def test_a_wrong_argument_is_named(name: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        make_strategy(name, GRACE_S)


def test_memory_is_bounded_and_keeps_those_called_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fallow.core.eviction.bounded.APPS_KEPT", 3)
    strategy = Bounded(GRACE_S, Fraction(99))
    for name in ("a", "b", "c", "a", "d"):
        strategy.observe(make_spec(name).app_key, 40.0)
    assert [name for name in "abcd" if strategy.is_long(make_spec(name))] == ["a", "c", "d"]
