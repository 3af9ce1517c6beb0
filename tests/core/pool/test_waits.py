"""Why a call waits on its VM: the pool's clock, the shrink's share, and the cores a call has seen."""

from __future__ import annotations

from typing import Any

import pytest

from fallow.core.attempt_waits import AttemptWaits
from fallow.core.model import ActionSpec, ActivationId, ContainerId, ControllerId, Resources
from fallow.core.pool.events import (
    ContainerStarted,
    ContainerStartFailed,
    NoticeChanged,
    PoolEvent,
    PoolInstruction,
    ReturnUnstarted,
    RunEnded,
    RunInContainer,
    RunRequested,
    VmMeasured,
)
from fallow.core.pool.state import PoolLimits, PoolState
from fallow.core.pool.waits import CoresSeen


class Rig:
    """A pool of 4 cores and 1024 MB with a clock of its own."""

    def __init__(self, **limits: Any) -> None:
        self.pool = PoolState(
            limits=PoolLimits(**{"queue_calls": 10, "queue_bytes": 1000, "keep_alive_s": 600.0, **limits})
        )
        self.now_s = 100.0
        self.measured(4)

    def tell(self, event: PoolEvent) -> list[PoolInstruction]:
        out = self.pool.handle(event, self.now_s)
        self.pool.validate()
        return out

    def measured(self, cores: float, cpu: float = 0.0) -> list[PoolInstruction]:
        capacity = Resources(cpu_cores=cores, memory_mb=1024)
        return self.tell(VmMeasured(capacity=capacity, used=Resources(cpu_cores=cpu, memory_mb=0)))

    def run(self, call: str, action: str = "a", *, mb: int = 128, cap: float = 1.0) -> list[PoolInstruction]:
        spec = ActionSpec(namespace="n", name=action, version="0.0.1", revision="1", kind="python:3", memory_mb=mb)
        return self.tell(
            RunRequested(
                controller_id=ControllerId("c"),
                activation_id=ActivationId(call),
                attempt=1,
                action=spec,
                payload_bytes=1,
                cap_cores=cap,
            )
        )

    def started(self, container: int) -> list[PoolInstruction]:
        return self.tell(ContainerStarted(container_id=ContainerId(container)))

    def ended(self, container: int, call: str) -> list[PoolInstruction]:
        return self.tell(RunEnded(container_id=ContainerId(container), activation_id=ActivationId(call), keep=True))

    def after(self, seconds: float) -> Rig:
        self.now_s += seconds
        return self

    def busy(self, *calls: tuple[str, float]) -> None:
        """Have calls of these weights run in containers 1, 2, ...; the VM's CPU is measured as busy."""
        for number, (call, cap) in enumerate(calls, start=1):
            self.run(call, cap=cap)
            assert waits(self.started(number)) == {call: None}
        self.measured(4, cpu=4)


def waits(out: list[PoolInstruction]) -> dict[str, AttemptWaits | None]:
    return {i.activation_id: i.waited for i in out if isinstance(i, RunInContainer | ReturnUnstarted)}


def test_a_call_that_waits_for_nothing_has_no_waits() -> None:
    rig = Rig()
    rig.run("x")
    assert waits(rig.started(1)) == {"x": None}
    rig.after(1).ended(1, "x")
    assert waits(rig.run("y")) == {"y": None}


def test_a_cold_start_is_told() -> None:
    rig = Rig()
    rig.run("x")
    assert waits(rig.after(0.5).started(1)) == {"x": AttemptWaits(start_s=0.5)}


def test_busy_cpu_then_a_warm_container() -> None:
    rig = Rig()
    rig.busy(("x", 4.0))
    rig.run("y")
    assert waits(rig.after(2).ended(1, "x")) == {"y": AttemptWaits(cpu_s=2.0)}


def test_memory_and_starts_are_told_apart() -> None:
    rig = Rig(max_starts=1)
    rig.run("x", "a", mb=512)
    rig.run("y", "b", mb=512)  # waits for x's container to have started
    assert waits(rig.after(1).started(1)) == {"x": AttemptWaits(start_s=1.0)}
    rig.run("z", "c", mb=512)  # and now there is no memory left
    assert waits(rig.after(2).started(2)) == {"y": AttemptWaits(starts_s=1.0, start_s=2.0)}
    rig.after(4).ended(2, "y")  # y's container goes for z
    out = rig.tell(NoticeChanged(left_s=5.0))
    assert waits(out) == {"z": AttemptWaits(starts_s=2.0, memory_s=4.0)}, "starts had been used up first"


def test_a_failed_start_counts_as_a_start_and_the_wait_goes_on() -> None:
    rig = Rig()
    rig.run("x")
    rig.after(1).tell(ContainerStartFailed(container_id=ContainerId(1), error="no fork"))
    assert waits(rig.after(2).started(2)) == {"x": AttemptWaits(start_s=3.0)}


def test_a_shrink_is_told_apart_from_a_busy_cpu() -> None:
    rig = Rig()
    rig.busy(("x1", 2.0), ("x2", 2.0))
    rig.run("y")  # 4 > 3.6: it waits for the CPU
    rig.after(1).measured(2, cpu=4)  # it would have waited all the same
    rig.after(3).ended(1, "x1")  # 2 <= 3.6, but 2 > 1.8: with 4 cores it would start now
    out = rig.after(5).ended(2, "x2")
    assert waits(out) == {"y": AttemptWaits(cpu_s=4.0, shrink_s=5.0)}


