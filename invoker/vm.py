"""This invoker's VM as its controllers are told of it: capacity, use, notice, health."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fallow.core.model import Resources
from fallow.infra.messages import Report
from fallow.infra.vmstate import VmState

SAMPLES = 5  # use is the maximum of the last five one-second samples
NOTICE_TOLERANCE_S = 0.5  # a deadline that moved by less has not moved: the agent's countdown is rounded
CONTROLLER_ACTIVE_S = 10.0
MEMORY_SHARE = 0.6  # of this machine, for a VM without an agent


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolView:
    """What a report says of the pool. `reserved_mb` is what running and starting containers reserve."""

    running: int
    queued: int
    full: bool
    warm: int
    reserved_mb: float


@dataclass(slots=True)
class Vm:
    """Follows the states of the VM. All times are of the monotonic clock."""

    now_mono_s: Callable[[], float]
    state: VmState
    troubles: dict[str, str] = field(default_factory=dict)  # source of trouble -> what is wrong, in words
    _deadline_mono_s: float | None = None
    _samples: deque[Resources] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    _last_run_mono_s: dict[str, float] = field(default_factory=dict)

    @property
    def healthy(self) -> bool:
        return not self.troubles

    @property
    def capacity(self) -> Resources:
        return Resources(cpu_cores=self.state.cores, memory_mb=self.state.memory_mb)

    def sample(self) -> Resources:
        """Keep and return what the present state says is in use."""
        used = Resources(cpu_cores=self.state.cpu_used, memory_mb=self.state.memory_used_mb)
        self._samples.append(used)
        return used

    def set_notice(self, left_s: float | None) -> bool:
        """Take the agent's countdown. True = announced, moved or withdrawn."""
        if left_s is None:
            changed, self._deadline_mono_s = self._deadline_mono_s is not None, None
            return changed
        deadline = self.now_mono_s() + left_s
        old = self._deadline_mono_s
        if old is not None and abs(deadline - old) < NOTICE_TOLERANCE_S:
            return False
        self._deadline_mono_s = deadline
        return True

    @property
    def notice_left_s(self) -> float | None:
        if self._deadline_mono_s is None:
            return None
        return max(0.0, self._deadline_mono_s - self.now_mono_s())

    def set_trouble(self, source: str, text: str) -> bool:
        """`text` "" = that source is well again. True = it changed."""
        old = self.troubles.get(source, "")
        if text:
            self.troubles[source] = text
        else:
            self.troubles.pop(source, None)
        return old != text

    def ran_for(self, controller_id: str) -> None:
        """A controller sent a call."""
        self._last_run_mono_s[controller_id] = self.now_mono_s()

    def report(self, pool: PoolView, *, seen: int, used_by: Sequence[tuple[str, int, float]] = ()) -> Report:
        """The report to one controller, whose last call here had number `seen`."""
        now = self.now_mono_s()
        self._last_run_mono_s = {c: t for c, t in self._last_run_mono_s.items() if now - t < CONTROLLER_ACTIVE_S}
        cpu = max((s.cpu_cores for s in self._samples), default=0.0)
        memory = max((s.memory_mb for s in self._samples), default=0.0)
        return Report(
            cores=self.state.cores,
            memory_mb=self.state.memory_mb,
            cpu_used=cpu,
            memory_used_mb=max(memory, pool.reserved_mb),
            running=pool.running,
            queued=pool.queued,
            full=pool.full,
            healthy=self.healthy,
            health_note="; ".join(self.troubles.values()),
            notice_left_s=self.notice_left_s,
            seen=seen,
            controllers=max(1, len(self._last_run_mono_s)),
            warm=pool.warm,
            used_by=tuple(used_by),
        )


def machine_state(vm_id: str, kind: str) -> VmState:
    """A VM that is this whole machine: the cores this process may use, a share of its memory, no use measured yet."""
    total_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
    return VmState(
        vm_id=vm_id,
        kind=kind,
        cores=float(len(os.sched_getaffinity(0))),
        memory_mb=round(total_mb * MEMORY_SHARE),
        cpu_used=0.0,
        memory_used_mb=0.0,
        cpu_note="this VM has no agent",
    )
