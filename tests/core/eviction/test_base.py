from __future__ import annotations

import pytest

from fallow.core.eviction import PreferRegular, Strategy, base, make_strategy, register_strategy, strategies


def test_all_strategies_are_registered() -> None:
    assert set(strategies()) == {"prefer-regular", "no-failures", "bounded", "live-and-let-die"}


@pytest.mark.parametrize("name", ["prefer-regular", "no-failures", "bounded:99.9", "live-and-let-die"])
def test_a_name_says_which_strategy_it_is(name: str) -> None:
    assert make_strategy(name, 30.0).name == name
    with pytest.raises(ValueError, match="grace_s is -1"):
        make_strategy(name, -1.0)


@pytest.mark.parametrize("name", ["prefer-regular", "no-failures", "live-and-let-die"])
def test_arguments_that_nobody_takes_are_errors(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' takes no argument, but was given '3'"):
        make_strategy(f"{name}:3", 30.0)
    with pytest.raises(ValueError, match=f"'{name}:' has nothing behind the colon"):
        make_strategy(f"{name}:", 30.0)


def test_wrong_names_name_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown strategy 'prefer-spot'; known: .*prefer-regular"):
        make_strategy("prefer-spot", 30.0)
    with pytest.raises(ValueError, match="takes no argument, but was given '3'"):
        make_strategy("prefer-regular:3", 30.0)
    with pytest.raises(ValueError, match="grace_s is -1"):
        make_strategy("prefer-regular", -1.0)


def test_a_strategy_is_added_as_one_factory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_REGISTRY", dict(strategies()))
    given: list[tuple[float, str]] = []

    def factory(grace_s: float, argument: str) -> Strategy:
        given.append((grace_s, argument))
        return PreferRegular(grace_s)

    register_strategy("mine", factory)
    make_strategy("mine:99.9", 30.0)
    assert given == [(30.0, "99.9")]
    with pytest.raises(ValueError, match="'mine' is registered already"):
        register_strategy("mine", factory)
