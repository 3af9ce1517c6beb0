"""What this controller counts and measures, and its one log line per activation."""

from __future__ import annotations

from controller.ledger import InFlight
from fallow.core.model import RefusalReason, Status, VmKind
from fallow.infra import metrics
from fallow.infra.clock import unix_ms
from fallow.infra.log import LineLog
from fallow.infra.records import Record
from fallow.infra.store import FenceVerdict

_STATUS = {int(status): status.text.replace(" ", "_") for status in Status}
_LENGTH = {False: "short", True: "long"}
_log = LineLog("controller.activation")


class Count:
    """A counter that the status route reads and the metrics page shows."""

    def __init__(self, name: str, text: str) -> None:
        self.value = 0
        metrics.counted(f"fallow_controller_{name}", text, (), lambda: {(): self.value})

    def inc(self) -> None:
        self.value += 1


class Stats:
    """Counters of one controller: plain numbers, since every call passes here; metrics read them when asked."""

    def __init__(self) -> None:
        self.cold_starts = Count("cold_starts", "Activations that had to initialise a container.")
        self.prewarmed = Count("prewarmed_starts", "Of the cold starts, those in a container started ahead of time.")
        self.replaced = Count("replaced", "Activations started or sent out again elsewhere, each counted once.")
        self.fenced = Count("fenced", "Late results of attempts that were fenced off.")
        self.vms_lost = Count("vms_lost", "VMs declared lost.")
        self.refused_fences = Count("fences_refused", "Fences that a record or another controller stood against.")
        self.by_status = dict.fromkeys(_STATUS.values(), 0)
        self.by_refusal = {reason.name.lower(): 0 for reason in RefusalReason}
        self._by_http_status: dict[int, int] = {}
        self._placed = {(long, kind): 0 for long in (False, True) for kind in VmKind}
        self._dispatch_s = metrics.histogram(
            "fallow_controller_dispatch_seconds", "From the acceptance of a call to its first dispatch."
        )
        self._run_s = metrics.histogram("fallow_controller_run_seconds", "Run time of activations, init excluded.")
        self._show()

    def _show(self) -> None:
        metrics.counted(
            "fallow_controller_requests",
            "API answers, by HTTP status.",
            ("status",),
            lambda: {(str(status),): n for status, n in self._by_http_status.items()},
        )
        metrics.counted(
            "fallow_controller_activations",
            "Activations ended, by status.",
            ("status",),
            lambda: {(status,): n for status, n in self.by_status.items()},
        )
        metrics.counted(
            "fallow_controller_refused",
            "Calls never placed, by reason.",
            ("reason",),
            lambda: {(reason,): n for reason, n in self.by_refusal.items()},
        )
        metrics.counted(
            "fallow_controller_placements",
            "Dispatches, by length and kind.",
            ("length", "kind"),
            lambda: {(_LENGTH[long], kind.value): n for (long, kind), n in self._placed.items()},
        )

    @property
    def requests(self) -> int:
        """API answers."""
        return sum(self._by_http_status.values())

    @property
    def placements(self) -> dict[str, int]:
        """Dispatches by "<length>_<kind>"."""
        return {f"{_LENGTH[long]}_{kind.value}": n for (long, kind), n in self._placed.items()}

    def answered(self, http_status: int) -> None:
        """An API request was answered."""
        self._by_http_status[http_status] = self._by_http_status.get(http_status, 0) + 1

    def dispatched(self, call: InFlight, kind: VmKind, long: bool, now_mono_s: float) -> None:
        self._placed[long, kind] += 1
        if call.starts == 1:
            self._dispatch_s.observe(now_mono_s - call.accepted_mono_s)
        elif call.starts == 2:
            self.replaced.inc()

    def fence_raised(self, verdict: FenceVerdict) -> None:
        if verdict is not FenceVerdict.RAISED:
            self.refused_fences.inc()

    def refused(self, call: InFlight, reason: RefusalReason) -> None:
        """A call was not placed: counts it and writes its log line."""
        self.count_refusal(reason)
        action = call.activation.action
        self.turned_away(
            f"{action.namespace}/{action.name}",
            reason.value,
            activation_id=call.activation.id,
            transaction_id=call.transaction_id,
            traceparent=call.traceparent,
            total_ms=unix_ms() - call.accepted_unix_ms,
        )

    def count_refusal(self, reason: RefusalReason) -> None:
        self.by_refusal[reason.name.lower()] += 1

    def turned_away(
        self,
        action: str,
        reason: str,
        *,
        transaction_id: str,
        traceparent: str,
        activation_id: str = "",
        total_ms: int | None = None,
    ) -> None:
        """The log line of a call that was answered 429 or 503; without an activation id it was not even taken up."""
        fields = {
            "activation": activation_id,
            "transaction": transaction_id,
            "action": action,
            "status": "refused",
            "reason": reason,
            "total_ms": total_ms,
        }
        _log.info("activation", {**fields, "traceparent": traceparent} if traceparent else fields)

    def ended(self, call: InFlight, record: Record) -> None:
        """An activation ended as this record says: counts it and writes its log line."""
        status = _STATUS[record.status]
        self.by_status[status] += 1
        if record.run_ms is not None:
            self._run_s.observe(record.run_ms / 1000)
        if record.init_ms is not None:
            self.cold_starts.inc()
            if record.prewarmed:
                self.prewarmed.inc()
        fields = {
            "activation": record.activation_id,
            "transaction": record.transaction_id,
            "action": f"{record.namespace}/{record.name}",
            "version": record.version,
            "vm": record.vm_id,
            "status": status,
            "attempt": record.attempt,
            "starts": call.starts,
            "blocking": call.activation.blocking,
            "wait_ms": record.wait_ms,
            "init_ms": record.init_ms,
            "run_ms": None if record.run_ms is None else round(record.run_ms, 3),
            "total_ms": unix_ms() - record.accepted_unix_ms,
        }
        if call.traceparent:
            fields["traceparent"] = call.traceparent
        _log.info("activation", fields)
