"""systemd's manager on a fake kernel: what it does to the cgroups of slices, and how it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from harvest_agent.cgroups.bus import NO_SUCH_UNIT, UNIT_EXISTS, BusError

from .fake_kernel import FakeKernel

Properties = list[tuple[str, tuple[str, object]]]
SIGNATURES = {"StartTransientUnit": "ssa(sv)a(sa(sv))", "SetUnitProperties": "sba(sv)", "StopUnit": "ss"}
# In which hierarchies of version 1 it has a slice with accounting; it knows no freezer.
OWN_V1 = ("name=systemd", "cpu", "cpuacct", "memory", "pids")


class FakeSystemd:
    """`refuse` is the D-Bus error of every call; `deaf` takes quotas and does not write them."""

    def __init__(self, kernel: FakeKernel, *, refuse: str = "", deaf: bool = False) -> None:
        self.kernel = kernel
        self.refuse = refuse
        self.deaf = deaf
        self.units: dict[str, dict[str, object]] = {}
        self.calls: list[str] = []

    def call(self, method: str, signature: str, body: tuple[object, ...]) -> None:
        self.calls.append(method)
        assert signature == SIGNATURES[method]
        if self.refuse:
            raise BusError(self.refuse, f"{method} was refused: no")
        unit = cast(str, body[0])
        if method == "StartTransientUnit":
            if unit in self.units:
                raise BusError(UNIT_EXISTS, f"Unit {unit} was already loaded")
            self._start(unit)
            self._set(unit, cast(Properties, body[2]))
            return
        if unit not in self.units:
            raise BusError(NO_SUCH_UNIT, f"Unit {unit} not loaded.")
        if method == "StopUnit":
            self._stop(unit)
        else:
            assert body[1] is True  # --runtime: gone at the next boot
            self._set(unit, cast(Properties, body[2]))

    def _dirs(self, unit: str) -> list[Path]:
        parts = unit.removesuffix(".slice").split("-")
        names = ["-".join(parts[: n + 1]) + ".slice" for n in range(len(parts))]
        own = self.kernel.roots if self.kernel.version == 2 else [r for r in self.kernel.roots if r.name in OWN_V1]
        return [root.joinpath(*names) for root in own]

    def _start(self, unit: str) -> None:
        for path in self._dirs(unit):
            for level in (path.parent, path):
                if level not in self.kernel.files:
                    self.kernel.files[level.parent].setdefault("cgroup.subtree_control", "")
                    self.kernel.files[level.parent]["cgroup.subtree_control"] = "cpu memory pids"
                    self.kernel.make(level)
        self.units[unit] = {}

    def _set(self, unit: str, properties: Properties) -> None:
        values = self.units[unit]
        values |= {name: value for name, (_, value) in properties}
        if self.deaf or "CPUQuotaPerSecUSec" not in values:
            return
        period = cast(int, values["CPUQuotaPeriodUSec"])
        quota = max(1000, cast(int, values["CPUQuotaPerSecUSec"]) * period // 1_000_000)
        for path in self._dirs(unit):
            files = self.kernel.files[path]
            if "cpu.max" in files:
                files["cpu.max"] = f"{quota} {period}"
            elif "cpu.cfs_quota_us" in files:
                files |= {"cpu.cfs_quota_us": str(quota), "cpu.cfs_period_us": str(period)}

    def _stop(self, unit: str) -> None:
        for path in self._dirs(unit):
            for below in [p for p in self.kernel.files if p.is_relative_to(path)]:
                del self.kernel.files[below]
        stem = unit.removesuffix(".slice")
        self.units = {u: v for u, v in self.units.items() if u != unit and not u.startswith(f"{stem}-")}
