"""What every registered policy owes to its caller, whatever the cluster and whatever happened before."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fallow.core.policies  # noqa: F401 - registers the policies
from fallow.core.model import Decision, VmId, VmKind
from fallow.core.policies.base import CONSIDERED_KEPT, Policy, Sample, VmView, could_take, make_policy, policies
from support.policies import PYTHON, FakeCluster, make_call, make_vm

VM_NAMES = [f"{kind.value[0]}{number}" for kind in VmKind for number in range(20)]
KINDS = {kind.value[0]: kind for kind in VmKind}


def vm_named(name: str, **of_vm: object) -> VmView:
    return make_vm(name, kind=KINDS[name[0]], **of_vm)  # type: ignore[arg-type]


vm_views = st.builds(
    vm_named,
    st.sampled_from(VM_NAMES),
    cores=st.sampled_from([0.0, 1.0, 3.5, 32.0]),
    used=st.sampled_from([0.0, 0.7, 6.0]),
    memory_mb=st.sampled_from([255.0, 512.0, 4096.0]),
    used_mb=st.sampled_from([0.0, 300.0]),
    usable=st.booleans(),
    runtimes=st.sampled_from([(PYTHON,), (PYTHON,), (PYTHON, "nodejs:20"), ("nodejs:20",)]),
    booked=st.sampled_from([0.0, 0.5, 3.0, 40.0]),
    booked_mb=st.sampled_from([0.0, 256.0, 4096.0]),
)


@dataclass(frozen=True)
class Step:
    """Something that happens, and then a placement."""

    vms: list[VmView]  # the whole cluster from now on
    hidden: int  # VMs of every so many are hidden from this call: usable, but not for it
    action: str
    memory_mb: int
    kind: VmKind
    samples: list[float]


steps = st.lists(
    st.builds(
        Step,
        vms=st.lists(vm_views, max_size=30, unique_by=lambda vm: vm.id),
        hidden=st.sampled_from([0, 0, 2, 3]),
        action=st.sampled_from("fgh"),
        memory_mb=st.sampled_from([128, 256, 1024]),
        kind=st.sampled_from(list(VmKind)),
        samples=st.lists(st.sampled_from([0.0, 0.3, 2.0]), max_size=120),
    ),
    min_size=1,
    max_size=6,
)


def move(policy: Policy, before: dict[VmId, VmView], after: dict[VmId, VmView], now_s: float) -> None:
    """Tell the policy as ClusterState would: in order, and only what changed."""
    for vm_id in before.keys() - after.keys():
        if before[vm_id].usable:
            policy.vm_usable(vm_id, False, now_s)
        policy.vm_left(vm_id, now_s)
    for vm_id, vm in after.items():
        if vm_id not in before:
            policy.vm_joined(vm_id, vm.kind, now_s)
        policy.vm_usable(vm_id, vm.usable, now_s)


def play(name: str, seed: int, history: Sequence[Step], controllers: int) -> list[tuple[FakeCluster, Step, Decision]]:
    policy = make_policy(name, random.Random(seed))
    before: dict[VmId, VmView] = {}
    played = []
    for number, step in enumerate(history):
        now_s = 7.0 * number
        after = {vm.id: vm for vm in step.vms}
        move(policy, before, after, now_s)
        before = after
        shown = [
            replace(vm, usable=vm.usable and not (step.hidden and int(vm.id[1:]) % step.hidden == 0)) for vm in step.vms
        ]
        cluster = FakeCluster(shown, controllers)
        call = make_call(step.action, step.memory_mb)
        policy.arrived(call.action.key, now_s)
        decision = policy.place(call, step.kind, cluster, now_s)
        for cpu_cores in step.samples:
            policy.completed(call.action.key, Sample(cpu_cores=cpu_cores, exec_s=0.5, total_s=0.6), now_s)
        played.append((cluster, step, decision))
    return played


@pytest.mark.parametrize("name", sorted(policies()))
@given(history=steps, seed=st.integers(0, 2**32), controllers=st.integers(1, 3))
def test_any_history(name: str, history: list[Step], seed: int, controllers: int) -> None:
    played = play(name, seed, history, controllers)
    for cluster, step, decision in played:
        call = make_call(step.action, step.memory_mb)
        able = [vm for vm in cluster.views.values() if vm.kind is step.kind and could_take(vm, call.action)]
        if not able:
            assert decision.vm_id is None
            assert not decision.fits
            assert decision.reason
            continue
        assert decision.vm_id is not None, "some VM could have taken it"
        assert cluster.views[decision.vm_id].kind is step.kind
        assert decision.memory_mb == step.memory_mb
        assert decision.cpu_cores >= 0
        told = {one.vm_id: one for one in decision.considered}
        assert len(told) == len(decision.considered) <= CONSIDERED_KEPT + 1
        assert told[decision.vm_id].fits is decision.fits
        assert all(cluster.views[vm_id].kind is one.kind is step.kind for vm_id, one in told.items())
        assert all(abs(one.score) <= 1e9 for one in told.values()), "scores are shown as JSON: no infinity"
    again = play(name, seed, history, controllers)
    assert [decision for _, _, decision in again] == [decision for _, _, decision in played]


@pytest.mark.parametrize("name", sorted(policies()))
def test_a_name_says_which_policy_it_is(name: str) -> None:
    assert make_policy(name, random.Random(0)).name == name


def test_all_of_them_are_registered() -> None:
    assert set(policies()) >= {"mws", "jsq", "hash", "p2c"}
