"""Frozen dataclasses that are made quickly: for the values of which every call makes one.

The __init__ of a frozen dataclass sets each field by a call of object.__setattr__, since plain assignment is what the
class forbids: some 0.3 us a field, a tenth of what a call costs the platform. Here an instance is opened first, its
class replaced by a twin with the same slots that forbids nothing, then filled by plain assignments and closed again by
taking its own class back. To everybody else it is the frozen dataclass that the decorator below makes of it.

Example:
    @quick
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Sample: ...
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, TypeVar

T = TypeVar("T")


def quick(cls: type[T]) -> type[T]:
    """Gives the class an __init__ of the same signature and effect that takes half the time.

    Raises TypeError for what it does not serve: no slots, positional arguments, a __post_init__, default factories.
    """
    mine = fields(cls)  # type: ignore[arg-type]  # raises TypeError itself where cls is no dataclass
    names = tuple(field.name for field in mine)
    plain = all(f.kw_only and f.init and f.default_factory is MISSING for f in mine)
    if not plain or cls.__dict__.get("__slots__") != names or hasattr(cls, "__post_init__"):
        raise TypeError(f"{cls.__name__} needs slots of its own, keywords only, no __post_init__ and no factories")
    scope: dict[str, Any] = {
        "mine": cls,
        "twin": type(cls.__name__, (), {"__slots__": names}),
        "open_as": object.__dict__["__class__"].__set__,
        **{f"default_{field.name}": field.default for field in mine},
    }
    parameters = [
        name if f.default is MISSING else f"{name}=default_{name}" for name, f in zip(names, mine, strict=True)
    ]
    lines = [
        f"def __init__(self, *, {', '.join(parameters)}):",
        " open_as(self, twin)",
        *(f" self.{name} = {name}" for name in names),
        " self.__class__ = mine",
    ]
    exec("\n".join(lines), scope)  # as the dataclass module makes its own
    made = scope["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    made.__annotations__ = dict(cls.__init__.__annotations__)
    cls.__init__ = made  # type: ignore[method-assign]
    return cls
