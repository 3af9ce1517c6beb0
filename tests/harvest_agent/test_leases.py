"""Which VM is dead: a matter of two looks."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from harvest_agent.leases import LAPSE_S, Leases, Look, lapsed, still, watches


def look(now_s: float, touched_s: dict[str, float], *holding: str) -> Look:
    return Look(now_s=now_s, touched_s=touched_s, holding=frozenset(holding))


def test_a_lease_that_was_old_in_two_looks_has_lapsed() -> None:
    before, now = look(105, {"h1": 100, "h2": 104.5}, "h1", "h2"), look(106, {"h1": 100, "h2": 105.5}, "h1", "h2")
    assert lapsed(before, now) == ["h1"]


def test_containers_without_any_lease_are_of_a_dead_vm() -> None:
    assert lapsed(look(105, {"h2": 105}, "h1"), look(106, {"h2": 106}, "h1")) == ["h1"]


def test_a_lease_without_containers_is_of_a_dead_vm_too() -> None:
    assert lapsed(look(105, {"h1": 100}), look(106, {"h1": 100})) == ["h1"]


def test_after_a_sleep_of_the_machine_nobody_is_dead() -> None:
    """Every lease is old at the first look, and touched again by the second."""
    assert lapsed(look(900, {"h1": 100}, "h1"), look(901, {"h1": 900.2}, "h1")) == []


def test_one_look_decides_nothing() -> None:
    assert lapsed(look(104, {"h1": 100}, "h1"), look(105, {"h1": 100}, "h1")) == []
    assert lapsed(look(104, {}), look(105, {}, "h1")) == []  # its first container came between the looks


def test_still_is_what_holds_containers_and_did_not_move() -> None:
    before, now = look(10, {"a": 9, "b": 9, "c": 9}, "a", "b", "d"), look(11, {"a": 9, "b": 10, "c": 9}, "a", "b", "d")
    assert still(before, now) == ["a", "d"]


def test_the_first_living_vm_watches_over_the_others() -> None:
    touched_s = {"h1": 100.0, "h2": 109.0, "h3": 109.5}
    assert [vm for vm in touched_s if watches(vm, touched_s, 109.5)] == ["h2"]


@given(st.dictionaries(st.sampled_from("abcd"), st.floats(0, 20)), st.floats(0, 20))
def test_as_long_as_one_lease_is_fresh_one_vm_watches(touched_s: dict[str, float], now_s: float) -> None:
    fresh = [vm for vm, at_s in touched_s.items() if now_s - at_s < LAPSE_S]
    assert [vm for vm in fresh if watches(vm, touched_s, now_s)] == sorted(fresh)[:1]


def test_a_lease_tells_the_time_of_its_file_system(tmp_path: Path) -> None:
    mine, other = Leases(tmp_path / "leases", "h1"), Leases(tmp_path / "leases", "h2")
    mine.renew()
    other.renew()
    os.utime(tmp_path / "leases/h2.lease", (50, 50))
    (tmp_path / "leases/h1.lives").touch()  # what else lies there is no lease
    seen = mine.look(frozenset({"h2"}))
    assert set(seen.touched_s) == {"h1", "h2"}
    assert seen.now_s == (tmp_path / "leases/h1.lease").stat().st_mtime
    assert not seen.fresh("h2")
    mine.forget("h2")
    mine.forget("h2")
    mine.drop()
    assert sorted(p.name for p in (tmp_path / "leases").iterdir()) == ["h1.lives"]
