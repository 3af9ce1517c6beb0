"""What this controller counts and measures, and its one log line per activation."""

from __future__ import annotations

from typing import Any

from controller.ledger import InFlight
from fallow.core.model import RefusalReason, Status, VmKind
from fallow.infra import metrics
from fallow.infra.clock import unix_ms
from fallow.infra.log import get_logger
from fallow.infra.records import Record
from fallow.infra.store import FenceVerdict

_STATUS = {status: status.text.replace(" ", "_") for status in Status}
_log = get_logger("controller.activation")


class Count:
    """A counter that the status route reads and the metrics page shows."""

    def __init__(self, name: str, text: str) -> None:
        self._metric = metrics.counter(f"fallow_controller_{name}", text)
        self.value = 0

    def inc(self) -> None:
        self.value += 1
        self._metric.inc()


class Stats:
    """Counters of one controller. All are cheap enough for the path of every call."""

    def __init__(self) -> None:
        self.cold_starts = Count("cold_starts", "Activations that had to initialise a container.")
        self.prewarmed = Count("prewarmed_starts", "Of the cold starts, those in a container started ahead of time.")
        self.replaced = Count("replaced", "Activations started or sent out again elsewhere, each counted once.")
        self.fenced = Count("fenced", "Late results of attempts that were fenced off.")
        self.vms_lost = Count("vms_lost", "VMs declared lost.")
        self.refused_fences = Count("fences_refused", "Fences that a record or another controller stood against.")
        self.by_status = dict.fromkeys(_STATUS.values(), 0)
        self.by_refusal = {reason.name.lower(): 0 for reason in RefusalReason}
        self.placements = {f"{length}_{kind.value}": 0 for length in ("short", "long") for kind in VmKind}
        self.requests = 0
        self._requests = metrics.counter("fallow_controller_requests", "API answers, by HTTP status.", ("status",))
        self._request_children: dict[int, Any] = {}
        ended = metrics.counter("fallow_controller_activations", "Activations ended, by status.", ("status",))
        self._ended = {status: ended.labels(text) for status, text in _STATUS.items()}
        placed = metrics.counter("fallow_controller_placements", "Dispatches, by length and kind.", ("length", "kind"))
        self._placed = {
            (long, kind): placed.labels("long" if long else "short", kind.value)
            for long in (False, True)
            for kind in VmKind
        }
        self._refused = metrics.counter("fallow_controller_refused", "Calls never placed, by reason.", ("reason",))
        self._dispatch_s = metrics.histogram(
            "fallow_controller_dispatch_seconds", "From the acceptance of a call to its first dispatch."
        )
        self._run_s = metrics.histogram("fallow_controller_run_seconds", "Run time of activations, init excluded.")

    def answered(self, http_status: int) -> None:
        """An API request was answered."""
        self.requests += 1
        child = self._request_children.get(http_status)
        if child is None:
            child = self._request_children[http_status] = self._requests.labels(str(http_status))
        child.inc()

    def dispatched(self, call: InFlight, kind: VmKind, long: bool, now_mono_s: float) -> None:
        self.placements[f"{'long' if long else 'short'}_{kind.value}"] += 1
        self._placed[long, kind].inc()
        if call.starts == 1:
            self._dispatch_s.observe(now_mono_s - call.accepted_mono_s)
        elif call.starts == 2:
            self.replaced.inc()

    def fence_raised(self, verdict: FenceVerdict) -> None:
        if verdict is not FenceVerdict.RAISED:
            self.refused_fences.inc()

    def refused(self, reason: RefusalReason) -> None:
        self.by_refusal[reason.name.lower()] += 1
        self._refused.labels(reason.name.lower()).inc()

    def ended(self, call: InFlight, record: Record) -> None:
        """An activation ended as this record says: counts it and writes its log line."""
        status = Status(record.status)
        self.by_status[_STATUS[status]] += 1
        self._ended[status].inc()
        self._run_s.observe(record.run_ms / 1000)
        if record.init_ms is not None:
            self.cold_starts.inc()
            if record.prewarmed:
                self.prewarmed.inc()
        _log.info(
            "activation",
            activation=record.activation_id,
            transaction=record.transaction_id,
            action=f"{record.namespace}/{record.name}",
            version=record.version,
            vm=record.vm_id,
            status=_STATUS[status],
            attempt=record.attempt,
            starts=call.starts,
            blocking=call.activation.blocking,
            wait_ms=record.wait_ms,
            init_ms=record.init_ms,
            run_ms=round(record.run_ms, 3),
            total_ms=unix_ms() - record.accepted_unix_ms,
        )
