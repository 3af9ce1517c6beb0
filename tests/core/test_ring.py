from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.core.model import ActionKey, VmId
from fallow.core.ring import Ring, action_position, position_of

names = st.integers(0, 200).map(lambda n: VmId(f"h{n}"))
# Drawn from hashes, so that they fall evenly on the circle, and its two ends.
positions = st.integers(0, 10_000).map(lambda n: position_of(f"f{n}")) | st.sampled_from([0, 2**64 - 1])
changes = st.lists(st.tuples(st.sampled_from(["add", "remove", "usable", "unusable"]), names), max_size=60)


def apply(changes_: list[tuple[str, VmId]]) -> tuple[Ring, dict[VmId, bool]]:
    """A ring and, beside it, which VMs it should hold and whether they are usable."""
    ring, usable = Ring(), dict[VmId, bool]()
    for verb, vm_id in changes_:
        if verb == "add" and vm_id not in usable:
            ring.add(vm_id)
            usable[vm_id] = True
        elif vm_id in usable:
            if verb == "remove":
                ring.remove(vm_id)
                del usable[vm_id]
            elif verb != "add":
                ring.mark(vm_id, verb == "usable")
                usable[vm_id] = verb == "usable"
    return ring, usable


def naive_walk(usable: dict[VmId, bool], position: int) -> list[VmId]:
    """Usable VMs by distance along the circle, ties by id."""
    ids = [vm_id for vm_id, is_usable in usable.items() if is_usable]
    return sorted(ids, key=lambda vm_id: ((position_of(vm_id) - position) % 2**64, vm_id))


@given(changes, positions)
def test_walk_equals_a_naive_one(changes_: list[tuple[str, VmId]], position: int) -> None:
    ring, usable = apply(changes_)
    expected = naive_walk(usable, position)
    assert list(ring.walk(position)) == expected
    assert ring.home(position) == (expected[0] if expected else None)
    assert list(ring.ids) == sorted(usable, key=lambda vm_id: (position_of(vm_id), vm_id))
    assert set(ring.usable_ids) == {vm_id for vm_id, is_usable in usable.items() if is_usable}


@given(changes, names, st.lists(positions, min_size=1, max_size=50))
def test_only_the_arc_of_a_changed_vm_moves(
    changes_: list[tuple[str, VmId]], vm_id: VmId, positions_: list[int]
) -> None:
    ring, usable = apply(changes_)
    if vm_id not in usable:
        ring.add(vm_id)
    ring.mark(vm_id, False)
    without = [ring.home(position) for position in positions_]
    ring.mark(vm_id, True)
    for position, before in zip(positions_, without, strict=True):
        assert ring.home(position) in {before, vm_id}
    ring.remove(vm_id)
    assert [ring.home(position) for position in positions_] == without


def test_the_circle_is_closed() -> None:
    ring = Ring()
    for number in range(4):
        ring.add(VmId(f"h{number}"))
    behind_the_last = position_of(ring.ids[-1]) + 1
    assert ring.home(behind_the_last) == ring.ids[0]
    assert list(ring.walk(behind_the_last)) == list(ring.ids)
    assert ring.home(behind_the_last - 1) == ring.ids[-1]


def test_ties_go_by_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fallow.core.ring.position_of", lambda text: 7)
    ring = Ring()
    for name in ("h3", "h1", "h2"):
        ring.add(VmId(name))
    assert list(ring.walk(7)) == ["h1", "h2", "h3"]
    ring.mark(VmId("h1"), False)
    assert list(ring.walk(0)) == ["h2", "h3"]
    ring.remove(VmId("h2"))
    assert list(ring.ids) == ["h1", "h3"]


def test_positions_are_the_same_for_ever() -> None:
    # Controllers of two versions must agree on homes: a change of these numbers is a change of the protocol.
    assert position_of("h1") == 14121997115680205745
    assert action_position(ActionKey(namespace="guest", name="hello")) == position_of("guest/hello")


def test_version_counts_changes_of_the_usable_vms_only() -> None:
    ring = Ring()
    ring.add(VmId("h1"))
    version = ring.version
    ring.mark(VmId("h1"), True)
    assert ring.version == version
    ring.mark(VmId("h1"), False)
    assert ring.version == version + 1
    ring.mark(VmId("h1"), False)
    ring.remove(VmId("h1"))
    assert ring.version == version + 1


def test_misuse_is_an_error_and_changes_nothing() -> None:
    ring = Ring()
    ring.add(VmId("h1"))
    with pytest.raises(ValueError, match="'h1' is on the ring already"):
        ring.add(VmId("h1"))
    with pytest.raises(KeyError, match="h2"):
        ring.mark(VmId("h2"), True)
    with pytest.raises(KeyError, match="h2"):
        ring.remove(VmId("h2"))
    assert list(ring.ids) == ["h1"]
    assert VmId("h1") in ring
    assert VmId("h2") not in ring


def test_homes_are_spread() -> None:
    ring = Ring()
    for number in range(50):
        ring.add(VmId(f"h{number}"))
    homes = {ring.home(action_position(ActionKey(namespace="ns", name=f"f{n}"))) for n in range(1000)}
    assert len(homes) > 35
