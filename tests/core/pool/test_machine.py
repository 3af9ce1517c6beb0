"""PoolState under every order of events that a backend and controllers can produce.

What must hold. A container is started or woken only if what all hold together, those being destroyed included, stays
within the VM's memory, or if it is the only container: an idle one holds what it was measured to have resident, every
other its limit. No call starts twice, after a notice, or in a container with other code. Every call is held until it
ended, was returned, failed or cancelled. And once the others end, every queued call starts, without any help of the
clock or of a better measurement. Instructions and state are those of a pool that asks every queued call at every event
(`support.simple_pool`), the recorded causes of waiting included.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fallow.core.attempt_waits import AttemptWaits
from fallow.core.lifecycle import ContainerState
from fallow.core.model import ActionSpec, ActivationId, ContainerId, ControllerId, Resources
from fallow.core.pool.events import (
    AbandonRun,
    CancelRequested,
    ContainerDestroyed,
    ContainerDied,
    ContainerStarted,
    ContainerStartFailed,
    DestroyContainer,
    FailUnstarted,
    NoticeChanged,
    PoolEvent,
    PoolInstruction,
    ReturnUnstarted,
    RunEnded,
    RunInContainer,
    RunRequested,
    StartContainer,
    Ticked,
    VmMeasured,
)
from fallow.core.pool.state import PoolLimits, PoolState
from support.simple_pool import SimplePool, contents

Key = tuple[ActivationId, int]
ACTIONS = [
    ActionSpec(namespace=ns, name=name, version="0.0.1", revision=revision, kind=kind, memory_mb=mb)
    for ns, name, revision, kind, mb in (
        ("alice", "small", "1", "python:3", 128),
        ("alice", "small", "2", "python:3", 128),
        ("alice", "large", "1", "python:3", 512),
        ("bob", "small", "1", "python:3", 128),
        ("bob", "other", "1", "nodejs:20", 256),
        ("carol", "huge", "1", "python:3", 900),
    )
]
index = st.integers(min_value=0, max_value=1000)


class World:
    """The backend's side: what each container is, as the instructions made it."""

    def __init__(self) -> None:
        self.memory_mb: dict[ContainerId, int] = {}
        self.resident_mb: dict[ContainerId, float] = {}  # as last measured
        self.held_mb: dict[ContainerId, float] = {}
        self.starting: list[ContainerId] = []
        self.idle: list[ContainerId] = []
        self.running: dict[ContainerId, Key] = {}
        self.destroying: list[ContainerId] = []
        self.code: dict[ContainerId, tuple[str, str, str]] = {}

    def forget(self, container_id: ContainerId) -> None:
        del self.memory_mb[container_id]
        self.resident_mb.pop(container_id, None)
        del self.held_mb[container_id]
        self.code.pop(container_id, None)


