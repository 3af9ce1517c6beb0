"""Ids of parts, budgets, and the expansion of sequences against a plain statement of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.core.composition import (
    MAX_COMPONENTS,
    MAX_CONDUCTORS,
    Budget,
    ExpansionError,
    SequenceBudget,
    child_id,
    expanded,
)
from fallow.core.model import ActivationId

NAMES = st.sampled_from("abcdefgh")
WORLD = st.dictionaries(NAMES, st.lists(NAMES, max_size=4).map(tuple), max_size=8)


def test_ids_follow_from_the_whole_and_the_number() -> None:
    one, other = ActivationId("0" * 32), ActivationId("1" * 32)
    ids = [child_id(whole, step) for whole in (one, other) for step in range(50)]
    assert len(set(ids)) == 100
    assert all(len(i) == 32 and set(i) <= set("0123456789abcdef") for i in ids)
    assert child_id(one, 3) == child_id(one, 3)


def test_a_budget_is_used_up() -> None:
    budget = Budget()
    for _ in range(MAX_COMPONENTS):
        assert not budget.used_up
        budget.take_component()
    assert budget.used_up
    assert [budget.take_conductor() for _ in range(MAX_CONDUCTORS + 1)] == [True] * MAX_CONDUCTORS + [False]
    actions = SequenceBudget()
    assert [actions.take_action() for _ in range(MAX_COMPONENTS + 1)] == [True] * MAX_COMPONENTS + [False]


def flattened(name: str, world: dict[str, tuple[str, ...]], inside: tuple[str, ...]) -> list[str]:
    """What `expanded` is to give, by substitution; raises KeyError for a missing one, RecursionError for a circle."""
    if name in inside:
        raise RecursionError
    parts = world[name]
    return [leaf for part in parts for leaf in flattened(part, world, (*inside, name))] if parts else [name]


@settings(max_examples=300, deadline=None)
@given(WORLD, st.lists(NAMES, min_size=1, max_size=6))
def test_a_sequence_comes_to_its_actions_or_says_why_not(
    world: dict[str, tuple[str, ...]], components: list[str]
) -> None:
    try:
        wanted = [leaf for part in components for leaf in flattened(part, world, ("s",))]
    except (KeyError, RecursionError):
        with pytest.raises(ExpansionError):
            expanded("s", components, world.get)
        return
    if len(wanted) > MAX_COMPONENTS:
        with pytest.raises(ExpansionError, match="Too many"):
            expanded("s", components, world.get)
    else:
        assert expanded("s", components, world.get) == wanted


def test_a_deep_or_wide_one_is_refused_and_not_a_crash() -> None:
    deep = {str(n): (str(n + 1),) for n in range(5000)} | {"5000": ()}
    with pytest.raises(ExpansionError, match="Too many"):
        expanded("s", ["0"], deep.get)
    doubling = {str(n): (str(n + 1), str(n + 1)) for n in range(40)} | {"40": ()}
    with pytest.raises(ExpansionError, match="Too many"):
        expanded("s", ["0"], doubling.get)
    with pytest.raises(ExpansionError, match="itself"):
        expanded("s", ["a"], {"a": ("s",), "s": ("a",)}.get)
