"""The cluster as an operator sees it."""

from __future__ import annotations

from typing import Any

from controller.errands import Errands
from controller.ledger import Ledger
from controller.recorder import Recorder
from controller.stats import Stats
from fallow.core.cluster import ClusterState
from fallow.core.vm_table import VmStatus
from fallow.infra.clock import mono_s


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
        self.started_mono_s = mono_s()

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
        "emulated": info.emulated,
        "cpu_enforced": info.cpu_enforced,
        "cpu_note": info.cpu_note,
        "heard_ago_s": round(status.heard_ago_s, 3),
    }
