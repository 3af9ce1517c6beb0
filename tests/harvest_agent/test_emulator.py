from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fallow.infra import clock
from fallow.infra.settings import AgentSettings
from fallow.traces.vms import Life
from harvest_agent.cgroups import VmCgroup, make_host_tree
from harvest_agent.emulator import ANSWER_S, OPERATOR, TRACE, EmulatedVm
from harvest_agent.events import EventLog
from harvest_agent.sources import Cue, script
from harvest_agent.usage import Usage

from .fake_kernel import FakeKernel
from .test_cgroups import V2, V2_ROOT
from .vms import events


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel(2, [V2_ROOT])


@pytest.fixture
def vm(kernel: FakeKernel, tmp_path: Path) -> EmulatedVm:
    cgroup = VmCgroup(make_host_tree(V2, {}, "t", kernel), "h1", kernel)
    cgroup.create(4 * 0.5)
    log = EventLog(str(tmp_path / "e.jsonl"), vm_id="h1", kind="harvest")
    return EmulatedVm(AgentSettings(vm_id="h1", core_scale=0.5), cgroup, log, cores=4.0)


def quota(kernel: FakeKernel) -> str:
    return kernel.read(V2_ROOT / "t/h1/cpu.max")


def test_cores_are_written_scaled_and_use_is_said_in_the_vms_cores(vm: EmulatedVm, kernel: FakeKernel) -> None:
    assert quota(kernel) == "100000 50000"
    vm.resize(6.0, by=TRACE)
    assert quota(kernel) == "150000 50000"
    vm.measured(Usage(cpu_cores=1.5, memory_mb=20))
    assert (vm.state().cores, vm.state().cpu_used, vm.state().memory_used_mb) == (6.0, 3.0, 20)
    assert vm.state().cpu_enforced


def test_a_refused_quota_is_said_and_cores_are_served_all_the_same(vm: EmulatedVm, kernel: FakeKernel) -> None:
    kernel.refuse = {V2_ROOT / "t/h1/cpu.max"}
    vm.resize(2.0, by=OPERATOR)
    assert vm.state().cores == 2.0
    assert not vm.state().cpu_enforced
    assert "Permission denied" in vm.state().cpu_note
    kernel.refuse = set()
    vm.resize(3.0, by=OPERATOR)
    assert vm.state().cpu_enforced


@pytest.mark.parametrize("cores", [0.0, -1.0, float("nan"), float("inf")])
def test_no_cores_are_refused(vm: EmulatedVm, cores: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        vm.resize(cores, by=OPERATOR)
    assert vm.cores == 4.0


def test_a_trace_never_puts_off_what_an_operator_announced(vm: EmulatedVm, tmp_path: Path) -> None:
    vm.evict(5.0, by=OPERATOR)
    vm.evict(500.0, by=TRACE)
    assert vm.notice_left_s is not None
    assert vm.notice_left_s <= 5.0
    vm.evict(500.0, by=OPERATOR)  # who announced it may move it
    assert vm.notice_left_s > 400.0
    assert vm.withdraw(by=OPERATOR)
    assert not vm.withdraw(by=OPERATOR)
    assert [e["event"] for e in events(tmp_path / "e.jsonl")] == ["notice", "notice", "withdrawn"]


async def test_the_deadline_follows_the_notice(vm: EmulatedVm) -> None:
    waiting = asyncio.create_task(vm.deadline())
    vm.evict(1000.0, by=TRACE)
    vm.withdraw(by=OPERATOR)
    vm.evict(1000.0, by=TRACE)
    await asyncio.sleep(0)
    assert not waiting.done()
    vm.evict(0.0, by=OPERATOR)
    assert await waiting == OPERATOR


async def test_an_operator_is_answered_before_the_silence_and_a_trace_waits_for_nobody(
    vm: EmulatedVm, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(clock, "mono_s", lambda: now)
    vm.evict(0.0, by=OPERATOR)
    assert vm.notice_left_s == 0.0  # placement learns at once that nothing may come here
    waiting = asyncio.create_task(vm.deadline())
    await asyncio.sleep(0)
    assert not waiting.done()
    now += ANSWER_S
    vm.measured(Usage(cpu_cores=0, memory_mb=0))  # any change has the deadline looked at
    assert await waiting == OPERATOR
    assert vm.withdraw(by=OPERATOR)
    vm.evict(0.0, by=TRACE)
    assert await vm.deadline() == TRACE


async def test_no_change_falls_between_two_looks(vm: EmulatedVm) -> None:
    change = vm.next_change()
    assert vm.state().cores == 4.0
    vm.resize(1.0, by=TRACE)
    await change.wait()  # would hang if the change were missed
    assert not vm.next_change().is_set()


def test_a_script_is_in_compressed_time_and_announces_the_end() -> None:
    life = Life(vm_id="h1", join_s=70, steps=((0, 4), (100, 2), (300, 8)), end_s=400)  # type: ignore[arg-type]
    assert script(life, speedup=10, notice_s=20) == [
        Cue(at_s=0, cores=4),
        Cue(at_s=10, cores=2),
        Cue(at_s=20, evict_at_s=40),
        Cue(at_s=30, cores=8),
    ]
    short = Life(vm_id="h1", join_s=0, steps=((0, 4),), end_s=50)  # type: ignore[arg-type]
    assert script(short, speedup=10, notice_s=20)[-1] == Cue(at_s=0, evict_at_s=5)
