"""MWS against a literal transcription of its pseudo code, and the worked behaviour of worker sets."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.core.demand import UNKNOWN, Estimate
from fallow.core.model import ActionKey, Resources, VmId, VmKind
from fallow.core.policies.base import ClusterView, Sample, VmView, make_policy, policies
from fallow.core.policies.mws import CONSIDERED_KEPT, Mws
from fallow.core.ring import action_position, position_of
from support.policies import PYTHON, FakeCluster, make_call, make_vm

HARVEST, REGULAR = VmKind.HARVEST, VmKind.REGULAR


def make_mws(cluster: FakeCluster, *, warm_first: bool = True) -> Mws:
    policy = Mws(warm_first=warm_first)
    for vm in cluster.views.values():
        policy.vm_joined(vm.id, vm.kind, 0.0)
        policy.vm_usable(vm.id, vm.usable, 0.0)
    return policy


def feed(policy: Mws, action: ActionKey, *, arrivals: int, cpu_cores: float, exec_s: float, until_s: float) -> None:
    """So many calls spread evenly over the 10 s before `until_s`, and a batch of five samples."""
    for number in range(arrivals):
        policy.arrived(action, until_s - 9.0 + 9.0 * number / arrivals)
    for _ in range(5):
        policy.completed(action, Sample(cpu_cores=cpu_cores, exec_s=exec_s, total_s=exec_s), until_s)


def in_ring_order(cluster: FakeCluster, action: ActionKey, kind: VmKind = HARVEST) -> list[VmId]:
    ids = list(cluster.vm_ids(kind))
    first = next((n for n, i in enumerate(ids) if position_of(i) >= action_position(action)), 0)
    return ids[first:] + ids[:first]


@dataclass(frozen=True)
class Reference:
    """What the pseudo code answers."""

    chosen: VmId | None
    fits: bool
    next: int
    looked_at: list[VmId]


def reference(
    walk: list[VmView],
    k: int,
    need: Estimate,
    mem_f: float,
    demand_cpu: float,
    demand_mb: float,
    warm: set[VmId] | None,
) -> Reference:
    """The pseudo code of the choice, line by line. `walk` are the VMs in ring order from home, unusable ones too.

    `warm` are those where the action is likely warm, with our additions that put them first; None = as published.
    """
    workers = [w for w in walk if w.usable and PYTHON in w.runtimes and w.capacity.memory_mb >= mem_f]
    n, nxt = len(workers), None
    best_fit: VmView | None = None
    best_busy: VmView | None = None
    a_cpu = a_mb = 0.0
    looked_at: list[VmId] = []

    def used_cpu(w: VmView) -> float:
        return w.used.cpu_cores if warm is None else max(w.used.cpu_cores, w.booked.cpu_cores)

    def score(w: VmView) -> float:
        cold = 0.0 if warm is None or w.id in warm else 1.0
        return used_cpu(w) / (0.7 * w.capacity.cpu_cores) + w.used.memory_mb / (0.7 * w.capacity.memory_mb) + cold

    for step, w in enumerate(workers, 1):
        looked_at.append(w.id)
        avail_cpu = (0.9 if warm and w.id in warm else 0.7) * w.capacity.cpu_cores - used_cpu(w)
        avail_mb = 0.7 * w.capacity.memory_mb - w.used.memory_mb
        if avail_cpu >= need.cpu_cores and avail_mb >= mem_f and w.capacity.cpu_cores >= need.cap_cores:
            a_cpu, a_mb = a_cpu + avail_cpu, a_mb + avail_mb
            if best_fit is None or score(w) < score(best_fit):
                best_fit = w
        elif best_fit is None and (best_busy is None or score(w) < score(best_busy)):
            best_busy = w
        if best_fit is not None and a_cpu >= demand_cpu and a_mb >= demand_mb:
            if nxt is None:
                nxt = step
            if step >= k:
                break
    if nxt is None:
        nxt = n
    chosen = best_fit or best_busy
    return Reference(chosen.id if chosen else None, best_fit is not None, nxt, looked_at)


def reference_with_oversize(
    walk: list[VmView],
    k: int,
    need: Estimate,
    mem_f: float,
    demand_cpu: float,
    demand_mb: float,
    warm: set[VmId] | None,
) -> Reference:
    """The pseudo code, and our addition to it: what is larger than every VM is placed by half of the largest."""
    plain = reference(walk, k, need, mem_f, demand_cpu, demand_mb, warm)
    if plain.chosen is None or plain.fits:
        return plain
    most = max(w.capacity.cpu_cores for w in walk if w.id in plain.looked_at)
    if need.cpu_cores <= 0.7 * most and need.cap_cores <= most:
        return plain
    half = replace(need, cpu_cores=min(need.cpu_cores, 0.5 * 0.7 * most), cap_cores=min(need.cap_cores, most))
    near = reference(walk, k, half, mem_f, demand_cpu, demand_mb, warm)
    return replace(near, fits=False, looked_at=plain.looked_at) if near.fits else plain


vm_views = st.builds(
    make_vm,
    st.integers(0, 60).map(lambda n: f"h{n}"),
    cores=st.sampled_from([1.0, 2.0, 3.5, 8.0, 32.0]),
    used=st.sampled_from([0.0, 0.25, 0.7, 1.0, 2.0, 6.0]),
    memory_mb=st.sampled_from([512.0, 4096.0, 16384.0]),
    used_mb=st.sampled_from([0.0, 128.0, 300.0, 3000.0]),
    usable=st.booleans(),
    runtimes=st.sampled_from([(PYTHON,), (PYTHON, "nodejs:20"), (PYTHON,), ("nodejs:20",)]),
    booked=st.sampled_from([0.0, 0.0, 1.5, 9.0]),
)
clusters = st.lists(vm_views, max_size=20, unique_by=lambda vm: vm.id)


@given(
    steps=st.lists(
        st.tuples(clusters, st.integers(0, 40), st.floats(0.0, 5.0), st.floats(0.0, 9.0)), min_size=1, max_size=4
    ),
    controllers=st.integers(1, 3),
    memory_mb=st.sampled_from([128, 256, 1024]),
    warm_first=st.booleans(),
    step_s=st.sampled_from([20.0, 400.0]),
)
def test_choice_equals_the_pseudo_code(
    steps: list[tuple[list[VmView], int, float, float]],
    controllers: int,
    memory_mb: int,
    warm_first: bool,
    step_s: float,
) -> None:
    call = make_call(memory_mb=memory_mb)
    action = call.action.key
    policy = Mws(warm_first=warm_first)
    placed_s: dict[VmId, float] = {}
    now_s = 0.0
    size, home, shrunk_s = 1, None, -math.inf
    for vms, arrivals, cpu_cores, exec_s in steps:
        now_s += step_s
        warm = {i for i, at_s in placed_s.items() if now_s - at_s <= 600.0} if warm_first else None
        cluster = FakeCluster(vms, controllers)
        for vm_id in list(policy._kinds):
            policy.vm_left(vm_id, now_s)
        for vm in vms:
            policy.vm_joined(vm.id, vm.kind, now_s)
            # Marked by another criterion than the view's: what is hidden from one call must be skipped, too.
            policy.vm_usable(vm.id, vm.usable or position_of(vm.id) % 2 == 0, now_s)
        feed(policy, action, arrivals=arrivals, cpu_cores=cpu_cores, exec_s=exec_s, until_s=now_s)
        placed = policy._actions[action.namespace, action.name]
        need = placed.demand.estimate
        running = placed.demand.rate_per_s(now_s) * controllers * need.time_s
        k = size
        walk = [cluster.views[i] for i in in_ring_order(cluster, action)]
        demand = (running * need.cpu_cores, running * memory_mb)
        expected = reference_with_oversize(walk, k, need, memory_mb, *demand, warm)

        decision = policy.place(call, HARVEST, cluster, now_s)

        assert decision.vm_id == expected.chosen
        if expected.chosen is not None:
            placed_s[expected.chosen] = now_s
            assert decision.fits == expected.fits
            kept = [seen.vm_id for seen in decision.considered]
            assert kept[:CONSIDERED_KEPT] == expected.looked_at[:CONSIDERED_KEPT]
            assert expected.chosen in kept
            assert (decision.cpu_cores, decision.memory_mb, decision.cap_cores) == (
                need.cpu_cores,
                memory_mb,
                need.cap_cores,
            )
            now_home = next(i for i in in_ring_order(cluster, action) if i in policy._rings[HARVEST].usable_ids)
            if now_home != home or expected.next > size:
                size, home = expected.next, now_home
            elif expected.next < size and now_s - shrunk_s >= 30.0:
                size, shrunk_s = expected.next, now_s
        assert policy.worker_set_size(action, HARVEST) == size


def test_the_worked_example_of_the_docstring() -> None:
    call = make_call()
    action = call.action.key
    homes = in_ring_order(FakeCluster([make_vm(f"h{n}") for n in range(4)]), action)
    cluster = FakeCluster(
        [
            make_vm(homes[0], cores=4.0, used=0.8, used_mb=2048.0),
            make_vm(homes[1], cores=2.0, used=1.2),
            make_vm(homes[2], cores=8.0, used=0.6, used_mb=1024.0),
            make_vm(homes[3]),
        ],
        controllers=2,
    )
    policy = make_mws(cluster)
    feed(policy, action, arrivals=18, cpu_cores=0.5, exec_s=1.5, until_s=20.0)  # 2/s: the present second is not begun

    decision = policy.place(call, HARVEST, cluster, 20.0)

    assert decision.vm_id == homes[2]
    assert decision.fits
    assert [(c.vm_id, round(c.score, 3), c.fits) for c in decision.considered] == [
        (homes[0], 0.643, True),
        (homes[1], 0.857, False),
        (homes[2], 0.286, True),
    ]
    assert decision.reason == "fits: smallest score of 3 looked at, worker set of 3"
    assert (decision.cpu_cores, decision.memory_mb, decision.cap_cores) == (0.5, 256, 1.0)
    assert policy.worker_set_size(action, HARVEST) == 3


@pytest.mark.parametrize(
    ("used", "warm_first", "chosen"), [(2.9, True, 2), (2.4, True, 1), (2.4, False, 2)], ids=["cold", "warm", "plain"]
)
def test_a_warm_vm_comes_first_unless_it_is_far_busier(used: float, warm_first: bool, chosen: int) -> None:
    """The docstring's second example: f ran on the second VM, which has 4 cores by now."""
    call = make_call()
    action = call.action.key
    homes = in_ring_order(FakeCluster([make_vm(f"h{n}") for n in range(4)]), action)
    busy = make_vm(homes[0], cores=4.0, used=3.9, used_mb=2048.0)
    idle, gone = make_vm(homes[2], cores=8.0, used=0.6, used_mb=1024.0), make_vm(homes[3], usable=False)
    before = FakeCluster([busy, make_vm(homes[1], cores=4.0), replace(idle, usable=False), gone])
    policy = make_mws(before, warm_first=warm_first)
    feed(policy, action, arrivals=18, cpu_cores=0.5, exec_s=1.5, until_s=20.0)
    assert policy.place(call, HARVEST, before, 20.0).vm_id == homes[1]
    policy.vm_usable(homes[2], True, 20.0)
    after = FakeCluster([busy, make_vm(homes[1], cores=4.0, used=used, used_mb=2048.0), idle, gone], controllers=2)

    decision = policy.place(call, HARVEST, after, 20.0)

    assert decision.vm_id == homes[chosen]
    assert decision.fits
    assert ("likely warm" in decision.reason) == (chosen == 1)


