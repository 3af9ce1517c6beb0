"""One simulated VM: its `PoolState`, the containers that does as it is told, the CPU they share, its life."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, assert_never

from fallow.core.model import (
    ActivationId,
    ContainerId,
    ControllerId,
    Outcome,
    Resources,
    Status,
    VmInfo,
    VmReport,
)
from fallow.core.pool.events import (
    AbandonRun,
    CancelRequested,
    ContainerDestroyed,
    ContainerStarted,
    DestroyContainer,
    FailUnstarted,
    NoticeChanged,
    PoolEvent,
    ReturnUnstarted,
    RunEnded,
    RunInContainer,
    RunRequested,
    StartContainer,
    Ticked,
    VmMeasured,
)
from fallow.core.pool.limits import SAMPLES, PoolLimits
from fallow.core.pool.state import PoolState
from simulator.clock import VirtualClock
from simulator.model import SimVm, Times
from simulator.sharing import CpuShare, Job

if TYPE_CHECKING:
    from simulator.controller import Controller, Flight

EMPTY_MB = 12.0  # a container that has run nothing: functions/runtimes/python, resident
TICK_S = 0.25  # as the invoker's own, while something waits there
CONTROLLER_ACTIVE_S = 10.0


class Run:
    """A call in a container, from init to its result."""

    __slots__ = ("flight", "init_s", "job", "order", "over", "requested_s", "started_s")

    def __init__(self, flight: Flight, order: RunInContainer, requested_s: float, started_s: float) -> None:
        self.flight = flight
        self.order = order
        self.requested_s = requested_s
        self.started_s = started_s
        self.init_s: float | None = None
        self.job: Job | None = None  # what burns CPU now
        self.over = False


class Vm:
    """Mutable, owned by the world."""

    def __init__(self, sim: SimVm, clock: VirtualClock, times: Times, limits: PoolLimits, runtimes: tuple[str, ...]):
        self.info = VmInfo(
            id=sim.life.vm_id, incarnation="1", kind=sim.kind, speed=sim.speed, price=sim.price, runtimes=runtimes
        )
        self.cores = sim.life.steps[0][1]
        self.alive = True
        self.deadline_s: float | None = None
        self._memory_mb = sim.memory_mb
        self._clock = clock
        self._times = times
        self._pool = PoolState(limits=limits)
        self._share = CpuShare(clock, self.cores * sim.speed)
        self._speed = sim.speed
        self._controllers: dict[ControllerId, Controller] = {}
        self._seen: dict[ControllerId, int] = {}
        self._last_call_s: dict[ControllerId, float] = {}
        self._flights: dict[tuple[ActivationId, int], tuple[Flight, float]] = {}
        self._runs: dict[ContainerId, Run] = {}
        self._resident: dict[ContainerId, float] = {}
        self._came_to_rest: dict[ContainerId, None] = {}
        self._starting: dict[ContainerId, Job | None] = {}
        self._samples: deque[Resources] = deque(maxlen=SAMPLES)
        self._used_before = 0.0
        self._ticking = False
        self.busy_core_s = 0.0

    # ---- what the world does to it -----------------------------------------------------------------------------------

    def connect(self, controller: Controller) -> None:
        self._controllers[controller.id] = controller
        self._seen[controller.id] = 0
        controller.joined(self, self.report(controller.id))

    def measure(self) -> None:
        """Once a second: a sample for the pool, a report for every controller."""
        if not self.alive:
            return
        used = self._share.used()
        cores = (used - self._used_before) / self._times.report_s / self._speed
        self._used_before = used
        sample = Resources(cpu_cores=cores, memory_mb=sum(self._resident.values()))
        self._samples.append(sample)
        resting = tuple((c, self._resident[c]) for c in self._came_to_rest if c in self._resident)
        self._came_to_rest.clear()
        self._feed(VmMeasured(capacity=self._capacity(), used=sample, idle_mb=resting))
        self._feed(Ticked())
        self.tell()
        self._clock.after(self._times.report_s, self.measure)

    def resize(self, cores: float) -> None:
        if not self.alive:
            return
        self.cores = cores
        self._share.resize(cores * self._speed)
        self.tell()  # at once, as an invoker does

    def notice(self, left_s: float) -> None:
        if not self.alive:
            return
        self.deadline_s = self._clock.now_s + left_s
        self._feed(NoticeChanged(left_s=left_s))
        self.tell()

    def end(self) -> None:
        """The eviction: silence first, as of a lost machine."""
        self.alive = False
        self.busy_core_s = self._share.used()
        self._share.stop()
        for run in self._runs.values():
            run.over = True
        for controller in self._controllers.values():
            self._clock.after(self._times.link_loss_s, controller.disconnected, self.info.id)

    def used_core_s(self) -> float:
        return self._share.used() if self.alive else self.busy_core_s

    # ---- reports -----------------------------------------------------------------------------------------------------

    def _capacity(self) -> Resources:
        return Resources(cpu_cores=self.cores, memory_mb=self._memory_mb)

    def report(self, to: ControllerId) -> VmReport:
        now_s = self._clock.now_s
        cpu = max((s.cpu_cores for s in self._samples), default=0.0)
        memory_mb = max((s.memory_mb for s in self._samples), default=0.0)
        active = sum(1 for at_s in self._last_call_s.values() if now_s - at_s < CONTROLLER_ACTIVE_S)
        pool = self._pool
        return VmReport(
            capacity=self._capacity(),
            used=Resources(cpu_cores=cpu, memory_mb=max(memory_mb, pool.active_mb)),
            running=pool.running,
            queued=pool.queued,
            full=pool.full,
            notice_left_s=None if self.deadline_s is None else max(0.0, self.deadline_s - now_s),
            seen=self._seen[to],
            controllers=max(1, active),
            warm=pool.warm,
        )

    def tell(self) -> None:
        """A report to every controller, on its way."""
        delay_s = self._times.link_s + self._times.report_delay_s
        for controller in self._controllers.values():
            self._clock.after(delay_s, controller.reported, self.info.id, self.report(controller.id))

    # ---- what controllers send ---------------------------------------------------------------------------------------

    def run_requested(self, controller_id: ControllerId, flight: Flight, attempt: int, seq: int, cap: float) -> None:
        if not self.alive:
            return  # nobody hears it: its controller notices the silence
        now_s = self._clock.now_s
        self._seen[controller_id] = max(self._seen[controller_id], seq)
        self._last_call_s[controller_id] = now_s
        spec = flight.action.spec
        self._flights[flight.id, attempt] = (flight, now_s)
        self._feed(
            RunRequested(
                controller_id=controller_id,
                activation_id=flight.id,
                attempt=attempt,
                action=spec,
                payload_bytes=0,
                cap_cores=cap,
            )
        )
        self._tick_soon()

    def cancel(self, activation_id: ActivationId, attempt: int) -> None:
        if self.alive and (activation_id, attempt) in self._flights:
            self._feed(CancelRequested(activation_id=activation_id, attempt=attempt))
            found = self._flights.pop((activation_id, attempt), None)
            if found is not None:  # it was still queued
                self._clock.after(
                    self._times.link_s, found[0].controller.completed, self.info.id, found[0], attempt, None
                )

    # ---- what the pool says ------------------------------------------------------------------------------------------

    def _feed(self, event: PoolEvent) -> None:
        for it in self._pool.handle(event, self._clock.now_s):
            match it:
                case RunInContainer():
                    self._run(it)
                case StartContainer():
                    self._start(it)
                case DestroyContainer():
                    self._destroy(it.container_id)
                case ReturnUnstarted():
                    flight, _ = self._flights.pop((it.activation_id, it.attempt))
                    self._clock.after(
                        self._times.link_s, flight.controller.returned, self.info.id, flight, it.attempt, it.reason
                    )
                case AbandonRun():
                    self._abandon(it)
                case FailUnstarted():
                    raise AssertionError("no simulated container fails to start")
                case _:
                    assert_never(it)

    def _tick_soon(self) -> None:
        """Ticks as often as an invoker's, but only while something waits: nothing else is bound to them."""
        if not self._ticking and self._pool.queued:
            self._ticking = True
            self._clock.after(TICK_S, self._tick)

    def _tick(self) -> None:
        self._ticking = False
        if self.alive:
            self._feed(Ticked())
            self._tick_soon()

    def _start(self, it: StartContainer) -> None:
        self._starting[it.container_id] = None
        self._clock.after(self._times.container_s, self._create, it.container_id, it.cap_cores)

    def _create(self, container_id: ContainerId, cap: float) -> None:
        if not self.alive or container_id not in self._starting:
            return
        if self._times.container_cpu_s <= 0:
            self._started(container_id)
            return
        job = self._share.add(self._times.container_cpu_s, self._times.thread_cores, cap, self._started, container_id)
        self._starting[container_id] = job

    def _started(self, container_id: ContainerId) -> None:
        if not self.alive or self._starting.pop(container_id, self) is self:
            return
        self._resident[container_id] = EMPTY_MB
        self._feed(ContainerStarted(container_id=container_id))

    def _destroy(self, container_id: ContainerId) -> None:
        job = self._starting.pop(container_id, None)
        if job is not None and job in self._share.jobs:
            self._share.remove(job)
        self._clock.after(self._times.destroy_s, self._destroyed, container_id)

    def _destroyed(self, container_id: ContainerId) -> None:
        if self.alive:
            self._resident.pop(container_id, None)
            self._feed(ContainerDestroyed(container_id=container_id))

    # ---- runs --------------------------------------------------------------------------------------------------------

    def _run(self, it: RunInContainer) -> None:
        flight, requested_s = self._flights[it.activation_id, it.attempt]
        action = flight.action
        run = Run(flight, it, requested_s, self._clock.now_s)
        self._runs[it.container_id] = run
        self._resident[it.container_id] = max(action.resident_mb, self._resident.get(it.container_id, 0.0))
        if it.init and action.init_cpu_s > 0:
            run.job = self._share.add(action.init_cpu_s, self._times.thread_cores, flight.cap, self._initialised, run)
        else:
            self._initialised(run)

    def _initialised(self, run: Run) -> None:
        if run.order.init:
            run.init_s = self._clock.now_s - run.started_s
        flight = run.flight
        if flight.cpu_s > 0:
            run.job = self._share.add(flight.cpu_s, flight.action.parallel, flight.cap, self._burnt, run)
        else:
            self._burnt(run)

    def _burnt(self, run: Run) -> None:
        run.job = None
        if run.flight.idle_s > 0:
            self._clock.after(run.flight.idle_s, self._ended, run)
        else:
            self._ended(run)

    def _ended(self, run: Run) -> None:
        if run.over:
            return
        run.over = True
        it, flight = run.order, run.flight
        del self._runs[it.container_id]
        del self._flights[flight.id, it.attempt]
        self._came_to_rest[it.container_id] = None
        init_s = run.init_s
        outcome = Outcome(
            status=Status.SUCCESS,
            wait_s=run.started_s - run.requested_s,
            init_s=init_s,
            run_s=self._clock.now_s - run.started_s - (init_s or 0.0),
            cpu_s=(flight.cpu_s + (flight.action.init_cpu_s if it.init else 0.0)) / self._speed,
            prewarmed=it.prewarmed and it.init,
            waits=it.waited,
        )
        self._clock.after(self._times.link_s, flight.controller.finished, self.info.id, flight, it.attempt, outcome)
        self._feed(RunEnded(container_id=it.container_id, activation_id=flight.id, keep=True))

    def _abandon(self, it: AbandonRun) -> None:
        run = self._runs.pop(it.container_id)
        run.over = True
        used = 0.0
        if run.job is not None:
            used = self._share.remove(run.job) / self._speed
        self._flights.pop((it.activation_id, it.attempt), None)
        self._clock.after(
            self._times.link_s, run.flight.controller.completed, self.info.id, run.flight, it.attempt, used
        )
