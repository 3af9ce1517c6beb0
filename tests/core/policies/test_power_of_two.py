"""Power of two choices: by equality, with dice that are told what to draw."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from fallow.core.model import Considered, Decision, VmId, VmKind
from fallow.core.policies.power_of_two import TRIES, PowerOfTwo
from support.policies import FakeCluster, make_call, make_vm

HARVEST = VmKind.HARVEST


class Dice:
    """Draws what it is told to."""

    def __init__(self, *draws: int) -> None:
        self.draws = list(draws)

    def randrange(self, stop: int, /) -> int:
        drawn = self.draws.pop(0)
        assert 0 <= drawn < stop
        return drawn


def test_the_worked_example_of_the_docstring() -> None:
    h1 = replace(make_vm("h1", cores=4.0), in_flight=3)
    h2 = replace(make_vm("h2", cores=16.0), in_flight=8)
    cluster = FakeCluster([h1, h2])
    assert cluster.vm_ids(HARVEST) == ["h1", "h2"]
    assert PowerOfTwo(Dice(0, 0)).place(make_call(), HARVEST, cluster, 0.0) == Decision(
        vm_id=VmId("h2"),
        fits=True,
        reason="fewest calls per core of 2 drawn",
        considered=(
            Considered(vm_id=h1.id, kind=HARVEST, score=1.0, fits=True, note="with it 4 calls on 4 cores"),
            Considered(vm_id=h2.id, kind=HARVEST, score=0.5625, fits=True, note="with it 9 calls on 16 cores"),
        ),
        cpu_cores=1.0,
        memory_mb=256.0,
    )


def test_two_vms_are_looked_at_and_no_more() -> None:
    cluster = FakeCluster([make_vm(f"h{n}") for n in range(1000)])
    PowerOfTwo(random.Random(1)).place(make_call(), HARVEST, cluster, 0.0)
    assert len(set(cluster.looked_at)) == 2


def test_the_only_usable_vm_of_many_is_found() -> None:
    cluster = FakeCluster([make_vm(f"h{n}", usable=n == 7) for n in range(100)])
    dice = Dice(*[0] * (2 * TRIES))
    unlucky = cluster.vm_ids(HARVEST)[:2]
    assert "h7" not in unlucky
    assert PowerOfTwo(dice).place(make_call(), HARVEST, cluster, 0.0).vm_id == "h7"
    assert dice.draws == []


def test_an_overload_is_told() -> None:
    cluster = FakeCluster([replace(make_vm("h1", cores=1.0), in_flight=1)])
    decision = PowerOfTwo(Dice()).place(make_call(), HARVEST, cluster, 0.0)
    assert (decision.vm_id, decision.fits) == ("h1", False)
    assert decision.reason == "overload: fewest calls per core of 1 drawn"


def test_two_choices_spread_better_than_one() -> None:
    """1000 calls on 100 equal VMs: no VM gets more than a few above the mean of 10."""
    views = {vm.id: vm for vm in (make_vm(f"h{n}", cores=100.0, memory_mb=1e6) for n in range(100))}
    cluster = FakeCluster(list(views.values()))
    policy, got = PowerOfTwo(random.Random(1)), Counter[VmId]()
    for _ in range(1000):
        vm_id = policy.place(make_call(), HARVEST, cluster, 0.0).vm_id
        assert vm_id is not None
        got[vm_id] += 1
        cluster.views[vm_id] = replace(cluster.views[vm_id], in_flight=got[vm_id])
    dice = random.Random(1)
    alone = Counter(dice.randrange(100) for _ in range(1000))
    assert max(got.values()) <= 13 < max(alone.values())
