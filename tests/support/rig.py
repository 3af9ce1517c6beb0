"""A ClusterState with a clock of its own, and the instructions it is expected to answer."""

from __future__ import annotations

from dataclasses import replace

from fallow.core.cluster.events import (
    ActivationArrived,
    AttemptCompleted,
    AttemptFinished,
    AttemptReturned,
    CancelAttempt,
    ClusterInstruction,
    Conclude,
    Dispatch,
    FenceRaised,
    FenceRefused,
    RaiseFence,
    Ticked,
    VmJoined,
    VmReported,
)
from fallow.core.cluster.state import ClusterLimits, ClusterState
from fallow.core.eviction import make_strategy
from fallow.core.lifecycle import VmState
from fallow.core.model import (
    ActionSpec,
    Activation,
    ActivationId,
    Outcome,
    Resources,
    ReturnReason,
    Status,
    VmId,
    VmInfo,
    VmKind,
    VmReport,
)
from fallow.core.policies.base import Policy
from fallow.core.policies.mws import Mws

ECHO = ActionSpec(namespace="guest", name="echo", version="0.0.1", revision="1", kind="python:3", timeout_s=60.0)
ONCE = replace(ECHO, name="once", idempotent=False)
OK = Outcome(status=Status.SUCCESS, run_s=0.1, cpu_s=0.05)
REPORT = VmReport(capacity=Resources(cpu_cores=8, memory_mb=16384), used=Resources(cpu_cores=0.0, memory_mb=0.0))
C1, H1, H2, R1 = ActivationId("c1"), VmId("h1"), VmId("h2"), VmId("r1")
Out = list[ClusterInstruction]


class Rig:
    """A ClusterState with a clock of its own."""

    def __init__(
        self,
        *vms: str,
        limits: ClusterLimits | None = None,
        strategy: str = "prefer-regular",
        policy: Policy | None = None,
    ) -> None:
        self.state = ClusterState(
            policy=policy or Mws(), strategy=make_strategy(strategy, 30.0), limits=limits or ClusterLimits()
        )
        self.now_s = 1000.0
        for name in vms:
            assert self.join(name) == []

    def feed(self, event: object) -> Out:
        out = self.state.handle(event, self.now_s)  # type: ignore[arg-type]
        self.state.validate()
        return out

    def join(
        self, name: str, *holds: tuple[ActivationId, int], incarnation: str = "i", report: VmReport = REPORT
    ) -> Out:
        kind = {"h": VmKind.HARVEST, "r": VmKind.REGULAR, "s": VmKind.SPOT}[name[0]]
        vm = VmInfo(id=VmId(name), incarnation=incarnation, kind=kind, runtimes=("python:3",))
        return self.feed(VmJoined(vm=vm, report=report, holds=holds))

    def report(self, name: str, report: VmReport = REPORT) -> Out:
        return self.feed(VmReported(vm_id=VmId(name), report=report))

    def arrive(
        self, call_id: str = "c1", spec: ActionSpec = ECHO, *, durable: bool = False, attempts: int = 0, size: int = 0
    ) -> Out:
        call = Activation(
            id=ActivationId(call_id),
            action=spec,
            blocking=not durable,
            durable=durable,
            attempts=attempts,
            payload_bytes=size,
        )
        return self.feed(ActivationArrived(activation=call))

    def finish(self, vm: str, attempt: int = 1, outcome: Outcome = OK) -> Out:
        return self.feed(AttemptFinished(vm_id=VmId(vm), activation_id=C1, attempt=attempt, outcome=outcome))

    def complete(self, vm: str, attempt: int = 1) -> Out:
        return self.feed(AttemptCompleted(vm_id=VmId(vm), activation_id=C1, attempt=attempt))

    def give_back(self, vm: str, reason: ReturnReason, attempt: int = 1) -> Out:
        return self.feed(AttemptReturned(vm_id=VmId(vm), activation_id=C1, attempt=attempt, reason=reason))

    def raised(self, attempt: int) -> Out:
        return self.feed(FenceRaised(activation_id=C1, attempt=attempt))

    def refused(self, attempt: int, *, recorded: bool) -> Out:
        return self.feed(FenceRefused(activation_id=C1, attempt=attempt, recorded=recorded))

    def wait(self, seconds: float, *talking: str) -> Out:
        """Time passes with four ticks a second; the VMs named report every second."""
        out: Out = []
        for n in range(round(seconds * 4)):
            self.now_s += 0.25
            if n % 4 == 0:
                for name in talking:
                    out += self.report(name)
            out += self.feed(Ticked())
        return out

    def status(self, name: str) -> VmState:
        return next(vm.state for vm in self.state.vms(self.now_s) if vm.info.id == name)


def dispatch(vm: str, *, attempt: int = 1, seq: int = 1, call: str = "c1", long: bool = False) -> Dispatch:
    return Dispatch(
        vm_id=VmId(vm), activation_id=ActivationId(call), attempt=attempt, seq=seq, cap_cores=1.0, long=long
    )


def fence(expect: int, attempt: int) -> RaiseFence:
    return RaiseFence(activation_id=C1, expect=expect, attempt=attempt)


def cancel(vm: str, attempt: int = 1) -> CancelAttempt:
    return CancelAttempt(vm_id=VmId(vm), activation_id=C1, attempt=attempt)


def concluded(out: Out) -> Conclude:
    (only,) = [i for i in out if isinstance(i, Conclude)]
    assert only.status is Status.WHISK_ERROR
    return only
