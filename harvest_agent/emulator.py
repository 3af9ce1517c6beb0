"""An emulated VM: what it is now, and the hand that resizes it, announces its eviction and takes that back.

Cores are the VM's own; `core_scale` real ones stand behind each. Times are real seconds: whoever compresses time has
divided before.
"""

from __future__ import annotations

import asyncio
import math

from fallow.infra import clock
from fallow.infra.log import get_logger
from fallow.infra.settings import AgentSettings
from fallow.infra.vmstate import VmState
from harvest_agent.cgroups import CgroupError, VmCgroup
from harvest_agent.events import EventLog, Happened
from harvest_agent.usage import Usage

TRACE = "trace"
OPERATOR = "operator"
# From an operator's request to the VM's silence, however short its notice: the answer goes to the invoker, and through
# it to the controller, before both fall silent. A trace's eviction is nobody's request.
ANSWER_S = 0.3

_log = get_logger("harvest_agent.emulator")


class EmulatedVm:
    """The only writer of the VM's state. Single-threaded: all methods belong to one event loop."""

    def __init__(
        self, settings: AgentSettings, cgroup: VmCgroup | None, events: EventLog, *, cores: float, cpu_note: str = ""
    ) -> None:
        """`cgroup` is capped at `cores` already; None = CPU cannot be enforced, for the reason `cpu_note`."""
        self._settings = settings
        self._cgroup = cgroup
        self._events = events
        self._cores = cores
        self._cpu_note = cpu_note
        self._usage = Usage(cpu_cores=0.0, memory_mb=0.0)
        self._deadline_mono_s: float | None = None
        self._announced_by = ""
        self._answered_mono_s = 0.0  # no silence before this
        self._change = asyncio.Event()
        self.closed = False

    @property
    def cores(self) -> float:
        return self._cores

    @property
    def notice_left_s(self) -> float | None:
        """Time to the announced eviction, at least 0; None = none is announced."""
        if self._deadline_mono_s is None:
            return None
        return max(0.0, self._deadline_mono_s - clock.mono_s())

    def state(self) -> VmState:
        s = self._settings
        return VmState(
            vm_id=s.vm_id,
            kind=s.kind,
            cores=self._cores,
            memory_mb=s.memory_mb,
            cpu_used=self._usage.cpu_cores / s.core_scale,
            memory_used_mb=self._usage.memory_mb,
            notice_left_s=self.notice_left_s,
            emulated=True,
            cpu_enforced=not self._cpu_note,
            cpu_note=self._cpu_note,
            core_scale=s.core_scale,
        )

    def next_change(self) -> asyncio.Event:
        """Set at the next change. Taken before `state()` is read, no change falls between."""
        return self._change

    def resize(self, cores: float, *, by: str) -> None:
        """Raises ValueError for anything but a positive number.

        Where the kernel refuses the quota, the VM still says the cores (they steer placement) and that CPU is not
        enforced.
        """
        if not (math.isfinite(cores) and cores > 0):
            raise ValueError(f"cores is {cores!r}; it must be above 0 (an eviction is another request)")
        if cores == self._cores:
            return
        grows = cores > self._cores
        _log.info("VM grows" if grows else "VM shrinks", vm=self._settings.vm_id, cores=cores, was=self._cores, by=by)
        self._cores = cores
        if self._cgroup is not None:
            try:
                self._cgroup.set_cores(cores * self._settings.core_scale)
                self._cpu_note = ""
            except CgroupError as e:
                self._cpu_note = str(e)
                _log.error("quota refused", vm=self._settings.vm_id, cores=cores, error=str(e))
        self._events.write(Happened.CORES, cores=cores, by=by)
        self._changed()

    def evict(self, notice_s: float, *, by: str) -> None:
        """Announces the eviction for `notice_s` from now, or moves it there. Raises ValueError below 0.

        An operator's takes place ANSWER_S later at the earliest.

        A trace never puts off what is announced already: its deadline counts only if it is the earlier one.
        """
        if not (math.isfinite(notice_s) and notice_s >= 0):
            raise ValueError(f"notice_s is {notice_s!r}; it must be at least 0")
        left_s = self.notice_left_s
        if by == TRACE and left_s is not None and left_s <= notice_s:
            return
        self._deadline_mono_s = clock.mono_s() + notice_s
        self._announced_by = by
        if by == OPERATOR:
            self._answered_mono_s = clock.mono_s() + ANSWER_S
        _log.info("VM is to be evicted", vm=self._settings.vm_id, in_s=round(notice_s, 1), by=by)
        self._events.write(Happened.NOTICE, cores=self._cores, notice_s=notice_s, by=by)
        self._changed()

    def withdraw(self, *, by: str) -> bool:
        """Takes an announced eviction back; False = none was announced."""
        if self._deadline_mono_s is None:
            return False
        self._deadline_mono_s = None
        _log.info("VM is not evicted after all", vm=self._settings.vm_id, by=by)
        self._events.write(Happened.WITHDRAWN, cores=self._cores, by=by)
        self._changed()
        return True

    def measured(self, usage: Usage) -> None:
        self._usage = usage
        self._changed()

    async def deadline(self) -> str:
        """Returns at the eviction, wherever its deadline moves meanwhile; answers who announced it."""
        while True:
            change, left_s = self._change, self.notice_left_s
            if left_s is not None:
                left_s = max(left_s, self._answered_mono_s - clock.mono_s())
                if left_s <= 0:
                    return self._announced_by
            try:
                async with asyncio.timeout(left_s):
                    await change.wait()
            except TimeoutError:
                continue

    def close(self) -> None:
        """Ends the streams of changes."""
        self.closed = True
        self._changed()

    def _changed(self) -> None:
        self._change.set()
        self._change = asyncio.Event()
