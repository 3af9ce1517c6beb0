"""Every edge of the tables, and what is no edge."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest

from fallow.core.lifecycle import (
    CallEvent,
    CallLifecycle,
    CallState,
    ContainerEvent,
    ContainerLifecycle,
    ContainerState,
    IllegalMoveError,
    Lifecycle,
    VmEvent,
    VmLifecycle,
    VmState,
)

MACHINES: list[tuple[type[Lifecycle[Any, Any]], type[StrEnum], type[StrEnum]]] = [
    (CallLifecycle, CallState, CallEvent),
    (ContainerLifecycle, ContainerState, ContainerEvent),
    (VmLifecycle, VmState, VmEvent),
]


def at(machine: type[Lifecycle[Any, Any]], goal: StrEnum) -> Lifecycle[Any, Any]:
    """A machine brought to that state by the shortest way through its table."""
    ways: dict[StrEnum, list[StrEnum]] = {machine.first: []}
    frontier = [machine.first]
    while goal not in ways:
        state = frontier.pop(0)
        for event, after in machine.table[state].items():
            if after not in ways:
                ways[after] = [*ways[state], event]
                frontier.append(after)
    thing = machine()
    for event in ways[goal]:
        thing.advance(event)
    return thing


@pytest.mark.parametrize(("machine", "states", "events"), MACHINES)
def test_every_pair_of_state_and_event(
    machine: type[Lifecycle[Any, Any]], states: type[StrEnum], events: type[StrEnum]
) -> None:
    assert set(machine.table) == set(states), "a state has no row"
    for state in states:
        for event in events:
            thing = at(machine, state)
            assert thing.state is state
            if event in machine.table[state]:
                assert thing.can(event)
                assert thing.advance(event) is machine.table[state][event]
                assert thing.state is machine.table[state][event]
            else:
                assert not thing.can(event)
                with pytest.raises(IllegalMoveError, match=str(event)) as caught:
                    thing.advance(event)
                assert thing.state is state, "an illegal move changed the state"
                assert (caught.value.state, caught.value.event) == (state, event)


@pytest.mark.parametrize(("machine", "states", "events"), MACHINES)
def test_every_event_has_an_edge_and_every_state_can_end(
    machine: type[Lifecycle[Any, Any]], states: type[StrEnum], events: type[StrEnum]
) -> None:
    assert {event for row in machine.table.values() for event in row} == set(events)
    ends = {state for state, row in machine.table.items() if not row}
    assert len(ends) == 1
    grew = True
    while grew:
        more = {state for state, row in machine.table.items() if ends & set(row.values())} - ends
        grew = bool(more)
        ends |= more
    assert ends == set(states), "from somewhere there is no way to the end"


def test_only_advance_writes() -> None:
    thing = ContainerLifecycle()
    with pytest.raises(AttributeError):
        thing.state = ContainerState.GONE  # type: ignore[misc]


def test_a_finished_call_cannot_be_placed_again() -> None:
    call = CallLifecycle()
    call.advance(CallEvent.PLACED)
    call.advance(CallEvent.ANSWERED)
    with pytest.raises(IllegalMoveError):
        call.advance(CallEvent.RETURNED)
