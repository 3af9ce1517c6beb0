"""`quick` changes how fast a frozen dataclass is made, and nothing else."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import dataclass, field

import pytest

from fallow.core.quick import quick


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
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
    assert type(made) is Quick
    assert dataclasses.astuple(made) == dataclasses.astuple(Usual(note="n", name="a")) == ("a", 1.0, "n")
    assert repr(made) == repr(Usual(note="n", name="a")).replace("Usual", "Quick")


def test_it_is_frozen_slotted_equal_and_hashed_as_before() -> None:
    made = Quick(name="a")
    for name in ("name", "other"):
        with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
            setattr(made, name, "b")
    with pytest.raises(dataclasses.FrozenInstanceError):
        del made.name
    assert not hasattr(made, "__dict__")
    assert made == Quick(name="a", cores=1.0)
    assert made != Quick(name="a", cores=2.0)
    assert hash(made) == hash(Quick(name="a"))


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
        Quick("a")  # type: ignore[misc]


def test_what_it_does_not_serve_is_refused() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Factory:
        names: list[str] = field(default_factory=list)

    @dataclass(frozen=True, kw_only=True)
    class NoSlots:
        name: str

    @dataclass(frozen=True, slots=True)
    class Positional:
        name: str

    for cls in (Factory, NoSlots, Positional, int):
        with pytest.raises(TypeError):
            quick(cls)