class PoolMachine(RuleBasedStateMachine):
    limits = PoolLimits(
        queue_calls=6, queue_bytes=500, keep_alive_s=20.0, max_starts=2, prewarm=(("python:3", 128, 1),)
    )

    def __init__(self) -> None:
        super().__init__()
        self.pool = PoolState(limits=self.limits)
        self.simple = SimplePool(limits=self.limits)
        self.world = World()
        self.now_s = 0.0
        self.capacity_mb = 0.0
        self.draining = False
        self.held: dict[Key, ActionSpec] = {}
        self.came_s: dict[Key, float] = {}
        self.begun: set[Key] = set()
        self.count = 0

    def tell(self, event: PoolEvent) -> None:
        instructions = self.pool.handle(event, self.now_s)
        assert instructions == self.simple.handle(event, self.now_s)
        for instruction in instructions:
            self.obey(instruction)

    def obey(self, instruction: PoolInstruction) -> None:
        world = self.world
        match instruction:
            case StartContainer(container_id=cid, memory_mb=mb):
                assert not self.draining
                assert cid not in world.memory_mb
                world.memory_mb[cid] = world.held_mb[cid] = mb
                world.starting.append(cid)
                self.fits()
            case RunInContainer(container_id=cid):
                self.begin(instruction)
            case DestroyContainer(container_id=cid):
                for group in (world.starting, world.idle):
                    if cid in group:
                        group.remove(cid)
                assert cid not in world.running, "a running call is never destroyed without AbandonRun or RunEnded"
                world.destroying.append(cid)
            case ReturnUnstarted(activation_id=activation_id, attempt=attempt, waited=waited):
                self.check_waits((activation_id, attempt), waited)
                self.give_up((activation_id, attempt))
            case FailUnstarted(activation_id=activation_id, attempt=attempt, waited=waited):
                self.check_waits((activation_id, attempt), waited)
                self.give_up((activation_id, attempt))
            case AbandonRun(container_id=cid, activation_id=activation_id, attempt=attempt):
                assert world.running.pop(cid) == (activation_id, attempt)

    def fits(self) -> None:
        held_mb = sum(self.world.held_mb.values())
        assert held_mb <= self.capacity_mb + 1e-6 or len(self.world.memory_mb) == 1

    def begin(self, order: RunInContainer) -> None:
        key = (order.activation_id, order.attempt)
        assert not self.draining
        assert key in self.held
        assert key not in self.begun
        self.begun.add(key)
        self.check_waits(key, order.waited)
        self.world.idle.remove(order.container_id)  # its server answers, and nothing runs in it
        code = self.held[key].container_key
        assert order.init == (order.container_id not in self.world.code)
        assert self.world.code.setdefault(order.container_id, code) == code
        self.world.running[order.container_id] = key
        limit_mb = self.world.memory_mb[order.container_id]
        if limit_mb > self.world.held_mb[order.container_id]:
            self.world.held_mb[order.container_id] = limit_mb
            self.fits()
        self.world.held_mb[order.container_id] = limit_mb

    def check_waits(self, key: Key, waited: AttemptWaits | None) -> None:
        """Every second that a call was here without running has exactly one cause."""
        told = waited or AttemptWaits()
        parts = (told.cpu_s, told.memory_s, told.starts_s, told.shrink_s, told.start_s)
        assert all(part >= 0 for part in parts)
        assert sum(parts) == pytest.approx(self.now_s - self.came_s[key], abs=1e-9)

    def give_up(self, key: Key) -> None:
        assert key not in self.begun
        del self.held[key]

    @rule(action=st.sampled_from(ACTIONS), size=st.integers(0, 200), cap=st.sampled_from((1.0, 2.0)))
    def request(self, action: ActionSpec, size: int, cap: float) -> None:
        self.count += 1
        key = (ActivationId(f"call{self.count}"), 1)
        self.held[key] = action
        self.came_s[key] = self.now_s
        self.send(key, action, size, cap)

    def send(self, key: Key, action: ActionSpec, size: int, cap: float) -> None:
        self.tell(
            RunRequested(
                controller_id=ControllerId("c"),
                activation_id=key[0],
                attempt=key[1],
                action=action,
                payload_bytes=size,
                cap_cores=cap,
            )
        )

    @precondition(lambda self: self.held)
    @rule(which=index)
    def request_again(self, which: int) -> None:
        key = list(self.held)[which % len(self.held)]
        self.send(key, self.held[key], 1, 1.0)

    @precondition(lambda self: self.world.starting)
    @rule(which=index)
    def container_starts(self, which: int) -> None:
        cid = self.world.starting.pop(which % len(self.world.starting))
        self.world.idle.append(cid)
        self.tell(ContainerStarted(container_id=cid))

    @precondition(lambda self: self.world.starting)
    @rule(which=index, developer_error=st.sampled_from(["", "no such image"]))
    def container_does_not_start(self, which: int, developer_error: str) -> None:
        cid = self.world.starting.pop(which % len(self.world.starting))
        self.world.forget(cid)
        self.tell(ContainerStartFailed(container_id=cid, error="no", developer_error=developer_error))

    @precondition(lambda self: self.world.running)
    @rule(which=index, keep=st.booleans())
    def run_ends(self, which: int, keep: bool) -> None:
        cid = list(self.world.running)[which % len(self.world.running)]
        key = self.world.running.pop(cid)
        del self.held[key]
        if keep:
            self.world.idle.append(cid)
            self.world.held_mb[cid] = self.world.resident_mb.get(cid, self.world.memory_mb[cid])
        self.tell(RunEnded(container_id=cid, activation_id=key[0], keep=keep))
        assert keep or cid in self.world.destroying

    @precondition(lambda self: self.world.idle)
    @rule(which=index)
    def idle_container_dies(self, which: int) -> None:
        cid = self.world.idle.pop(which % len(self.world.idle))
        self.world.forget(cid)
        self.tell(ContainerDied(container_id=cid))

    @precondition(lambda self: self.world.destroying)
    @rule(which=index, late=st.booleans())
    def container_is_destroyed(self, which: int, late: bool) -> None:
        cid = self.world.destroying.pop(which % len(self.world.destroying))
        if late:  # an answer that had been on its way
            self.tell(ContainerStarted(container_id=cid))
        self.world.forget(cid)
        self.tell(ContainerDestroyed(container_id=cid))

    @precondition(lambda self: self.held)
    @rule(which=index)
    def cancel(self, which: int) -> None:
        key = list(self.held)[which % len(self.held)]
        del self.held[key]
        self.tell(CancelRequested(activation_id=key[0], attempt=key[1]))

    @rule(
        cores=st.sampled_from((0.0, 1.0, 4.0)),
        memory_mb=st.sampled_from((0.0, 256.0, 1024.0, 2048.0)),
        cpu=st.sampled_from((0.0, 0.5, 4.0)),
        used_mb=st.sampled_from((0.0, 300.0, 1500.0)),
        idle=st.lists(st.tuples(index, st.sampled_from((10.0, 100.0, 1000.0))), max_size=3),
    )
    def measure(
        self, cores: float, memory_mb: float, cpu: float, used_mb: float, idle: list[tuple[int, float]]
    ) -> None:
        self.report(cores, memory_mb, cpu, used_mb, idle)

    def report(self, cores: float, memory_mb: float, cpu: float, used_mb: float, idle: list[tuple[int, float]]) -> None:
        self.capacity_mb = memory_mb
        world = self.world
        resting = [(world.idle[i % len(world.idle)], mb) for i, mb in idle] if world.idle else []
        for cid, mb in resting:
            world.resident_mb[cid] = world.held_mb[cid] = mb
        self.tell(
            VmMeasured(
                capacity=Resources(cpu_cores=cores, memory_mb=memory_mb),
                used=Resources(cpu_cores=cpu, memory_mb=used_mb),
                idle_mb=tuple(resting),
            )
        )

    @rule(left_s=st.sampled_from((30.0, 5.0, None)))
    def notice(self, left_s: float | None) -> None:
        if left_s is None:
            self.draining = False
        self.tell(NoticeChanged(left_s=left_s))
        self.draining = left_s is not None

    @rule(after_s=st.sampled_from((0.01, 0.25, 1.0, 10.0)))
    def tick(self, after_s: float) -> None:
        self.now_s += after_s
        self.tell(Ticked())

    @invariant()
    def agrees(self) -> None:
        self.pool.validate()
        assert contents(self.pool) == contents(self.simple)
        assert {(activation, attempt) for _, activation, attempt in self.pool.holds()} == set(self.held)
        assert self.pool.running == len(self.world.running)
        assert self.pool.queued == len(self.held) - len(self.world.running)
        assert abs(self.pool.reserved_mb - sum(self.world.held_mb.values())) < 1e-3
        states = {c.id: c.state for c in self.pool.containers()}
        assert {cid for cid, state in states.items() if state is ContainerState.DESTROYING} == set(
            self.world.destroying
        )
        if self.draining:
            assert self.pool.queued == 0

    def teardown(self) -> None:
        if self.draining:
            self.notice(None)
        for _ in range(20 * (len(self.held) + len(self.world.memory_mb) + 1)):
            if self.world.destroying:
                self.container_is_destroyed(0, False)
            elif self.world.starting:
                self.container_starts(0)
            elif self.world.running:
                self.run_ends(0, True)
            self.agrees()
        assert not self.held, f"never started: {sorted(self.held)}"


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)


