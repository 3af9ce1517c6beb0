"""A policy from outside, held to its contract: what it does wrong is told by name, and does no harm to the call."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from fallow.core.model import ActionKey, Activation, Decision, VmId, VmKind
from fallow.core.policies.base import ClusterView, Policy, Sample, VmView, could_take


class WrongPolicyError(Exception):
    """A policy broke its contract. The message names the policy and, of a placement, the VM."""


OnFault = Callable[[WrongPolicyError], None]


def give_up(fault: WrongPolicyError) -> NoReturn:
    """For simulations and tests: the fault ends the run."""
    raise fault


class Guarded:
    """The policy inside, checked: O(1) a placement, and O(VMs) for one that is refused.

    A fault goes to `on_fault`. Where that returns, events go on, and a refused placement is made on the least used VM
    that could take the call, so that a live call is never lost by a wrong policy.
    """

    def __init__(self, name: str, policy: Policy, on_fault: OnFault) -> None:
        self.name = name
        self._policy = policy
        self._on_fault = on_fault

    def vm_joined(self, vm_id: VmId, kind: VmKind, now_s: float) -> None:
        self._tell(f"vm_joined of VM {vm_id}", lambda: self._policy.vm_joined(vm_id, kind, now_s))

    def vm_usable(self, vm_id: VmId, usable: bool, now_s: float) -> None:
        self._tell(f"vm_usable of VM {vm_id}", lambda: self._policy.vm_usable(vm_id, usable, now_s))

    def vm_left(self, vm_id: VmId, now_s: float) -> None:
        self._tell(f"vm_left of VM {vm_id}", lambda: self._policy.vm_left(vm_id, now_s))

    def arrived(self, action: ActionKey, now_s: float) -> None:
        self._tell("arrived", lambda: self._policy.arrived(action, now_s))

    def completed(self, action: ActionKey, sample: Sample, now_s: float) -> None:
        self._tell("completed", lambda: self._policy.completed(action, sample, now_s))

    def place(self, call: Activation, kind: VmKind, view: ClusterView, now_s: float) -> Decision:
        try:
            decision = self._policy.place(call, kind, view, now_s)
        except Exception as e:  # noqa: BLE001 - whatever a stranger's code raises is its fault, and told as such
            fault = f"raised {_of(e)} when asked for a {kind} VM"
        else:
            wrong = self._wrong(decision, call, kind, view)
            if wrong is None:
                return decision
            fault = wrong
        told = f"policy {self.name!r} {fault}"
        self._on_fault(WrongPolicyError(told))
        return _instead(call, kind, view, told)

    def _tell(self, what: str, tell: Callable[[], None]) -> None:
        try:
            tell()
        except Exception as e:  # noqa: BLE001 - as in `place`
            self._on_fault(WrongPolicyError(f"policy {self.name!r} raised {_of(e)} in {what}"))

    def _wrong(self, decision: object, call: Activation, kind: VmKind, view: ClusterView) -> str | None:
        """What is wrong with the answer, as the end of a sentence that begins with the policy; None = nothing."""
        if not isinstance(decision, Decision):
            return f"answered with a {type(decision).__name__} and not with a Decision"
        if decision.vm_id is None:
            return None
        try:
            vm = view.vm(decision.vm_id)
        except (KeyError, TypeError):
            return f"chose VM {decision.vm_id}, which is unknown"
        if not decision.cpu_cores >= 0 or not decision.memory_mb >= 0:
            return f"books {decision.cpu_cores} cores and {decision.memory_mb} MB on VM {vm.id}"
        why = _refused(vm, call, kind)
        return None if why is None else f"chose VM {vm.id}, which {why}"


def _refused(vm: VmView, call: Activation, kind: VmKind) -> str | None:
    spec = call.action
    if vm.kind is not kind:
        return f"is a {vm.kind} VM, where a {kind} VM was asked for"
    if not vm.usable:
        return "is not usable: its queue is full, it is draining, not heard from, or has just given this call back"
    if not could_take(vm, spec):
        return f"cannot take the call: it needs {spec.kind} and {spec.memory_mb} MB"
    return None


def _instead(call: Activation, kind: VmKind, view: ClusterView, told: str) -> Decision:
    """The least used VM that could take the call."""
    able = [vm for vm in map(view.vm, view.vm_ids(kind)) if could_take(vm, call.action)]
    if not able:
        return Decision(vm_id=None, fits=False, reason=f"{told}; no usable {kind} VM can take it")
    best = min(able, key=lambda vm: vm.used.cpu_cores / vm.capacity.cpu_cores if vm.capacity.cpu_cores else 1e9)
    room_cores = best.capacity.cpu_cores - best.used.cpu_cores
    room_mb = best.capacity.memory_mb - best.used.memory_mb
    return Decision(
        vm_id=best.id,
        fits=room_cores >= 1.0 and room_mb >= call.action.memory_mb,
        reason=f"{told}; the least used VM instead",
        cpu_cores=1.0,
        memory_mb=float(call.action.memory_mb),
    )


def _of(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
