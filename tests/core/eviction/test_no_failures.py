from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fallow.core.eviction import make_strategy
from fallow.core.model import VmKind
from support.specs import make_spec, order

H, S, R = VmKind.HARVEST, VmKind.SPOT, VmKind.REGULAR
GRACE_S = 30.0


def test_short_calls_are_cheap_first_and_use_idle_regular_room_before_they_wait() -> None:
    assert order(make_strategy("no-failures", GRACE_S), make_spec()) == [
        (H, True), (S, True), (R, True), (H, False), (S, False), (R, False),
    ]  # fmt: skip


def test_long_calls_have_regular_vms_and_nothing_else() -> None:
    strategy = make_strategy("no-failures", GRACE_S)
    strategy.observe(make_spec().app_key, 30.001)
    assert order(strategy, make_spec()) == [(R, False)]
    assert order(strategy, make_spec("declared", long=True)) == [(R, False)]


def test_an_action_that_says_it_is_short_is_taken_at_its_word() -> None:
    strategy = make_strategy("no-failures", GRACE_S)
    strategy.observe(make_spec(app="shop").app_key, 100.0)
    assert strategy.is_long(make_spec("pay", app="shop"))
    assert order(strategy, make_spec("list", app="shop", long=False))[0] == (H, True)


apps = st.sampled_from(["a", "b", "c"])
seconds = st.one_of(st.floats(0.0, 100.0), st.sampled_from([GRACE_S, GRACE_S + 1e-9]))


@given(
    st.lists(st.tuples(apps, seconds, st.booleans()), max_size=60),
    apps,
    st.sampled_from([None, None, True, False]),
)
def test_no_long_app_is_ever_offered_a_vm_that_can_be_evicted(
    history: list[tuple[str, float, bool]], app: str, declared: bool | None
) -> None:
    strategy = make_strategy("no-failures", GRACE_S)
    was_long: set[str] = set()
    for name, duration_s, cut_off in history:
        key = make_spec(app=name).app_key
        (strategy.observe_cut_off if cut_off else strategy.observe)(key, duration_s)
        was_long |= {name} if duration_s > GRACE_S else set()
        spec = make_spec("x", app=app, long=declared)
        long = declared if declared is not None else app in was_long
        assert strategy.is_long(spec) is long
        kinds = {kind for kind, _ in order(strategy, spec)}
        assert kinds == ({R} if long else {H, S, R})
