"""A VM's cgroup where Docker's driver is systemd: a slice, whose quota is systemd's.

A container's parent must be a slice then, and what is written to a slice's quota past systemd is lost at its next
reload. So the slice is a transient unit and each quota a property of it, both set over the system bus; the kernel's
file is read back afterwards, since systemd answers before it has written. Both versions: systemd makes the slice's
directory in the hierarchies of version 1 that its properties need, Docker's runc in the others.

The freezer is written directly. systemd has none under version 1; under version 2 it writes `cgroup.freeze` for
FreezeUnit and ThawUnit alone, and a reload leaves it as it is.

Names nest at a '-': `fallow_c-h1.slice` stands in `fallow_c.slice`, so no part has one of its own (`unit_part`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from fallow.infra import clock
from harvest_agent.cgroups.bus import NO_SUCH_UNIT, UNIT_EXISTS, Bus, BusError
from harvest_agent.cgroups.kernel import CgroupError, Kernel, quota_us, why
from harvest_agent.cgroups.tree import HostTree
from harvest_agent.cgroups.vm import VmCgroup

_SUFFIX = ".slice"
_PATIENCE_S = 2.0  # for systemd to do what it said it would: some milliseconds, more while it reloads
_LOOK_PERIOD_S = 0.002
_SECOND_US = 1_000_000


def unit_part(name: str) -> str:
    """A name as a part of a slice's name; two names never become one."""
    return name.replace("_", r"\x5f").replace("-", "_")


def vm_of_slice(name: str) -> str:
    """The VM that a directory in the tree's is of; "" = of none."""
    part = name.removesuffix(_SUFFIX).partition("-")[2] if name.endswith(_SUFFIX) else ""
    return part.replace("_", "-").replace(r"\x5f", "_")


def start_slice(bus: Bus, unit: str, properties: list[tuple[str, tuple[str, object]]]) -> None:
    """One that is there already only gets the properties. Raises BusError."""
    fixed: list[tuple[str, tuple[str, object]]] = [
        ("Description", ("s", "Fallow: harvested VMs' containers")),
        ("DefaultDependencies", ("b", False)),  # else it waits for the start of the machine, and is stopped first
        ("CPUAccounting", ("b", True)),
        ("MemoryAccounting", ("b", True)),
        ("TasksAccounting", ("b", True)),
    ]
    try:
        bus.call("StartTransientUnit", "ssa(sv)a(sa(sv))", (unit, "replace", [*fixed, *properties], []))
    except BusError as e:
        if e.name != UNIT_EXISTS:
            raise
        if properties:
            bus.call("SetUnitProperties", "sba(sv)", (unit, True, properties))


def stop_slice(bus: Bus, unit: str) -> None:
    """With all units in it; one that is not there is no error. Raises BusError."""
    try:
        bus.call("StopUnit", "ss", (unit, "replace"))
    except BusError as e:
        if e.name != NO_SUCH_UNIT:
            raise


class SliceCgroup(VmCgroup):
    """One VM's slice. All methods raise CgroupError; a refused bus call is one that names D-Bus's error."""

    def __init__(
        self, tree: HostTree, vm_id: str, kernel: Kernel, bus: Bus, *, patience_s: float = _PATIENCE_S
    ) -> None:
        self._unit = f"{tree.parent.removesuffix(_SUFFIX)}-{unit_part(vm_id)}{_SUFFIX}"
        super().__init__(tree, self._unit, kernel)
        self._bus = bus
        self._patience_s = patience_s

    @property
    def docker_parent(self) -> str:
        return self._unit

    def create(self, real_cores: float) -> None:
        try:
            start_slice(self._bus, self._unit, _quota(real_cores))
            self._await_quota(real_cores)
            for path in self.dirs:  # version 1: what systemd makes no directory for
                for level in (path.parent, path):
                    if not self._kernel.exists(level):
                        self._kernel.make(level)
            self.freeze(False)
        except (OSError, CgroupError) as e:
            self._undo()
            raise CgroupError(f"cannot make the VM's slice {self._unit}: {why(e)}") from e

    def set_cores(self, real_cores: float) -> None:
        """Blocks for some milliseconds, for `patience_s` and a bus call's deadline at most."""
        self._bus.call("SetUnitProperties", "sba(sv)", (self._unit, True, _quota(real_cores)))
        self._await_quota(real_cores)

    def remove(self) -> None:
        """Stops the slice and removes what Docker made beside it. Raises while a process is inside."""
        if self.exists() and self.occupied():
            raise CgroupError(f"cannot remove the VM's slice {self._unit}: a process is inside")
        stop_slice(self._bus, self._unit)
        own = self._all.get("name=systemd", self._cpu)  # the directory that systemd has for every unit
        self._wait(lambda: not self._kernel.exists(own))
        super().remove()

    def _undo(self) -> None:
        try:
            self.remove()
        except CgroupError:
            return  # the reason why it could not be made counts

    def _await_quota(self, real_cores: float) -> None:
        quota, period = quota_us(real_cores)
        if self.version == 2:
            wanted = {self._cpu / "cpu.max": f"{quota} {period}"}
        else:
            wanted = {self._cpu / "cpu.cfs_period_us": str(period), self._cpu / "cpu.cfs_quota_us": str(quota)}
        for path, text in wanted.items():
            if not self._wait(lambda p=path, t=text: self._kept(p) == t):  # type: ignore[misc]
                raise CgroupError(f"{path}: systemd was told {text!r}, the kernel keeps {self._kept(path)!r}")

    def _kept(self, path: Path) -> str | None:
        """None = there is no such file (yet)."""
        return self._read(path).strip() if self._kernel.exists(path) else None

    def _wait(self, done: Callable[[], bool]) -> bool:
        deadline_mono_s = clock.mono_s() + self._patience_s
        while not done():
            if clock.mono_s() >= deadline_mono_s:
                return False
            time.sleep(_LOOK_PERIOD_S)
        return True


def _quota(real_cores: float) -> list[tuple[str, tuple[str, object]]]:
    """Whole microseconds in each second for every period that `quota_us` uses, so nothing is rounded on the way."""
    quota, period = quota_us(real_cores)
    return [("CPUQuotaPerSecUSec", ("t", quota * _SECOND_US // period)), ("CPUQuotaPeriodUSec", ("t", period))]
