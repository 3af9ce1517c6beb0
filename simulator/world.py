"""A scenario, run: controllers, VMs and calls in virtual time, and what came of it."""

from __future__ import annotations

import hashlib
import random
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from fallow.core.model import RefusalReason, Status
from fallow.core.pool.limits import PoolLimits
from simulator.clock import VirtualClock
from simulator.controller import Controller, Flight
from simulator.model import Scenario, SimAction, SimCall, SimVm
from simulator.provider import Provider
from simulator.vm import Vm

STEP_S = 1.0  # of virtual time between two looks at the progress
DIGESTED = 1000  # calls at a time
Progress = Callable[[float, int], None]  # (virtual seconds, calls ended)
Ended = Callable[[Flight], None]  # a call, and with it what became of it


@dataclass(slots=True, kw_only=True)
class Result:
    """How every call ended, in the order of ending: 13 bytes a call, 4 more if it was cold."""

    arrived: int
    latency_s: array[float]  # of those that ended with a result, from arrival to answer
    wait_s: array[float]  # of the same: before its container ran it, on the VM where it ended
    run_s: array[float]  # of the same: init excluded
    init_s: array[float]  # of the cold ones among them
    cold: bytearray  # of the same: 1 = its container was initialised for it
    failed: int  # ended by the platform: attempts used up, not to be repeated
    evicted: int  # of those, cut off by an eviction
    refused: Counter[RefusalReason]
    unfinished: int  # still under way at the end
    counters: Counter[str]  # of ClusterState, summed over controllers
    used_core_s: float
    offered_core_s: float  # what the VMs had, over the window
    virtual_s: float
    events: int
    ordered: list[SimVm]  # VMs that the monitor ordered
    digest: str  # of the whole course: equal for equal scenarios