def test_calls_in_flight_count_beyond_what_can_be_measured() -> None:
    """Both VMs are measured at all they have; the second has three times the calls it can carry."""
    vms = [make_vm("h1", cores=4.0, used=4.0, booked=4.0), make_vm("h2", cores=4.0, used=3.9, booked=12.0)]
    cluster = FakeCluster(vms)
    chosen = {
        first: make_mws(cluster, warm_first=first).place(make_call(), HARVEST, cluster, 0.0) for first in (True, False)
    }
    assert (chosen[True].vm_id, chosen[False].vm_id) == ("h1", "h2")


def test_unknown_action_goes_home_and_books_a_core() -> None:
    cluster = FakeCluster([make_vm(f"h{n}") for n in range(5)])
    policy = make_mws(cluster)
    call = make_call()
    policy.arrived(call.action.key, 0.0)
    decision = policy.place(call, HARVEST, cluster, 0.0)
    assert decision.vm_id == in_ring_order(cluster, call.action.key)[0]
    assert decision.cpu_cores == UNKNOWN.cpu_cores == 1.0
    assert cluster.looked_at == [decision.vm_id]


def test_overload_takes_the_least_busy_and_says_so() -> None:
    cluster = FakeCluster([make_vm(f"h{n}", used=8.0 - n * 0.1) for n in range(5)])
    decision = make_mws(cluster).place(make_call(), HARVEST, cluster, 0.0)
    assert decision.vm_id == "h4"
    assert not decision.fits
    assert decision.reason == "overload: least busy of 5, none fits"
    assert {seen.note for seen in decision.considered} == {"CPU is busy"}


