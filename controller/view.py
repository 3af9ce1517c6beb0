"""The cluster as an operator sees it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from controller.errands import Errands
from controller.ledger import Ledger
from controller.recorder import Recorder
from controller.stats import Stats
from fallow.core.cluster.bookings import VmStatus
from fallow.core.cluster.state import ClusterState
from fallow.core.lifecycle import VmState
from fallow.core.model import VmKind
from fallow.infra import metrics
from fallow.infra.clock import mono_s

_STATES = [state for state in VmState if state is not VmState.GONE]  # a VM that is gone is not in the table


class ClusterInfo:
    """Reads the state of one controller; changes nothing."""

    def __init__(
        self,
        *,
        controller_id: str,
        cluster: ClusterState,
        ledger: Ledger,
        recorder: Recorder,
        errands: Errands,
        stats: Stats,
        policy: str,
        strategy: str,
    ) -> None:
        self._controller_id = controller_id
        self._cluster = cluster
        self._ledger = ledger
        self._recorder = recorder
        self._errands = errands
        self._stats = stats
        self._policy = policy
        self._strategy = strategy
        self.controllers = 1  # live ones, kept up to date by the leases
        self.link_url = ""  # where invokers dial, once the listener stands
        self.started_mono_s = mono_s()
        self._show()

    def _show(self) -> None:
        for name, text, read in (
            ("waiting_calls", "Calls in the waiting room.", lambda: self._cluster.waiting),
            ("in_flight_calls", "Calls that are not over.", lambda: self._cluster.in_flight),
            ("unrecorded_outcomes", "Answered calls whose records are not confirmed.", lambda: self._ledger.unrecorded),
        ):
            metrics.watched(f"fallow_controller_{name}", text, (), partial(_alone, read))
        metrics.watched("fallow_controller_vms", "VMs, by kind and state.", ("kind", "state"), self._vms_by_state)
        metrics.watched(
            "fallow_controller_vm_cores", "Cores of the VMs that are not lost, by kind.", ("kind",), self._cores_by_kind
        )

    def _vms_by_state(self) -> dict[tuple[str, ...], float]:
        counts: dict[tuple[str, ...], float] = {(kind.value, state.value): 0 for kind in VmKind for state in _STATES}
        for status in self.statuses():
            counts[status.info.kind.value, status.state.value] += 1
        return counts

    def _cores_by_kind(self) -> dict[tuple[str, ...], float]:
        cores: dict[tuple[str, ...], float] = {(kind.value,): 0.0 for kind in VmKind}
        for status in self.statuses():
            if status.state is not VmState.LOST:
                cores[status.info.kind.value,] += status.report.capacity.cpu_cores
        return cores

    def statuses(self) -> list[VmStatus]:
        return self._cluster.vms(mono_s())

    def vms(self) -> dict[str, Any]:
        return {"vms": [_vm(status) for status in self.statuses()], "controllers": self.controllers}

    def invokers(self) -> dict[str, str]:
        """OpenWhisk's form: name to "up" or "down"."""
        return {status.info.id: "up" if status.usable else "down" for status in self.statuses()}

    def status(self) -> dict[str, Any]:
        """Counters since the start of this controller, and what is going on now."""
        stats = self._stats
        return {
            "controller": self._controller_id,
            "controllers": self.controllers,
            "link_url": self.link_url,
            "policy": self._policy,
            "strategy": self._strategy,
            "uptime_s": round(mono_s() - self.started_mono_s, 3),
            "requests": stats.requests,
            "activations": dict(stats.by_status),
            "refused": dict(stats.by_refusal),
            "placements": {k: n for k, n in stats.placements.items() if n or not k.endswith("_spot")},
            "replaced": stats.replaced.value,
            "fenced": stats.fenced.value,
            "vms_lost": stats.vms_lost.value,
            "cold_starts": stats.cold_starts.value,
            "prewarmed": stats.prewarmed.value,
            "waiting": self._cluster.waiting,
            "in_flight": self._cluster.in_flight,
            "unrecorded": self._ledger.unrecorded,
            "held_calls": len(self._ledger),
            "held_bytes": self._ledger.bytes_held,
            "records_to_write": len(self._recorder),
            "errands": len(self._errands),
            "decisions": dict(self._cluster.counters()),
        }


def _alone(read: Callable[[], int]) -> dict[tuple[str, ...], float]:
    """A metric without labels."""
    return {(): read()}


def _vm(status: VmStatus) -> dict[str, Any]:
    info, report = status.info, status.report
    return {
        "id": info.id,
        "kind": info.kind.value,
        "state": status.state.value,
        "usable": status.usable,
        "connected": status.connected,
        "cores": report.capacity.cpu_cores,
        "memory_mb": report.capacity.memory_mb,
        "cpu_used": report.used.cpu_cores,
        "memory_used_mb": report.used.memory_mb,
        "running": report.running,
        "queued": report.queued,
        "warm": report.warm,
        "in_flight": status.in_flight,
        "notice_left_s": status.notice_left_s,
        "healthy": report.healthy,
        "health_note": report.health_note,
        "speed": info.speed,
        "price": info.price,
        "runtimes": list(info.runtimes),
        "emulated": info.emulated,
        "cpu_enforced": info.cpu_enforced,
        "cpu_note": info.cpu_note,
        "heard_ago_s": round(status.heard_ago_s, 3),
    }
