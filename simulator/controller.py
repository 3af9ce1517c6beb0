"""One simulated controller: a `ClusterState`, its messages to VMs, and what became of its calls."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import assert_never

from fallow.core.cluster.events import (
    AcceptOutcome,
    ActivationArrived,
    AttemptCompleted,
    AttemptFinished,
    AttemptReturned,
    CancelAttempt,
    ClusterEvent,
    Conclude,
    ControllersChanged,
    DeclareLost,
    DiscardOutcome,
    Dispatch,
    FenceRaised,
    Forget,
    RaiseFence,
    Refuse,
    Ticked,
    VmDisconnected,
    VmJoined,
    VmReported,
)
from fallow.core.cluster.limits import ClusterLimits
from fallow.core.cluster.state import ClusterState
from fallow.core.eviction import make_strategy
from fallow.core.model import (
    Activation,
    ActivationId,
    ControllerId,
    Outcome,
    RefusalReason,
    ReturnReason,
    Status,
    VmId,
    VmKind,
    VmReport,
)
from fallow.own_policies import find_policy
from simulator.clock import VirtualClock
from simulator.model import Scenario, SimAction, SimCall
from simulator.vm import Vm

TICK_S = 0.25  # as the live controller's


class Flight:
    """One call on its way through the world."""

    __slots__ = (
        "action",
        "activation",
        "arrived_s",
        "cap",
        "controller",
        "cpu_s",
        "ended_s",
        "id",
        "idle_s",
        "index",
        "kind",
        "number",
        "outcome",
        "vm_id",
    )

    def __init__(self, number: int, call: SimCall, action: SimAction, controller: Controller) -> None:
        self.number = number  # of its arrival, from 1
        self.id = ActivationId(f"{number:x}")
        self.index = call.action
        self.action = action
        self.controller = controller
        self.arrived_s = call.at_s
        self.cpu_s = call.cpu_s
        self.ended_s = -1.0  # where somebody asked for it
        self.idle_s = call.idle_s
        self.cap = 1.0  # weight of its container, as its placement said
        self.kind: VmKind | None = None  # of the VM of its last attempt
        self.vm_id: VmId | None = None  # of its last attempt
        self.outcome: Outcome | None = None


Over = Callable[[Flight, Status | None, RefusalReason | None, bool], None]


class Controller:
    """Owned by the world; `over(flight, status, refusal, evicted)` is called once for each call."""

    def __init__(self, number: int, scenario: Scenario, clock: VirtualClock, over: Over) -> None:
        self.id = ControllerId(f"c{number}")
        self._clock = clock
        self._times = scenario.times
        self._over = over
        self._flights: dict[ActivationId, Flight] = {}
        self._vms: dict[VmId, Vm] = {}
        self.state = ClusterState(
            policy=find_policy(scenario.policy, random.Random(f"{scenario.seed}:policy:{number}")),
            strategy=make_strategy(scenario.strategy, scenario.notice_s),
            limits=ClusterLimits(max_attempts=scenario.max_attempts, why_kept=1),
        )
        clock.after(TICK_S, self._tick)

    def _tick(self) -> None:
        self._feed(Ticked())
        self._clock.after(TICK_S, self._tick)

    def alone_or_not(self, live: int) -> None:
        """How many controllers there are."""
        self._feed(ControllersChanged(live=live))

    @property
    def in_flight(self) -> int:
        return len(self._flights)

    # ---- calls and VMs -----------------------------------------------------------------------------------------------

    def arrive(self, flight: Flight) -> None:
        self._flights[flight.id] = flight
        self._feed(ActivationArrived(activation=Activation(id=flight.id, action=flight.action.spec, blocking=True)))

    def joined(self, vm: Vm, report: VmReport) -> None:
        self._vms[vm.info.id] = vm
        self._feed(VmJoined(vm=vm.info, report=report))

    def reported(self, vm_id: VmId, report: VmReport) -> None:
        self._feed(VmReported(vm_id=vm_id, report=report))

    def disconnected(self, vm_id: VmId) -> None:
        self._vms.pop(vm_id, None)
        self._feed(VmDisconnected(vm_id=vm_id))

    def finished(self, vm_id: VmId, flight: Flight, attempt: int, outcome: Outcome) -> None:
        flight.outcome = outcome
        self._feed(AttemptFinished(vm_id=vm_id, activation_id=flight.id, attempt=attempt, outcome=outcome))
        self._feed(AttemptCompleted(vm_id=vm_id, activation_id=flight.id, attempt=attempt))

    def completed(self, vm_id: VmId, flight: Flight, attempt: int, cpu_s: float | None) -> None:
        self._feed(AttemptCompleted(vm_id=vm_id, activation_id=flight.id, attempt=attempt, cpu_s=cpu_s))

    def returned(self, vm_id: VmId, flight: Flight, attempt: int, reason: ReturnReason) -> None:
        self._feed(AttemptReturned(vm_id=vm_id, activation_id=flight.id, attempt=attempt, reason=reason))

    # ---- instructions ------------------------------------------------------------------------------------------------

    def _feed(self, event: ClusterEvent) -> None:
        for it in self.state.handle(event, self._clock.now_s):
            match it:
                case Dispatch():
                    self._dispatch(it)
                case AcceptOutcome():
                    self._end(it.activation_id, Status.SUCCESS)
                case RaiseFence():
                    self._clock.after(self._times.store_s, self._raised, it.activation_id, it.attempt)
                case CancelAttempt():
                    vm = self._vms.get(it.vm_id)
                    if vm is not None:
                        self._clock.after(self._times.link_s, vm.cancel, it.activation_id, it.attempt)
                case Conclude():
                    self._end(it.activation_id, it.status, evicted=it.evicted)
                case Refuse():
                    self._end(it.activation_id, None, it.reason)
                case Forget():
                    raise AssertionError("every simulated call has one controller")
                case DiscardOutcome() | DeclareLost():
                    pass
                case _:
                    assert_never(it)

    def _dispatch(self, it: Dispatch) -> None:
        flight = self._flights[it.activation_id]
        vm = self._vms.get(it.vm_id)
        if vm is None:
            self._clock.after(0.0, self.returned, it.vm_id, flight, it.attempt, ReturnReason.UNREACHABLE)
            return
        flight.cap, flight.kind, flight.vm_id = it.cap_cores, vm.info.kind, it.vm_id
        self._clock.after(self._times.link_s, vm.run_requested, self.id, flight, it.attempt, it.seq, it.cap_cores)

    def _raised(self, activation_id: ActivationId, attempt: int) -> None:
        self._feed(FenceRaised(activation_id=activation_id, attempt=attempt))

    def _end(
        self,
        activation_id: ActivationId,
        status: Status | None,
        refusal: RefusalReason | None = None,
        *,
        evicted: bool = False,
    ) -> None:
        self._over(self._flights.pop(activation_id), status, refusal, evicted)
