"""Virtual time: in order of time, then of scheduling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.clock import VirtualClock


@given(st.lists(st.integers(0, 5)))
def test_what_falls_on_one_moment_runs_in_the_order_it_was_scheduled(moments: list[int]) -> None:
    clock, ran = VirtualClock(), list[tuple[float, int]]()
    for number, at_s in enumerate(moments):
        clock.at(at_s, ran.append, (at_s, number))
    clock.run(float("inf"))
    assert ran == sorted(ran)
    assert len(ran) == clock.events == len(moments)


def test_what_is_added_for_the_very_moment_runs_in_it_and_last() -> None:
    clock, ran = VirtualClock(), list[str]()
    clock.at(1.0, lambda: clock.after(0.0, ran.append, "added"))
    clock.at(1.0, ran.append, "there")
    clock.at(1.5, ran.append, "later")
    clock.run(1.0)
    assert (ran, clock.now_s, clock.events) == (["there", "added"], 1.0, 3)
    clock.run(2.0)
    assert (ran, clock.now_s, clock.events) == (["there", "added", "later"], 2.0, 4)


def test_the_past_is_refused() -> None:
    clock = VirtualClock()
    clock.run(2.0)
    with pytest.raises(ValueError, match=r"1\.0 s has passed: it is 2\.0 s"):
        clock.at(1.0, print)
