"""One VM's cgroup, versions 1 and 2: of the process backend, and of Docker with the cgroupfs driver."""

from __future__ import annotations

import errno
from pathlib import Path

from harvest_agent.cgroups.kernel import CgroupError, Kernel, quota_us, remove_below, undo, why
from harvest_agent.cgroups.tree import HostTree

_MB = 1 << 20
# A directory that was removed since it was listed, or opened.
_GONE = (errno.ENOENT, errno.ENODEV)
# Version 1: what is made before Docker comes. Of the other hierarchies Docker makes the directories, and leaves them.
USED_V1 = ("cpu", "cpuacct", "freezer", "memory", "pids")
# What a process holds and cannot give back: its own pages and those of shared memory, a tmpfs's too.
_RESIDENT = {1: ("total_rss", "total_shmem"), 2: ("anon", "shmem")}


class VmCgroup:
    """One VM's directory in every hierarchy. All methods raise CgroupError."""

    def __init__(self, tree: HostTree, vm_id: str, kernel: Kernel) -> None:
        self.version = tree.version
        self._kernel = kernel
        self._all = {controller: path / vm_id for controller, path in tree.dirs.items()}
        self._dirs = {c: path for c, path in self._all.items() if tree.version == 2 or c in USED_V1}
        self._cpu = self._dirs["cpu" if tree.version == 1 else ""]
        self._docker_parent = f"{tree.parent}/{vm_id}" if tree.driver else ""

    @property
    def dirs(self) -> list[Path]:
        """The directories used here, as this process sees them.

        What starts containers as processes is written to each one's `cgroup.procs`: all are needed, for quota, time
        used and freezer. Writing takes some 20 ms each.
        """
        return list(dict.fromkeys(self._dirs.values()))

    @property
    def docker_parent(self) -> str:
        """What Docker takes as a container's `--cgroup-parent`; "" where this is no cgroup for Docker."""
        return self._docker_parent

    def create(self, real_cores: float) -> None:
        """Made and capped before the first process can be inside; one that a dead agent left is taken over."""
        made: list[Path] = []
        try:
            for path in self.dirs:
                self._kernel.make(path)
                made.append(path)
            self.set_cores(real_cores)
            self.freeze(False)
        except (OSError, CgroupError) as e:
            undo(made, self._kernel)
            raise CgroupError(f"cannot make the VM's cgroup: {why(e)}") from e

    def exists(self) -> bool:
        return self._kernel.exists(self._cpu)

    def set_cores(self, real_cores: float) -> None:
        """Writes the quota and reads it back: an emulated VM must not claim cores that the kernel did not grant."""
        quota, period = quota_us(real_cores)
        if self.version == 2:
            self._write_back(self._cpu / "cpu.max", f"{quota} {period}")
        else:
            self._write_back(self._cpu / "cpu.cfs_period_us", str(period))
            self._write_back(self._cpu / "cpu.cfs_quota_us", str(quota))

    def cpu_ns(self) -> int | None:
        """CPU time used so far by all processes that were ever inside; None where nothing counts it."""
        if self.version == 2:
            stat = self._counts(self._cpu / "cpu.stat")
            return stat["usage_usec"] * 1000
        if "cpuacct" not in self._dirs:
            return None
        return int(self._read(self._dirs["cpuacct"] / "cpuacct.usage"))

    def memory_mb(self) -> float | None:
        """What the processes inside have resident; None where no memory controller counts it here."""
        path = self._dirs.get("memory" if self.version == 1 else "")
        if path is None or not self._kernel.exists(path / "memory.stat"):
            return None
        stat = self._counts(path / "memory.stat")
        return sum(stat.get(name, 0) for name in _RESIDENT[self.version]) / _MB

    def pids(self) -> list[int]:
        """The processes inside that this process can see, in directories below too.

        From another PID namespace (a container's) version 1 lists none and version 2 lists zeros: ask `occupied`.
        """
        return sorted({pid for path in self.dirs for pid in self._pids(path) if pid > 0})

    def occupied(self) -> bool:
        """Is a process inside, be it seen from here or not?"""
        if self.version == 2:
            events = self._cpu / "cgroup.events"
            return self._kernel.exists(events) and self._counts(events)["populated"] == 1
        tasks = self._dirs["pids"] / "pids.current" if "pids" in self._dirs else None
        if tasks is not None and self._kernel.exists(tasks):
            return int(self._read(tasks)) > 0
        return bool(self.pids())

    def _pids(self, path: Path) -> list[int]:
        try:
            found = [int(pid) for pid in self._kernel.read(path / "cgroup.procs").split()]
            for child in self._kernel.children(path):
                found += self._pids(child)
        except OSError as e:
            if e.errno in _GONE:
                return []
            raise CgroupError(why(e)) from e
        return found

    def freeze(self, frozen: bool) -> bool:
        """Stops (or releases) all processes inside, also ones they start; False where there is no freezer."""
        if self.version == 2:
            path, text = self._cpu / "cgroup.freeze", "1" if frozen else "0"
        elif "freezer" in self._dirs:
            path, text = self._dirs["freezer"] / "freezer.state", "FROZEN" if frozen else "THAWED"
        else:
            return False
        try:
            if not self._kernel.exists(path):
                return False  # version 2 before Linux 5.2
            self._kernel.write(path, text)
        except OSError as e:
            raise CgroupError(f"cannot freeze the VM: {why(e)}") from e
        return True

    def thaw_inside(self) -> None:
        """Version 1: releases the containers that were paused one by one, which is no release while the VM is frozen.
        Version 2 needs none before SIGKILL."""
        if self.version == 2 or "freezer" not in self._dirs:
            return
        for child in self._kernel.children(self._dirs["freezer"]):
            try:
                self._kernel.write(child / "freezer.state", "THAWED")
            except OSError as e:
                if e.errno not in _GONE:
                    raise CgroupError(f"cannot thaw a container: {why(e)}") from e

    def kill(self) -> bool:
        """Sends SIGKILL to all that is inside, seen from here or not, frozen or not; False where the kernel has no such
        file (before Linux 5.14, and under version 1 alone).

        A hybrid machine has it in version 2's hierarchy beside version 1's: runc enters a container there as well.
        What version 1's freezer holds dies when it is thawed, before it can run on.
        """
        path = self._all.get("")
        if path is None or not self._kernel.exists(path / "cgroup.kill"):
            return False
        try:
            self._kernel.write(path / "cgroup.kill", "1")
        except OSError as e:
            raise CgroupError(f"cannot kill what is inside the VM: {why(e)}") from e
        return True

    def remove(self) -> None:
        """Removes the directories, in every hierarchy. Raises while a process is inside."""
        for path in dict.fromkeys(self._all.values()):
            try:
                remove_below(path, self._kernel)
            except OSError as e:
                if e.errno not in _GONE:
                    raise CgroupError(f"cannot remove the VM's cgroup: {why(e)}") from e

    def _counts(self, path: Path) -> dict[str, int]:
        return {name: int(count) for name, count in (line.split() for line in self._read(path).splitlines())}

    def _read(self, path: Path) -> str:
        try:
            return self._kernel.read(path)
        except OSError as e:
            raise CgroupError(why(e)) from e

    def _write_back(self, path: Path, text: str) -> None:
        try:
            self._kernel.write(path, text)
        except OSError as e:
            raise CgroupError(f"cannot write {text!r}: {why(e)}") from e
        got = self._read(path).strip()
        if got != text:
            raise CgroupError(f"{path}: wrote {text!r}, the kernel keeps {got!r}")
