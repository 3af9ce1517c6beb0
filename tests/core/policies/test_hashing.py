"""Hash: walks, steps and draws by equality."""

from __future__ import annotations

import random
from dataclasses import replace
from math import gcd
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.core.model import Activation, Considered, Decision, VmId, VmKind
from fallow.core.policies.base import CONSIDERED_KEPT, VmView
from fallow.core.policies.hashing import STEPS_KEPT, Hashing, step_sizes
from fallow.core.ring import action_position
from support.policies import FakeCluster, make_call, make_vm

HARVEST, REGULAR = VmKind.HARVEST, VmKind.REGULAR


class Dice:
    """Draws what it is told to, and tells of how many."""

    def __init__(self, *draws: int) -> None:
        self.draws = list(draws)
        self.of: list[int] = []

    def randrange(self, stop: int, /) -> int:
        self.of.append(stop)
        return self.draws.pop(0)


def make_hash(cluster: FakeCluster, dice: Dice | None = None) -> Hashing:
    policy = Hashing(dice or Dice())
    for vm in cluster.views.values():
        policy.vm_joined(vm.id, vm.kind, 0.0)
    return policy


def walk_of(cluster: FakeCluster, call: Activation, kind: VmKind = HARVEST) -> list[VmId]:
    """Every VM in the order in which the call looks at them, by the formula."""
    ids, position = cluster.vm_ids(kind), action_position(call.action.key)
    steps = step_sizes(len(ids))
    step = steps[position % len(steps)]
    return [ids[(position + n * step) % len(ids)] for n in range(len(ids))]


def full(vm: VmView) -> VmView:
    return replace(vm, booked=vm.capacity)


def seen(vm_id: VmId, score: float, fits: bool, note: str) -> Considered:
    return Considered(vm_id=vm_id, kind=HARVEST, score=score, fits=fits, note=note)


@pytest.mark.parametrize(
    ("count", "steps"),
    [(1, (1,)), (2, (1,)), (3, (1, 2)), (4, (1, 3)), (5, (1, 2, 3)), (10, (1, 3, 7)), (12, (1, 5, 7, 11))],
)
def test_step_sizes_are_those_of_the_source(count: int, steps: tuple[int, ...]) -> None:
    assert step_sizes(count) == steps


@given(st.integers(1, 3000))
def test_every_step_size_visits_every_vm(count: int) -> None:
    steps = step_sizes(count)
    assert 1 <= len(steps) <= STEPS_KEPT
    assert all(gcd(step, count) == 1 for step in steps)


def test_the_worked_example_of_the_docstring() -> None:
    vms = [make_vm(f"h{n}", memory_mb=1024.0) for n in range(5)]
    cluster = FakeCluster(vms, controllers=2)
    a, b, c, d, e = cluster.vm_ids(HARVEST)
    cluster.views[c] = make_vm(c, memory_mb=1024.0, booked_mb=512.0)
    cluster.views[e] = make_vm(e, memory_mb=1024.0, booked_mb=256.0)
    dice = Dice(3)
    policy = make_hash(cluster, dice)
    with patch("fallow.core.policies.hashing.action_position", return_value=7):
        assert policy.place(make_call(), HARVEST, cluster, 0.0) == Decision(
            vm_id=e,
            fits=True,
            reason="memory slot free: step 2 of 5 from home",
            considered=(
                seen(c, 1.5, False, "with it 768 of 512 MB in slots"),
                seen(e, 1.0, True, "with it 512 of 512 MB in slots"),
            ),
            cpu_cores=1.0,
            memory_mb=256.0,
            cap_cores=1.0,
        )
        cluster.views[e] = full(cluster.views[e])
        order = []
        for _ in range(3):
            chosen = policy.place(make_call(), HARVEST, cluster, 0.0).vm_id
            assert chosen is not None
            order.append(chosen)
            cluster.views[chosen] = full(cluster.views[chosen])
        assert order == [b, d, a]
        decision = policy.place(make_call(), HARVEST, cluster, 0.0)
    assert (decision.vm_id, decision.fits) == (d, False), "number 3 of c e b d a"
    assert decision.reason == "overload: all 5 are full, one drawn at random"
    assert dice.of == [5]


def test_a_function_stays_at_home_while_there_is_memory() -> None:
    cluster = FakeCluster([make_vm(f"h{n}") for n in range(7)])
    policy = make_hash(cluster)
    for name in "abcdefgh":
        call = make_call(name)
        home = walk_of(cluster, call)[0]
        assert [policy.place(call, HARVEST, cluster, 0.0).vm_id for _ in range(3)] == [home] * 3


def test_it_is_blind_to_cpu_resizing_and_notices() -> None:
    cluster = FakeCluster([make_vm(f"h{n}") for n in range(3)])
    policy = make_hash(cluster)
    call = make_call()
    home = walk_of(cluster, call)[0]
    cluster.views[home] = make_vm(home, cores=0.1, used=0.1, used_mb=8192.0, booked=9.0, usable=False)
    policy.vm_usable(home, False, 0.0)
    decision = policy.place(call, HARVEST, cluster, 0.0)
    assert (decision.vm_id, decision.fits) == (home, True)


def test_a_vm_that_left_is_passed_over_but_still_counted() -> None:
    cluster = FakeCluster([make_vm(f"h{n}") for n in range(5)])
    policy = make_hash(cluster)
    call = make_call()
    first, second = walk_of(cluster, call)[:2]
    policy.vm_left(first, 1.0)
    decision = policy.place(call, HARVEST, cluster, 1.0)
    assert (decision.vm_id, [one.vm_id for one in decision.considered]) == (second, [second])
    assert decision.reason == "memory slot free: step 2 of 5 from home"
    policy.vm_joined(first, HARVEST, 2.0)
    assert policy.place(call, HARVEST, cluster, 2.0).vm_id == first


def test_the_draw_is_among_the_healthy() -> None:
    cluster = FakeCluster([full(make_vm(f"h{n}")) for n in range(5)])
    call = make_call()
    walk = walk_of(cluster, call)
    dice = Dice(0, 3)
    policy = make_hash(cluster, dice)
    policy.vm_left(walk[1], 0.0)
    chosen = [policy.place(call, HARVEST, cluster, 0.0).vm_id for _ in range(2)]
    assert chosen == [walk[0], walk[4]]
    assert dice.of == [4, 4]


def test_considered_is_bounded_and_holds_the_chosen_one() -> None:
    cluster = FakeCluster([full(make_vm(f"h{n}")) for n in range(100)])
    call = make_call()
    decision = make_hash(cluster, Dice(77)).place(call, HARVEST, cluster, 0.0)
    walk = walk_of(cluster, call)
    assert [one.vm_id for one in decision.considered] == [*walk[:CONSIDERED_KEPT], walk[77]]


def test_a_seeded_draw_spreads_over_all() -> None:
    cluster = FakeCluster([full(make_vm(f"h{n}")) for n in range(4)])
    policy = Hashing(random.Random(1))
    for vm_id in cluster.views:
        policy.vm_joined(vm_id, HARVEST, 0.0)
    drawn = {policy.place(make_call(), HARVEST, cluster, 0.0).vm_id for _ in range(60)}
    assert drawn == set(cluster.views)