class World:
    """Build it from a scenario, then `run`."""

    def __init__(self, scenario: Scenario, ended: Ended | None = None) -> None:
        """`ended` sees every call as it ends, in that order."""
        self._scenario = scenario
        self._tell_ended = ended
        self._clock = VirtualClock()
        self._controllers = [
            Controller(number, scenario, self._clock, self._over) for number in range(1, scenario.controllers + 1)
        ]
        for controller in self._controllers:
            controller.alone_or_not(scenario.controllers)
        self._pool_limits = PoolLimits(
            queue_calls=256, queue_bytes=32 << 20, keep_alive_s=scenario.keep_alive_s
        )  # the invoker's defaults
        self._actions = [_declared(action, scenario.retries) for action in scenario.workload.actions]
        self._runtimes = tuple(sorted({action.spec.container_kind for action in scenario.workload.actions}))
        self._vms: list[Vm] = []
        self._dice = random.Random(f"{scenario.seed}:controllers")
        self._number = 0
        self._ended = 0
        self._latency_s, self._wait_s, self._run_s, self._init_s = array("f"), array("f"), array("f"), array("f")
        self._cold = bytearray()
        self._failed = self._evicted = 0
        self._refused: Counter[RefusalReason] = Counter()
        self._digest = hashlib.blake2b(digest_size=16)
        self._lines: list[str] = []  # that the digest has yet to see

    @property
    def in_flight(self) -> int:
        """Calls that have arrived and not ended."""
        return self._number - self._ended

    def run(self, progress: Progress | None = None) -> Result:
        """Until every call has ended, at most `tail_s` after the last arrival."""
        scenario, clock = self._scenario, self._clock
        for sim in scenario.vms:
            clock.at(sim.life.join_s, self._join, sim)
        provider = self._provider()
        calls = scenario.workload.calls()
        self._next(calls)
        until_s = scenario.workload.window_s
        while clock.now_s < until_s:
            clock.run(min(until_s, clock.now_s + STEP_S))
            if progress is not None:
                progress(clock.now_s, self._ended)
            if scenario.most_in_flight is not None and self.in_flight > scenario.most_in_flight:
                return self._result(clock.now_s, provider)
        while self._ended < self._number and clock.now_s < until_s + scenario.tail_s:
            clock.run(clock.now_s + STEP_S)
            if progress is not None:
                progress(clock.now_s, self._ended)
        return self._result(until_s, provider)

    def _result(self, until_s: float, provider: Provider | None) -> Result:
        scenario, clock = self._scenario, self._clock
        ordered = [] if provider is None else [sim for sim in provider.ordered if sim.life.join_s < clock.now_s]
        self._digest_lines()
        counters: Counter[str] = Counter()
        for controller in self._controllers:
            counters.update(controller.state.counters())
        return Result(
            arrived=self._number,
            latency_s=self._latency_s,
            wait_s=self._wait_s,
            run_s=self._run_s,
            init_s=self._init_s,
            cold=self._cold,
            failed=self._failed,
            evicted=self._evicted,
            refused=self._refused,
            unfinished=self._number - self._ended,
            counters=counters,
            used_core_s=sum(vm.used_core_s() for vm in self._vms),
            offered_core_s=sum(sim.life.core_seconds(until_s) for sim in [*scenario.vms, *ordered]),
            virtual_s=clock.now_s,
            events=clock.events,
            ordered=ordered,
            digest=self._digest.hexdigest(),
        )

    # ---- VMs ---------------------------------------------------------------------------------------------------------

    def _provider(self) -> Provider | None:
        """With the first controller's monitor: live, one of them holds the role."""
        scenario, clock = self._scenario, self._clock
        if scenario.monitoring is None:
            return None
        state = self._controllers[0].state
        return Provider(
            scenario.monitoring,
            clock,
            seed=scenario.seed,
            window_s=scenario.workload.window_s,
            vms=lambda: state.vms(clock.now_s),
            join=self._join,
        )

    def _join(self, sim: SimVm) -> None:
        clock, times = self._clock, self._scenario.times
        vm = Vm(sim, clock, times, self._pool_limits, self._runtimes)
        self._vms.append(vm)
        for controller in self._controllers:
            vm.connect(controller)
        vm.measure()
        for at_s, cores in sim.life.steps[1:]:
            clock.after(at_s, vm.resize, cores)
        if sim.life.end_s is not None:
            warned_s = max(0.0, sim.life.end_s - self._scenario.notice_s)
            clock.after(warned_s, vm.notice, sim.life.end_s - warned_s)
            clock.after(sim.life.end_s, vm.end)

    # ---- calls -------------------------------------------------------------------------------------------------------

    def _next(self, calls: Iterator[SimCall]) -> None:
        call = next(calls, None)
        if call is not None and call.at_s < self._scenario.workload.window_s:
            self._clock.at(call.at_s, self._arrive, call, calls)

    def _arrive(self, call: SimCall, calls: Iterator[SimCall]) -> None:
        self._number += 1
        controllers = self._controllers
        chosen = controllers[0] if len(controllers) == 1 else controllers[self._dice.randrange(len(controllers))]
        flight = Flight(self._number, call, self._actions[call.action], chosen)
        chosen.arrive(flight)
        self._next(calls)

    def _over(self, flight: Flight, status: Status | None, refusal: RefusalReason | None, evicted: bool) -> None:
        self._ended += 1
        latency_s = self._clock.now_s - flight.arrived_s
        outcome = flight.outcome
        if refusal is not None:
            self._refused[refusal] += 1
        elif status is Status.SUCCESS and outcome is not None:
            self._latency_s.append(latency_s)
            self._wait_s.append(outcome.wait_s)
            self._run_s.append(outcome.run_s)
            self._cold.append(outcome.init_s is not None)
            if outcome.init_s is not None:
                self._init_s.append(outcome.init_s)
        else:
            self._failed += 1
            self._evicted += evicted
        # By microseconds: the last digits of a logarithm are the machine's own.
        self._lines.append(f"{flight.id} {'refused' if status is None else status} {round(latency_s * 1e6)}\n")
        if len(self._lines) == DIGESTED:
            self._digest_lines()
        if self._tell_ended is not None:
            flight.ended_s = self._clock.now_s
            self._tell_ended(flight)

    def _digest_lines(self) -> None:
        self._digest.update("".join(self._lines).encode())
        self._lines.clear()


def _declared(action: SimAction, retries: bool) -> SimAction:
    return action if retries else replace(action, spec=replace(action.spec, idempotent=False))