@pytest.mark.parametrize(
    ("vm", "note"),
    [
        (make_vm("h0", used=7.0), "CPU is busy"),
        (make_vm("h0", used_mb=8000.0), "memory is taken"),
        (make_vm("h0", cores=1.5), "is too small: may use 2 cores, the VM has 1.5"),
        (make_vm("h0", cores=1.25, used=1.0), "is too small: needs 1 cores, the VM gives 0.875"),
        (make_vm("h0", memory_mb=300.0, used_mb=300.0), "is too small: needs 256 MB, the VM gives 210"),
    ],
)
def test_a_busy_vm_says_why(vm: VmView, note: str) -> None:
    cluster = FakeCluster([vm])
    policy = make_mws(cluster)
    call = make_call()
    feed(policy, call.action.key, arrivals=1, cpu_cores=1.0, exec_s=0.1, until_s=10.0)  # cap_f = 2
    decision = policy.place(call, HARVEST, cluster, 10.0)
    assert [seen.note for seen in decision.considered] == [note]


def test_what_is_larger_than_every_vm_stays_at_its_home() -> None:
    call = make_call()
    cluster = FakeCluster([make_vm(f"h{n}", cores=2.0, used=0.02 - n * 0.005) for n in range(4)])
    home = in_ring_order(cluster, call.action.key)[0]
    policy = make_mws(cluster)
    policy.arrived(call.action.key, 9.0)
    policy.completed(call.action.key, Sample(cpu_cores=1.0, exec_s=0.1, total_s=0.1), 9.0)  # cpu_f = 2 > 0.7 x 2
    decision = policy.place(call, HARVEST, cluster, 10.0)
    assert decision.vm_id == home
    assert not decision.fits, "another kind that is large enough goes first"
    assert decision.reason == "overload: no harvest VM is as large as it asks; least busy of those near its home"
    assert {seen.note for seen in decision.considered} == {"is too small: needs 2 cores, the VM gives 1.4"}
    assert policy.worker_set_size(call.action.key, HARVEST) == 1


