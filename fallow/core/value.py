"""Values of which every call makes several: frozen to the type checker, plain assignments at run time.

The __init__ of a frozen dataclass sets each field by a call of object.__setattr__, since plain assignment is what the
class forbids: some 0.3 us a field, a tenth of what a call costs the platform. `value` is `dataclass` to the type
checker, which refuses every assignment to a field of a value. At run time the class is a dataclass with the same
fields, equality and hash that is not guarded a second time.

Example:
    @value(frozen=True, slots=True, kw_only=True)
    class Sample: ...
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

__all__ = ["value"]

if TYPE_CHECKING:
    from dataclasses import dataclass as value  # an alias is all that mypy follows
else:

    def value(*, frozen, slots, kw_only):
        return dataclasses.dataclass(slots=slots, kw_only=kw_only, unsafe_hash=frozen)
