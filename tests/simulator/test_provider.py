"""The monitor of the platform in virtual time: lost cores are ordered anew, and joined by VMs that boot."""

from __future__ import annotations

from dataclasses import replace

from fallow.core.model import VmId, VmKind
from fallow.traces.vms import Life
from simulator import workloads
from simulator.model import Monitoring, Scenario, SimVm
from simulator.results import summarise
from simulator.world import World


def scenario(monitoring: Monitoring | None) -> Scenario:
    """Four VMs of 6 cores, of which two are evicted after 100 s."""
    vms = [
        SimVm(
            kind=VmKind.HARVEST,
            memory_mb=16384.0,
            life=Life(vm_id=VmId(f"h{n}"), join_s=0.0, steps=((0.0, 6.0),), end_s=100.0 if n < 3 else None),
        )
        for n in range(1, 5)
    ]
    workload = workloads.mix(rate_per_s=2.0, window_s=600.0, seed=1)
    return Scenario(workload=workload, vms=vms, monitoring=monitoring, seed=4)


def test_what_is_evicted_is_ordered_anew_after_a_boot() -> None:
    monitored = scenario(Monitoring(target_cores=24.0, period_s=30.0, boot_s=45.0))
    result = World(monitored).run()
    assert result.ordered
    first = result.ordered[0]
    assert first.life.vm_id == "o1"
    # The notice goes out 30 s before the end; the next period orders, and 45 s later the VM is there.
    assert 70.0 + 45.0 <= first.life.join_s <= 70.0 + 30.0 + 45.0 + 2.0
    without = World(scenario(None)).run()
    assert without.ordered == []
    assert result.offered_core_s > without.offered_core_s
    assert result.unfinished == without.unfinished == 0
    assert summarise(monitored, result)["ordered_vms"] == len(result.ordered)


def test_nothing_is_ordered_while_there_is_enough() -> None:
    result = World(scenario(Monitoring(target_cores=12.0))).run()
    assert result.ordered == []


def test_orders_repeat_with_the_seed_and_not_with_the_policy() -> None:
    monitored = scenario(Monitoring(target_cores=24.0))
    first, again = (World(monitored).run() for _ in range(2))
    other = World(replace(monitored, policy="p2c")).run()
    assert first.ordered == again.ordered
    assert first.digest == again.digest
    assert [vm.life.steps for vm in other.ordered[:2]] == [vm.life.steps for vm in first.ordered[:2]]