def test_what_is_larger_than_every_vm_leaves_a_home_that_is_busy() -> None:
    call = make_call()
    ids = in_ring_order(FakeCluster([make_vm(f"h{n}") for n in range(3)]), call.action.key)
    cluster = FakeCluster([make_vm(i, cores=2.0, used=1.0 if i == ids[0] else 0.0) for i in ids])
    policy = make_mws(cluster)
    policy.arrived(call.action.key, 9.0)
    policy.completed(call.action.key, Sample(cpu_cores=1.0, exec_s=0.1, total_s=0.1), 9.0)
    assert policy.place(call, HARVEST, cluster, 10.0).vm_id == ids[1]


def test_a_busy_vm_does_not_spoil_the_comparison_of_those_that_fit() -> None:
    call = make_call(memory_mb=512)
    homes = in_ring_order(FakeCluster([make_vm(f"h{n}") for n in range(3)]), call.action.key)
    cluster = FakeCluster(
        [make_vm(homes[0], used=3.0), make_vm(homes[1], memory_mb=600.0), make_vm(homes[2], used=2.0)]
    )
    policy = make_mws(cluster)
    # More than the cluster holds: all three are looked at. The second is idle but too small for the call.
    feed(policy, call.action.key, arrivals=90, cpu_cores=1.0, exec_s=10.0, until_s=20.0)
    decision = policy.place(call, HARVEST, cluster, 20.0)
    assert [seen.fits for seen in decision.considered] == [True, False, True]
    assert decision.vm_id == homes[2]


