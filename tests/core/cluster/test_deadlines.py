"""The timer wheel against a plain dict."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fallow.core.cluster.deadlines import Deadlines

KEYS = st.sampled_from(["a", "b", "c", "d"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, st.floats(0, 20)),
        st.tuples(st.just("drop"), KEYS, st.just(0.0)),
        st.tuples(st.just("pass"), st.just(""), st.floats(0, 5)),
    )
)


@given(STEPS)
def test_never_early_and_at_most_a_grain_late(steps: list[tuple[str, str, float]]) -> None:
    deadlines: Deadlines[str] = Deadlines(grain_s=0.5)
    model: dict[str, float] = {}
    now_s = 0.0
    for what, key, value in steps:
        if what == "set":
            deadlines.set(key, value)
            model[key] = value
        elif what == "drop":
            deadlines.drop(key)
            model.pop(key, None)
        else:
            now_s += value
            due = deadlines.due(now_s)
            assert len(due) == len(set(due))
            assert all(model.pop(key) <= now_s for key in due)
            assert all(at_s + 0.5 > now_s for at_s in model.values()), "one is overdue by more than a grain"
        assert len(deadlines) == len(model)
        assert all(key in deadlines for key in model)


def test_a_key_has_one_deadline() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("a", 1.0)
    deadlines.set("a", 5.0)
    assert deadlines.due(4.0) == []
    assert deadlines.due(5.0) == ["a"]
    assert deadlines.due(9.0) == []


def test_due_keys_come_in_order() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for key, at_s in (("late", 3.0), ("early", 1.0), ("middle", 2.0), ("early too", 1.0)):
        deadlines.set(key, at_s)
    assert deadlines.due(10.0) == ["early", "early too", "middle", "late"]
