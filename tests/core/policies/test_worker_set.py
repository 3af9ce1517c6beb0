"""The size of a worker set over time, and how long a VM counts as warm."""

from __future__ import annotations

from fallow.core.model import VmId
from fallow.core.policies.worker_set import SHRINK_AFTER_S, Warmth, WorkerSet


def test_worker_set_grows_at_once_and_shrinks_every_30_s() -> None:
    workers = WorkerSet()
    sizes = []
    for now_s, next_size in [(0, 5), (1, 9), (2, 7), (3, 4), (31.9, 3), (32, 3), (33, 8), (61, 2), (62, 2)]:
        workers.update(next_size, home=VmId("h1"), computed_from=workers.version, now_s=float(now_s))
        sizes.append(workers.size)
    assert sizes == [5, 9, 7, 7, 7, 3, 8, 8, 2]
    assert SHRINK_AFTER_S == 30.0


def test_worker_set_takes_next_at_a_new_home_and_drops_old_updates() -> None:
    workers = WorkerSet()
    workers.update(9, home=VmId("h1"), computed_from=0, now_s=0.0)
    workers.update(8, home=VmId("h1"), computed_from=1, now_s=0.0)
    assert not workers.update(20, home=VmId("h1"), computed_from=1, now_s=1.0)
    assert (workers.size, workers.home) == (8, "h1")
    assert workers.update(2, home=VmId("h2"), computed_from=2, now_s=1.0)
    assert (workers.size, workers.home) == (2, "h2")


def test_ten_minutes_after_its_last_call_a_vm_counts_as_cold() -> None:
    warmth = Warmth()
    warmth.placed(VmId("h1"), 0.0)
    warmth.placed(VmId("h2"), 1.0)
    warmth.placed(VmId("h1"), 2.0)
    assert {VmId("h1"), VmId("h2")} <= set(warmth.vms(601.0))
    assert set(warmth.vms(602.0)) == {"h1"}
    assert not set(warmth.vms(602.1))