@pytest.mark.parametrize("used", [1.0, 7.0])
def test_ties_go_to_the_vm_nearest_to_home(used: float) -> None:
    cluster = FakeCluster([make_vm(f"h{n}", used=used) for n in range(4)])
    policy = make_mws(cluster)
    call = make_call()
    feed(policy, call.action.key, arrivals=90, cpu_cores=1.0, exec_s=10.0, until_s=20.0)
    decision = policy.place(call, HARVEST, cluster, 20.0)
    assert len(decision.considered) == 4
    assert decision.vm_id == in_ring_order(cluster, call.action.key)[0]


def test_nothing_to_take_it() -> None:
    empty = FakeCluster([])
    assert Mws().place(make_call(), HARVEST, empty, 0.0).vm_id is None
    regular_only = FakeCluster([make_vm("r1", kind=REGULAR)])
    policy = make_mws(regular_only)
    assert policy.place(make_call(), HARVEST, regular_only, 0.0).reason == "no harvest VM is usable"
    assert policy.place(make_call(), REGULAR, regular_only, 0.0).vm_id == "r1"
    other_runtime = FakeCluster([make_vm("h1", runtimes=("nodejs:20",))])
    decision = make_mws(other_runtime).place(make_call(), HARVEST, other_runtime, 0.0)
    assert decision.vm_id is None
    assert PYTHON in decision.reason


def test_a_vm_with_less_memory_than_the_limit_is_no_choice() -> None:
    cluster = FakeCluster([make_vm("h1", memory_mb=255.0), make_vm("h2", memory_mb=256.0, used=8.0, used_mb=256.0)])
    decision = make_mws(cluster).place(make_call(), HARVEST, cluster, 0.0)
    assert (decision.vm_id, [seen.vm_id for seen in decision.considered]) == ("h2", ["h2"]), "not even as least busy"
    small = FakeCluster([make_vm("h1", memory_mb=255.0)])
    decision = make_mws(small).place(make_call(), HARVEST, small, 0.0)
    assert decision.vm_id is None
    assert "256 MB" in decision.reason


def test_a_vm_without_cores_is_busy_but_has_a_finite_score() -> None:
    cluster = FakeCluster([make_vm("h0", cores=0.0)])
    decision = make_mws(cluster).place(make_call(), HARVEST, cluster, 0.0)
    assert decision.vm_id == "h0"
    assert not decision.fits
    assert math.isfinite(decision.considered[0].score)


def test_considered_is_bounded_and_holds_the_chosen_one() -> None:
    cluster = FakeCluster([make_vm(f"h{n}", used=8.0) for n in range(100)])
    policy = make_mws(cluster)
    last = in_ring_order(cluster, make_call().action.key)[-1]
    cluster.views[last] = replace(cluster.views[last], used=Resources(cpu_cores=0.0, memory_mb=0.0))
    decision = policy.place(make_call(), HARVEST, cluster, 0.0)
    assert decision.vm_id == last
    assert len(decision.considered) == CONSIDERED_KEPT + 1
    assert decision.considered[-1].vm_id == last
    assert decision.considered[-1].fits


def test_walk_stops_early_in_a_big_cluster() -> None:
    cluster = FakeCluster([make_vm(f"h{n}") for n in range(10_000)])
    policy = make_mws(cluster)
    call = make_call()
    feed(policy, call.action.key, arrivals=100, cpu_cores=1.0, exec_s=1.0, until_s=20.0)
    policy.place(call, HARVEST, cluster, 20.0)
    # 100 calls in 9 s at one core: 11.1 cores, two VMs of 0.7 x 8.
    assert cluster.looked_at == in_ring_order(cluster, call.action.key)[:2]


