"""A wrong policy from outside is told by name, and its call is placed all the same where the fault does not end it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fallow.core.model import Activation, Decision, VmId, VmKind
from fallow.core.policies.base import ClusterView, Policy, Sample
from fallow.core.policies.guarded import Guarded, WrongPolicyError, give_up
from fallow.core.policies.jsq import Jsq
from support.policies import FakeCluster, make_call, make_vm

HARVEST = VmKind.HARVEST


class Wrong(Jsq):
    """Answers what it was made to answer."""

    def __init__(self, answer: Callable[[], object]) -> None:
        super().__init__()
        self._answer = answer

    def place(self, call: Activation, kind: VmKind, view: ClusterView, now_s: float) -> Decision:
        return self._answer()  # type: ignore[return-value]

    def completed(self, action: object, sample: Sample, now_s: float) -> None:
        raise KeyError("f")


def chooses(name: str) -> Callable[[], object]:
    return lambda: Decision(vm_id=VmId(name), fits=True, reason="mine")


def raises() -> object:
    raise ZeroDivisionError("division by zero")


CLUSTER = FakeCluster(
    [
        make_vm("h1", usable=False),
        make_vm("h2", runtimes=("nodejs:20",)),
        make_vm("h3", used=5.0),
        make_vm("h4", used=1.0),
        make_vm("r1", kind=VmKind.REGULAR),
    ]
)
FAULTS = [
    (chooses("h9"), "policy 'own' chose VM h9, which is unknown"),
    (chooses("h1"), "policy 'own' chose VM h1, which is not usable: its queue is full, it is draining, "),
    (chooses("h2"), "policy 'own' chose VM h2, which cannot take the call: it needs python:3 and 256 MB"),
    (chooses("r1"), "policy 'own' chose VM r1, which is a regular VM, where a harvest VM was asked for"),
    (lambda: "h3", "policy 'own' answered with a str and not with a Decision"),
    (
        lambda: Decision(vm_id=VmId("h3"), fits=True, reason="mine", cpu_cores=float("nan")),
        "policy 'own' books nan cores and 0.0 MB on VM h3",
    ),
    (raises, "policy 'own' raised ZeroDivisionError: division by zero when asked for a harvest VM"),
]


@pytest.mark.parametrize(("answer", "words"), FAULTS)
def test_a_fault_names_policy_and_vm(answer: Callable[[], object], words: str) -> None:
    with pytest.raises(WrongPolicyError) as caught:
        Guarded("own", Wrong(answer), give_up).place(make_call(), HARVEST, CLUSTER, 0.0)
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize(("answer", "words"), FAULTS)
def test_a_live_call_goes_to_the_least_used_vm_instead(answer: Callable[[], object], words: str) -> None:
    told: list[WrongPolicyError] = []
    decision = Guarded("own", Wrong(answer), told.append).place(make_call(), HARVEST, CLUSTER, 0.0)
    assert (decision.vm_id, decision.fits, decision.cpu_cores, decision.memory_mb) == ("h4", True, 1.0, 256.0)
    assert decision.reason.startswith(words)
    assert decision.reason.endswith("; the least used VM instead")
    assert len(told) == 1


def test_what_a_hook_raises_is_told_and_ends_nothing() -> None:
    told: list[WrongPolicyError] = []
    policy: Policy = Guarded("own", Wrong(raises), told.append)
    policy.completed(make_call().action.key, Sample(cpu_cores=1.0, exec_s=1.0, total_s=1.0), 0.0)
    assert str(told[0]) == "policy 'own' raised KeyError: 'f' in completed"


def test_a_right_policy_is_not_in_the_way() -> None:
    guarded, bare = Guarded("own", Jsq(), give_up), Jsq()
    assert guarded.place(make_call(), HARVEST, CLUSTER, 0.0) == bare.place(make_call(), HARVEST, CLUSTER, 0.0)
    nobody = FakeCluster([make_vm("h1", usable=False)])
    assert guarded.place(make_call(), HARVEST, nobody, 0.0).vm_id is None
