"""Finds a VM for a call: the strategy orders the kinds, the policy picks a VM of a kind."""

from __future__ import annotations

from dataclasses import replace

from fallow.core.cluster.bookings import Call, Vm
from fallow.core.cluster.passed_over import PassedOverVms
from fallow.core.cluster.vm_table import HidingView, VmTable, may_take
from fallow.core.eviction import KindChoice, Strategy
from fallow.core.model import ActionSpec, Considered, Decision, RefusalReason, VmKind
from fallow.core.policies.base import ClusterView, Policy
from fallow.core.why.placement import Placement


class Placer:
    """Asks strategy and policy. Changes nothing itself; a policy may learn from being asked."""

    def __init__(self, *, policy: Policy, strategy: Strategy, table: VmTable) -> None:
        self._policy = policy
        self._strategy = strategy
        self._table = table
        self.passed_over = PassedOverVms(table)

    def find(self, call: Call, now_s: float) -> Placement | None:
        """None = nothing usable may take it now. A policy is asked once a kind, however often the strategy names it."""
        runtime = call.activation.action.kind
        asked: list[tuple[VmKind, Decision]] = []  # three at most: shorter to walk than to hash
        choices = self._strategy.kinds(call.activation.action)
        for choice in choices:
            decision = next((seen for kind, seen in asked if kind is choice.kind), None) if asked else None
            if decision is None:
                if not self._table.usable(choice.kind, runtime):
                    continue
                decision = self._ask(call, choice.kind, now_s)
                asked.append((choice.kind, decision))
            if decision.vm_id is None or (choice.only_if_fits and not decision.fits):
                continue
            return self._placement(call, decision, choices, asked)
        return None

    def _ask(self, call: Call, kind: VmKind, now_s: float) -> Decision:
        hiding = call.avoid is not None or not self._table.all_offer(kind, call.activation.action.kind)
        view: ClusterView = HidingView(self._table, call) if hiding else self._table
        decision = self._policy.place(call.activation, kind, view, now_s)
        if decision.vm_id is None:
            return decision
        vm = self._table.get(decision.vm_id)
        if vm is not None and may_take(vm, call):
            return decision
        return self._around(call, kind, decision)

    def _around(self, call: Call, kind: VmKind, decision: Decision) -> Decision:
        """For policies that look neither at `usable` nor at `runtimes`: the least loaded VM that may take the call.

        It fits if the policy believed so of its own choice, and the VM has room for what the call books.
        O(VMs of the kind), and rare: only where a VM drains or is full, a call was given back, or VMs of one kind offer
        different runtimes.
        """
        best: Vm | None = None
        for vm_id in self._table.vm_ids(kind):
            vm = self._table.get(vm_id)
            if vm is not None and may_take(vm, call) and (best is None or _load(vm) < _load(best)):
                best = vm
        if best is None:
            return replace(decision, vm_id=None, fits=False)
        fits = decision.fits and _has_room(best, decision)
        instead = Considered(
            vm_id=best.info.id, kind=kind, score=_load(best), fits=fits, note=f"instead of {decision.vm_id}"
        )
        return Decision(
            vm_id=best.info.id,
            fits=fits,
            reason=f"least loaded that may take it: {decision.vm_id} may not",
            considered=(*decision.considered, instead),
            cpu_cores=decision.cpu_cores,
            memory_mb=decision.memory_mb,
            cap_cores=decision.cap_cores,
        )

    def _placement(
        self, call: Call, decision: Decision, choices: tuple[KindChoice, ...], asked: list[tuple[VmKind, Decision]]
    ) -> Placement:
        assert decision.vm_id is not None
        vm = self._table.get(decision.vm_id)
        assert vm is not None
        reason, considered, kind = decision.reason, decision.considered, vm.info.kind
        if len(asked) > 1:
            passed = [(other, seen) for other, seen in asked if other is not kind]
            reason = "".join(f"no {other} VM fits; " for other, _ in passed) + reason
            considered = tuple(c for _, seen in passed for c in seen.considered) + considered
        return Placement(
            info=vm.info,
            cores=vm.report.capacity.cpu_cores,
            decision=decision,
            reason=reason,
            considered=considered,
            choices=choices,
            asked=(kind,) if len(asked) == 1 else tuple([other for other, _ in asked]),
            long=self._strategy.is_long(call.activation.action),
            passed_over=self.passed_over.by(call),
        )

    def missing(self, spec: ActionSpec) -> RefusalReason | None:
        """What the cluster lacks for the action; None = VMs for it are there, with room or without."""
        if not self._table.any_present:
            return RefusalReason.NO_VM
        offering = [kind for kind in VmKind if self._table.present(kind, spec.kind)]
        if not offering:
            return RefusalReason.NO_RUNTIME
        allowed = {choice.kind for choice in self._strategy.kinds(spec)}
        if allowed.isdisjoint(offering):
            return RefusalReason.FORBIDDEN
        if not any(self._large_enough(vm, spec, allowed) for vm in self._table):
            return RefusalReason.TOO_LARGE
        return None

    @staticmethod
    def _large_enough(vm: Vm, spec: ActionSpec, allowed: set[VmKind]) -> bool:
        return vm.present and vm.info.kind in allowed and spec.kind in vm.info.runtimes and vm.holds(spec.memory_mb)


def _load(vm: Vm) -> float:
    view = vm.as_view()
    cpu = view.used.cpu_cores / view.capacity.cpu_cores
    return cpu + (view.used.memory_mb / view.capacity.memory_mb if view.capacity.memory_mb else 0.0)


def _has_room(vm: Vm, decision: Decision) -> bool:
    view = vm.as_view()
    return (
        view.used.cpu_cores + decision.cpu_cores <= view.capacity.cpu_cores
        and view.used.memory_mb + decision.memory_mb <= view.capacity.memory_mb
    )