def test_the_home_moves_with_its_vm_and_back() -> None:
    cluster = FakeCluster([make_vm(f"h{n}") for n in range(6)])
    policy = make_mws(cluster)
    call = make_call()
    first, second = in_ring_order(cluster, call.action.key)[:2]
    assert policy.place(call, HARVEST, cluster, 0.0).vm_id == first
    policy.vm_usable(first, False, 1.0)
    assert policy.place(call, HARVEST, cluster, 1.0).vm_id == second
    policy.vm_joined(first, HARVEST, 2.0)  # joined again: usable again
    assert policy.place(call, HARVEST, cluster, 2.0).vm_id == first
    policy.vm_left(first, 3.0)
    assert policy.place(call, HARVEST, cluster, 3.0).vm_id == second


def test_marking_an_unknown_vm_is_an_error() -> None:
    with pytest.raises(KeyError):
        Mws().vm_usable(VmId("h1"), True, 0.0)


def test_demand_of_all_controllers_is_counted() -> None:
    vms = [make_vm(f"h{n}", cores=4.0) for n in range(20)]
    sizes = []
    for controllers in (1, 2, 4):
        cluster = FakeCluster(vms, controllers)
        policy = make_mws(cluster)
        call = make_call(memory_mb=128)
        feed(policy, call.action.key, arrivals=90, cpu_cores=0.5, exec_s=1.0, until_s=20.0)
        policy.place(call, HARVEST, cluster, 20.0)
        sizes.append(policy.worker_set_size(call.action.key, HARVEST))
    assert sizes == [2, 4, 8]  # 5, 10 and 20 cores over VMs of 0.7 x 4 = 2.8


@given(st.lists(st.tuples(st.integers(1, 6), st.booleans()), max_size=30), st.integers(0, 2**32))
def test_same_history_same_choices(history: list[tuple[int, bool]], seed: int) -> None:
    def play(order: list[VmView]) -> list[VmId | None]:
        cluster: ClusterView = FakeCluster(order)
        policy = Mws()
        for vm in order:
            policy.vm_joined(vm.id, vm.kind, 0.0)
        chosen = []
        for number, (action, usable) in enumerate(history):
            policy.vm_usable(VmId(f"h{action}"), usable, float(number))
            policy.arrived(make_call(f"f{action}").action.key, float(number))
            chosen.append(policy.place(make_call(f"f{action}"), HARVEST, cluster, float(number)).vm_id)
        return chosen

    vms = [make_vm(f"h{n}", used=n * 0.5) for n in range(1, 9)]
    shuffled = list(vms)
    random.Random(seed).shuffle(shuffled)
    assert play(vms) == play(shuffled)  # nor does the order in which VMs joined matter


def test_actions_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fallow.core.policies.mws.ACTIONS_KEPT", 3)
    policy = Mws()
    for name in ("a", "b", "c", "a", "d"):
        policy.arrived(make_call(name).action.key, 0.0)
    assert [name for _, name in policy._actions] == ["c", "a", "d"]


def test_mws_is_registered() -> None:
    assert "mws" in policies()
    assert make_policy("mws", random.Random(0)).name == "mws"
    with pytest.raises(ValueError, match=r"unknown policy 'round'; known: .*mws"):
        make_policy("round", random.Random(0))


def test_a_decision_looks_at_no_more_vms_on_a_larger_cluster() -> None:
    """The cost of a decision is that of its worker set, which the demand makes and not the cluster."""
    looks = []
    for size in (10, 1000):
        cluster = FakeCluster([make_vm(f"h{n}") for n in range(size)])
        policy = make_mws(cluster)
        call = make_call()
        feed(policy, call.action.key, arrivals=200, cpu_cores=1.0, exec_s=0.5, until_s=10.0)
        policy.place(call, HARVEST, cluster, 10.0)
        cluster.looked_at.clear()
        policy.place(call, HARVEST, cluster, 10.0)
        looks.append(len(cluster.looked_at))
    assert looks[0] == looks[1]
    assert 1 < looks[0] < 10
