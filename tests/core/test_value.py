"""`value` makes the dataclass that a frozen one would be, but for the guard at run time."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import dataclass

import pytest

from fallow.core.value import value


@value(frozen=True, slots=True, kw_only=True)
class Quick:
    name: str
    cores: float = 1.0
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    name: str
    cores: float = 1.0
    note: str | None = None


def test_fields_defaults_and_order_are_the_dataclass_s() -> None:
    made = Quick(note="n", name="a")
    assert dataclasses.astuple(made) == dataclasses.astuple(Usual(note="n", name="a")) == ("a", 1.0, "n")
    assert repr(made) == repr(Usual(note="n", name="a")).replace("Usual", "Quick")


def test_it_is_slotted_equal_and_hashed_as_a_frozen_one() -> None:
    made = Quick(name="a")
    with pytest.raises(AttributeError):
        made.other = "b"  # type: ignore[attr-defined]
    assert not hasattr(made, "__dict__")
    assert made == Quick(name="a", cores=1.0)
    assert made != Quick(name="a", cores=2.0)
    assert hash(made) == hash(Quick(name="a")) == hash(Usual(name="a"))


def test_copies_are_of_the_same_class() -> None:
    made = Quick(name="a", cores=3.0)
    assert dataclasses.replace(made, cores=4.0) == Quick(name="a", cores=4.0)
    for other in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert (type(other), other) == (Quick, made)


@pytest.mark.parametrize(
    ("given", "says"),
    [({}, "missing"), ({"name": "a", "size": 1}, "unexpected keyword argument 'size'")],
)
def test_wrong_arguments_are_named(given: dict[str, object], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        Quick(**given)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Quick("a")  # type: ignore[call-arg]
