"""The stories of the calls that a controller has in flight, and of the last that it had."""

from __future__ import annotations

from collections.abc import Mapping

from fallow.core.cluster.bookings import Call
from fallow.core.model import ActivationId, VmId
from fallow.core.why.story import StepKind, Story, StoryLog


class Stories:
    """Keeps the newest `kept`, and those of all `calls` (the owner's, read here only); what is older is forgotten."""

    def __init__(self, kept: int, calls: Mapping[ActivationId, Call]) -> None:
        self._kept = kept
        self._calls = calls
        self._logs: dict[ActivationId, StoryLog] = {}  # oldest first

    def keep(self, activation_id: ActivationId, log: StoryLog) -> None:
        self._logs[activation_id] = log
        if len(self._logs) > self._kept:
            del self._logs[next(iter(self._logs))]

    def _log(self, activation_id: ActivationId) -> StoryLog | None:
        call = self._calls.get(activation_id)
        return call.log if call else self._logs.get(activation_id)

    def late_result(self, activation_id: ActivationId, attempt: int, vm_id: VmId, now_s: float) -> None:
        """A result came of an attempt that is not wanted any more."""
        log = self._log(activation_id)
        if log is not None:
            log.add(now_s, StepKind.DISCARDED, vm_id, f"of attempt {attempt}")

    def used(self, activation_id: ActivationId, attempt: int, vm_id: VmId, cpu_s: float, now_s: float) -> None:
        """A VM told what an attempt has used so far (CPU in its cores x seconds)."""
        log = self._log(activation_id)
        if log is not None:
            log.used(now_s, attempt, vm_id, cpu_s)

    def tell(self, activation_id: ActivationId, now_s: float | None) -> Story | None:
        log = self._log(activation_id)
        return log.story(now_s) if log else None