def test_only_those_whose_turn_it_would_be_wait_because_of_the_shrink() -> None:
    rig = Rig()
    rig.busy(("x1", 3.0), ("x2", 1.0))
    rig.run("d")
    rig.run("e")
    rig.measured(2, cpu=4)
    rig.after(1).ended(2, "x2")  # 3 <= 3.6 for d; 3 + 1 > 3.6 for e
    out = rig.after(10).ended(1, "x1")
    assert waits(out) == {"d": AttemptWaits(cpu_s=1.0, shrink_s=10.0), "e": AttemptWaits(cpu_s=11.0)}


def test_a_call_that_comes_after_the_shrink_never_waits_because_of_it() -> None:
    rig = Rig()
    rig.busy(("x", 3.0))
    rig.measured(2, cpu=4)
    rig.run("y")
    assert waits(rig.after(2).ended(1, "x")) == {"y": AttemptWaits(cpu_s=2.0)}


def test_a_grown_vm_counts_at_its_highest() -> None:
    rig = Rig()
    rig.busy(("x1", 4.0), ("x2", 4.0))
    rig.run("y")
    rig.measured(8, cpu=8)  # 8 > 7.2
    rig.measured(4, cpu=8)
    rig.after(1).ended(1, "x1")  # 4 <= 7.2, but 4 > 3.6
    assert waits(rig.after(3).ended(2, "x2")) == {"y": AttemptWaits(cpu_s=1.0, shrink_s=3.0)}


def test_without_memory_for_it_a_call_does_not_wait_because_of_the_shrink() -> None:
    rig = Rig()
    rig.run("x", "a", mb=1024, cap=3.0)
    rig.started(1)
    rig.measured(4, cpu=4)
    rig.run("y", "b", mb=512)
    rig.measured(2, cpu=4)
    out = rig.after(3).tell(NoticeChanged(left_s=1.0))
    assert waits(out) == {"y": AttemptWaits(cpu_s=3.0)}


def test_use_that_the_shrink_itself_keeps_low_is_no_sign_of_room() -> None:
    rig = Rig()
    rig.busy(("x", 4.0))
    rig.run("y")
    for _ in range(5):
        rig.after(1).measured(2, cpu=2)  # within 90 % of 4; but 4 was used when it could be
    assert waits(rig.ended(1, "x")) == {"y": AttemptWaits(cpu_s=5.0)}


def test_use_measured_before_the_shrink_shows_room() -> None:
    rig = Rig()
    rig.run("x1", "a", mb=512, cap=4.0)
    rig.started(1)
    rig.run("x2", "b", mb=512)
    rig.started(2)
    rig.measured(4, cpu=2.5)
    rig.run("y", "c", mb=512)
    rig.after(1).measured(2, cpu=2.5)
    rig.after(2).tell(RunEnded(container_id=ContainerId(2), activation_id=ActivationId("x2"), keep=True))
    out = rig.after(4).tell(NoticeChanged(left_s=1.0))
    assert waits(out) == {"y": AttemptWaits(memory_s=1.0, cpu_s=2.0, shrink_s=4.0)}


def seen(cores: float, *, running: bool) -> CoresSeen:
    return CoresSeen(cores, running=running)


def test_cores_seen_while_running() -> None:
    cores = seen(4, running=True)
    cores.changed(1, 10.0, 5.0)
    cores.changed(2, 12.0, 6.5)
    cores.changed(6, 13.0, 6.75)  # more than ever: not shrunk
    cores.changed(3, 20.0, 100.0)
    assert cores.told(AttemptWaits(cpu_s=1.0), 21.0, 100.5, "") == AttemptWaits(
        cpu_s=1.0,
        cores_first=4,
        cores_most=6,
        cores_least=1,
        cores_last=3,
        shrunk_run_s=4.0,
        throttled_s=2.25,
    )


def test_time_before_the_run_is_not_counted_as_run() -> None:
    cores = seen(4, running=False)
    cores.changed(1, 10.0, 5.0)
    cores.began(15.0, 7.0)
    told = cores.told(None, 16.0, 7.5, "")
    assert (told.shrunk_run_s, told.throttled_s) == (1.0, 0.5)


def test_a_grow_alone_asks_for_no_throttling() -> None:
    cores = seen(2, running=True)
    cores.changed(4, 10.0, None)
    told = cores.told(None, 20.0, None, "no cgroup")
    assert (told.shrunk_run_s, told.throttled_s, told.throttled_note) == (0.0, None, "")
    assert told.cores_changed


@pytest.mark.parametrize("readings", [(None, None), (1.0, None), (None, 1.0)])
def test_what_cannot_be_read_is_not_measured(readings: tuple[float | None, float | None]) -> None:
    cores = seen(2, running=True)
    cores.changed(1, 10.0, readings[0])
    told = cores.told(None, 20.0, readings[1], "no cgroup")
    assert (told.shrunk_run_s, told.throttled_s, told.throttled_note) == (10.0, None, "no cgroup")
