"""The waiting room: whose turn it is, what a pass costs, what is counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.core.cluster.waiting import WaitingRoom


def fill(*calls: tuple[str, str, str]) -> WaitingRoom[str]:
    room: WaitingRoom[str] = WaitingRoom()
    for call_id, namespace, action in calls:
        room.add(call_id, namespace, action, 10, call_id)
    return room


def take_all(room: WaitingRoom[str], *, takes: int = 100) -> list[str]:
    taken: list[str] = []

    def take(call: str) -> bool:
        taken.append(call)
        return True

    room.offer(take, tries=100, takes=takes)
    return taken


def test_namespaces_take_turns() -> None:
    room = fill(("a1", "a", "f"), ("a2", "a", "f"), ("a3", "a", "f"), ("b1", "b", "f"), ("b2", "b", "g"))
    assert take_all(room) == ["a1", "b1", "a2", "b2", "a3"]
    assert room.count == 0
    assert room.size_bytes == 0


def test_turns_go_on_where_the_last_pass_stopped() -> None:
    room = fill(("a1", "a", "f"), ("a2", "a", "f"), ("b1", "b", "f"), ("b2", "b", "f"))
    assert take_all(room, takes=1) == ["a1"]
    assert take_all(room, takes=2) == ["b1", "a2"]


def test_what_cannot_be_placed_holds_back_its_own_action_only() -> None:
    room = fill(("a1", "a", "long"), ("a2", "a", "long"), ("a3", "a", "short"), ("a4", "a", "short"))
    asked: list[str] = []

    def take(call: str) -> bool:
        asked.append(call)
        return call in ("a3", "a4")

    assert room.offer(take, tries=100, takes=100) == 2
    assert asked == ["a1", "a3", "a4"]
    assert list(room) == ["a1", "a2"]


def test_a_pass_stops_after_so_many_refusals_and_the_next_goes_on() -> None:
    room = fill(*((f"a{n}", "a", f"f{n}") for n in range(50)))
    asked: list[str] = []

    def refuse(call: str) -> bool:
        asked.append(call)
        return False

    for _ in range(10):
        room.offer(refuse, tries=5, takes=5)
    assert asked == [f"a{n}" for n in range(50)], "each was asked once in ten passes of five"


def test_the_same_call_cannot_wait_twice() -> None:
    room = fill(("a1", "a", "f"))
    with pytest.raises(ValueError, match="a1"):
        room.add("a1", "b", "g", 1, "a1")
    with pytest.raises(KeyError):
        room.remove("a2")


CALLS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("fgh")), max_size=30)


@given(calls=CALLS, removed=st.sets(st.integers(0, 29)), unplaceable=st.sets(st.sampled_from("fgh")))
def test_nothing_is_lost_and_order_within_an_action_holds(
    calls: list[tuple[str, str]], removed: set[int], unplaceable: set[str]
) -> None:
    room = fill(*((str(n), namespace, action) for n, (namespace, action) in enumerate(calls)))
    stay = [n for n in range(len(calls)) if n not in removed]
    for n in sorted(removed & set(range(len(calls)))):
        room.remove(str(n))
    taken: list[int] = []

    def take(call: str) -> bool:
        if calls[int(call)][1] in unplaceable:
            return False
        taken.append(int(call))
        return True

    room.offer(take, tries=100, takes=100)
    assert sorted(taken) == [n for n in stay if calls[n][1] not in unplaceable]
    assert room.count == len(stay) - len(taken) == len(list(room))
    assert room.size_bytes == 10 * room.count
    for key in set(calls):
        mine = [n for n in taken if calls[n] == key]
        assert mine == sorted(mine)
        assert room.holds_action(*key) == any(calls[n] == key and calls[n][1] in unplaceable for n in stay)
