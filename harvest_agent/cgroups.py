"""The cgroup of a VM: a CPU quota, a CPU counter, a freezer. Versions 1 and 2, found by looking at what is mounted.

A machine's VMs live under one *host tree* (a directory in each hierarchy used), made by the fleet or by an agent that
stands alone. Each VM is a directory in it; what starts its containers is written to the VM's `cgroup.procs` before it
starts any. The host tree itself never has a quota, so no VM's quota can exceed its parent's.

The memory hierarchy of version 1 is left alone: moving processes there would take them out of the memory limit that
this whole program may itself run under.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harvest_agent.cgroup_find import Mount, relative_path

# The kernel wants 1 ms of quota at least in a period of 1 ms to 1 s. 50 ms settles twice as fast as the usual 100 ms
# and still gives a tenth of a core the 5 ms slice that a CPU takes at a time.
_PERIODS_US = (50_000, 100_000, 1_000_000)
_QUOTA_FLOORS_US = (5_000, 1_000, 1_000)


class CgroupError(Exception):
    """A cgroup could not be made, written or removed; the text names the file."""


class Kernel(Protocol):
    """What is asked of the cgroup file system; a seam so that both versions are tested on a machine that has one."""

    def make(self, path: Path) -> None: ...
    def remove(self, path: Path) -> None: ...
    def read(self, path: Path) -> str: ...
    def write(self, path: Path, text: str) -> None: ...
    def exists(self, path: Path) -> bool: ...
    def children(self, path: Path) -> list[Path]: ...


class LinuxKernel:
    """The real one. All methods raise OSError."""

    def make(self, path: Path) -> None:
        path.mkdir(exist_ok=True)

    def remove(self, path: Path) -> None:
        path.rmdir()

    def read(self, path: Path) -> str:
        return path.read_text(encoding="ascii")

    def write(self, path: Path, text: str) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode("ascii"))
        finally:
            os.close(fd)

    def exists(self, path: Path) -> bool:
        return path.exists()

    def children(self, path: Path) -> list[Path]:
        return [p for p in path.iterdir() if p.is_dir()]


def quota_us(real_cores: float) -> tuple[int, int]:
    """(quota, period) in microseconds, both versions. Never less than the kernel's floor of 1 ms in 1 s."""
    for period, floor in zip(_PERIODS_US, _QUOTA_FLOORS_US, strict=True):
        quota = round(real_cores * period)
        if quota >= floor:
            return quota, period
    return _QUOTA_FLOORS_US[-1], _PERIODS_US[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTree:
    """Where the VMs' cgroups are made: one directory per controller used ("" is version 2's only one)."""

    version: int
    dirs: Mapping[str, Path]

    def encode(self) -> str:
        """The form in which the fleet hands it to its agents."""
        return f"v{self.version}|" + "|".join(f"{name}={path}" for name, path in self.dirs.items())

    @classmethod
    def decode(cls, text: str) -> HostTree:
        """Raises ValueError."""
        head, *rest = text.split("|")
        if head not in ("v1", "v2") or not rest or any("=" not in part for part in rest):
            raise ValueError(f"{text!r} is not a cgroup tree")
        pairs = (part.split("=", 1) for part in rest)
        return cls(version=int(head[1]), dirs={name: Path(path) for name, path in pairs})

    @property
    def paths(self) -> list[Path]:
        """The directories, each once: version 1 may mount cpu and cpuacct together."""
        return list(dict.fromkeys(self.dirs.values()))


def make_host_tree(
    mounts: list[Mount], own: Mapping[str, str], name: str, kernel: Kernel, *, in_scope: bool = False
) -> HostTree:
    """Makes the directory `name` wherever it may: version 1's cpu hierarchy first, else version 2.

    `own` is this process's cgroup per controller; `in_scope` says that version 2's one was made for this process and
    its children alone. Raises CgroupError with the reason of each refusal.
    """
    refusals = []
    v1 = {m.controller: m for m in mounts if m.version == 1}
    if "cpu" in v1:
        try:
            return _make_v1(v1, own, name, kernel)
        except OSError as e:
            refusals.append(_why(e))
    for mount in (m for m in mounts if m.version == 2):
        own_path = relative_path(mount, own.get("", "/"))
        for base in [own_path] if in_scope else dict.fromkeys((mount.path, own_path)):
            try:
                if in_scope:
                    _step_down(base, kernel)
                return _make_v2(base, name, kernel)
            except OSError as e:
                refusals.append(_why(e))
    raise CgroupError("; ".join(dict.fromkeys(refusals)) or "no cgroup file system with a cpu controller is mounted")


def _make_v1(v1: Mapping[str, Mount], own: Mapping[str, str], name: str, kernel: Kernel) -> HostTree:
    dirs = {c: relative_path(v1[c], own.get(c, "/")) / name for c in ("cpu", "cpuacct", "freezer") if c in v1}
    made: list[Path] = []
    try:
        for path in dict.fromkeys(dirs.values()):
            kernel.make(path)
            made.append(path)
        quota = dirs["cpu"] / "cpu.cfs_quota_us"
        kernel.write(quota, "-1")  # shows now, and not at the first resize, that the quota may be written
    except OSError:
        _undo(made, kernel)
        raise
    return HostTree(version=1, dirs=dirs)


def _make_v2(base: Path, name: str, kernel: Kernel) -> HostTree:
    _enable_cpu(base, kernel)
    path = base / name
    kernel.make(path)
    try:
        _enable_cpu(path, kernel)
    except OSError:
        _undo([path], kernel)
        raise
    return HostTree(version=2, dirs={"": path})


def _step_down(base: Path, kernel: Kernel) -> None:
    """Moves the processes of a scope of our own into a leaf: version 2 passes controllers on from empty ones only."""
    leaf = base / "host"
    kernel.make(leaf)
    for pid in kernel.read(base / "cgroup.procs").split():
        kernel.write(leaf / "cgroup.procs", pid)


def _enable_cpu(path: Path, kernel: Kernel) -> None:
    """A controller works in a directory only if every level above has passed it on."""
    if "cpu" not in kernel.read(path / "cgroup.controllers").split():
        raise OSError(errno.ENOTSUP, "the cpu controller is not available here", str(path / "cgroup.controllers"))
    control = path / "cgroup.subtree_control"
    if "cpu" not in kernel.read(control).split():
        kernel.write(control, "+cpu")


def remove_if_empty(tree: HostTree, kernel: Kernel) -> None:
    """Removes the tree's own directories where no VM's is left in them."""
    _undo(tree.paths, kernel)


def remove_host_tree(tree: HostTree, kernel: Kernel) -> None:
    """Removes it with the empty VM directories in it. Raises CgroupError where a process is left inside."""
    for path in tree.paths:
        try:
            for child in kernel.children(path) if kernel.exists(path) else []:
                kernel.remove(child)
            if kernel.exists(path):
                kernel.remove(path)
        except OSError as e:
            raise CgroupError(f"cannot remove the cgroup: {_why(e)}") from e


class VmCgroup:
    """One VM's directory in every hierarchy. All methods raise CgroupError."""

    def __init__(self, tree: HostTree, vm_id: str, kernel: Kernel) -> None:
        self.version = tree.version
        self._kernel = kernel
        self._dirs = {controller: path / vm_id for controller, path in tree.dirs.items()}
        self._cpu = self._dirs["cpu" if tree.version == 1 else ""]

    @property
    def dirs(self) -> list[Path]:
        """Where what starts containers is written, in each one's `cgroup.procs`: all are needed, for quota, time used
        and freezer. Writing takes some 20 ms each."""
        return list(dict.fromkeys(self._dirs.values()))

    def create(self, real_cores: float) -> None:
        """Made and capped before the first process can be inside."""
        made: list[Path] = []
        try:
            for path in self.dirs:
                self._kernel.make(path)
                made.append(path)
            self.set_cores(real_cores)
        except (OSError, CgroupError) as e:
            _undo(made, self._kernel)
            raise CgroupError(f"cannot make the VM's cgroup: {_why(e)}") from e

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
            stat = dict(line.split() for line in self._read(self._cpu / "cpu.stat").splitlines())
            return int(stat["usage_usec"]) * 1000
        if "cpuacct" not in self._dirs:
            return None
        return int(self._read(self._dirs["cpuacct"] / "cpuacct.usage"))

    def pids(self) -> list[int]:
        """The processes inside, in directories below too."""
        return sorted({pid for path in self.dirs for pid in self._pids(path)})

    def _pids(self, path: Path) -> list[int]:
        try:
            found = [int(pid) for pid in self._kernel.read(path / "cgroup.procs").split()]
            for child in self._kernel.children(path):
                found += self._pids(child)
        except FileNotFoundError:
            return []  # a directory removed between the listing and the read
        except OSError as e:
            raise CgroupError(_why(e)) from e
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
            raise CgroupError(f"cannot freeze the VM: {_why(e)}") from e
        return True

    def remove(self) -> None:
        """Removes the directories. Raises while a process is inside."""
        for path in self.dirs:
            try:
                remove_below(path, self._kernel)
            except FileNotFoundError:
                continue
            except OSError as e:
                raise CgroupError(f"cannot remove the VM's cgroup: {_why(e)}") from e

    def _read(self, path: Path) -> str:
        try:
            return self._kernel.read(path)
        except OSError as e:
            raise CgroupError(_why(e)) from e

    def _write_back(self, path: Path, text: str) -> None:
        try:
            self._kernel.write(path, text)
        except OSError as e:
            raise CgroupError(f"cannot write {text!r}: {_why(e)}") from e
        got = self._read(path).strip()
        if got != text:
            raise CgroupError(f"{path}: wrote {text!r}, the kernel keeps {got!r}")


def remove_below(path: Path, kernel: Kernel) -> None:
    """Raises OSError where a process is inside."""
    for child in kernel.children(path):
        remove_below(child, kernel)
    kernel.remove(path)


def _undo(made: list[Path], kernel: Kernel) -> None:
    """Removes what is empty; the rest stays."""
    for path in reversed(made):
        try:
            kernel.remove(path)
        except OSError:
            continue


def _why(e: Exception) -> str:
    if isinstance(e, OSError):
        return f"{e.filename or 'cgroup'}: {e.strerror or e}"
    return str(e)
