"""Sequences and compositions: the ids of their parts, how long they may get, what follows a part's end.

The id of a part follows from the id of the whole and the part's number. So whoever takes over a composition from a
controller that died finds what is recorded of the parts, and starts no part twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fallow.core.model import ActivationId, Status

MAX_COMPONENTS = 50  # of a sequence when all in it are taken apart, and of a composition
MAX_CONDUCTORS = 2 * MAX_COMPONENTS + 1  # steps of a conductor in one composition
SEQUENCE_TOO_LONG = "Too many actions in the sequence."


def child_id(parent: ActivationId, step: int) -> ActivationId:
    """The id of part number `step` (from 0) of a composition: 32 hex digits."""
    return ActivationId(hashlib.sha256(f"{parent}/{step}".encode()).hexdigest()[:32])


@dataclass(slots=True)
class SequenceBudget:
    """What a sequence has used up, those in it counted in: it may have grown, or become a circle, since it was put.

    Mutable: shared by all sequences inside.
    """

    actions: int = 0

    def take_action(self) -> bool:
        """Counts an action that is no sequence, unless there were too many already."""
        if self.actions >= MAX_COMPONENTS:
            return False
        self.actions += 1
        return True


@dataclass(slots=True)
class Budget:
    """What one composition has used up, those in it counted in. Mutable: shared by all that runs inside."""

    components: int = 0
    conductors: int = 0

    @property
    def used_up(self) -> bool:
        """Whether no component may follow."""
        return self.components >= MAX_COMPONENTS

    def take_component(self) -> None:
        self.components += 1

    def take_conductor(self) -> bool:
        if self.conductors >= MAX_CONDUCTORS:
            return False
        self.conductors += 1
        return True


def goes_on(status: Status) -> bool:
    """Whether a sequence goes on after a component that ended so: only success has a result for the next."""
    return status is Status.SUCCESS


class ExpansionError(ValueError):
    """A sequence that cannot be. The text says why."""


def expanded(name: str, components: Sequence[str], parts_of: Callable[[str], Iterable[str] | None]) -> list[str]:
    """The actions that a sequence called `name` comes to, with all sequences in it taken apart.

    `parts_of` gives the components of an action that is a sequence, () of one that is none, None where there is no such
    action. Raises ExpansionError where there are more than MAX_COMPONENTS, one is missing, or it contains itself. It
    ends for every input: what may be taken apart is bounded.
    """
    found: list[str] = []

    def take(part: str, inside: tuple[str, ...]) -> None:
        if part in inside:
            raise ExpansionError("Sequence may not refer to itself.")
        if len(inside) > MAX_COMPONENTS:
            raise ExpansionError(SEQUENCE_TOO_LONG)
        parts = parts_of(part)
        if parts is None:
            raise ExpansionError("Sequence component does not exist.")
        listed = list(parts)
        for inner in listed:
            take(inner, (*inside, part))
        if not listed:
            found.append(part)
            if len(found) > MAX_COMPONENTS:
                raise ExpansionError(SEQUENCE_TOO_LONG)

    for component in components:
        take(component, (name,))
    return found