class DeepQueueMachine(PoolMachine):
    """A VM that works all the time, with many calls of many actions in its queue: never drained, its CPU often open."""

    limits = PoolLimits(
        queue_calls=60, queue_bytes=1_000_000, keep_alive_s=20.0, max_starts=2, prewarm=(("python:3", 128, 1),)
    )

    @initialize(cores=st.sampled_from((4.0, 8.0)), memory_mb=st.sampled_from((1024.0, 2048.0, 4096.0)))
    def has_capacity(self, cores: float, memory_mb: float) -> None:
        self.report(cores, memory_mb, 0.0, 0.0, [])

    @rule(actions=st.lists(st.sampled_from(ACTIONS), min_size=4, max_size=16))
    def burst(self, actions: list[ActionSpec]) -> None:
        for action in actions:
            self.request(action, 1, 1.0)

    @rule(
        cores=st.sampled_from((2.0, 8.0)),
        memory_mb=st.sampled_from((1024.0, 2048.0, 4096.0)),
        cpu=st.sampled_from((0.0, 0.5, 4.0)),
        used_mb=st.sampled_from((0.0, 300.0, 1500.0)),
        idle=st.lists(st.tuples(index, st.sampled_from((10.0, 100.0, 1000.0))), max_size=3),
    )
    def measure(
        self, cores: float, memory_mb: float, cpu: float, used_mb: float, idle: list[tuple[int, float]]
    ) -> None:
        self.report(cores, memory_mb, cpu, used_mb, idle)

    def notice(self, left_s: float | None) -> None:
        raise AssertionError("this VM is not drained")


TestDeepQueue = DeepQueueMachine.TestCase
TestDeepQueue.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
