"""The host tree of the process backend: where a machine's VMs may have their cgroups, below this process's own.

The memory hierarchy of version 1 is left alone: moving processes there would take them out of the memory limit that
this whole program may itself run under.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harvest_agent.cgroup_find import Mount, relative_path
from harvest_agent.cgroups.kernel import CgroupError, Kernel, undo, why

CGROUPFS = "cgroupfs"
SYSTEMD = "systemd"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTree:
    """Where the VMs' cgroups are made: one directory per hierarchy (its controller; "" is version 2's only one).

    With Docker these are all hierarchies there are, since Docker makes a container's parent in each of them.
    """

    version: int
    dirs: Mapping[str, Path]
    driver: str = ""  # the Docker Engine's cgroup driver: cgroupfs | systemd; "" = the process backend's tree
    parent: str = ""  # the tree as Docker names it: "/fallow_c", "fallow_c.slice"

    def encode(self) -> str:
        """The form in which the fleet hands it to its agents."""
        head = [f"v{self.version}", self.driver, self.parent] if self.driver else [f"v{self.version}"]
        return "|".join([",".join(head), *(f"{name}={path}" for name, path in self.dirs.items())])

    @classmethod
    def decode(cls, text: str) -> HostTree:
        """Raises ValueError."""
        head, *rest = text.split("|")
        version, *docker = head.split(",")
        if version not in ("v1", "v2") or len(docker) not in (0, 2) or not rest or any("=/" not in p for p in rest):
            raise ValueError(f"{text!r} is not a cgroup tree")
        dirs = {name: Path("/" + path) for name, path in (part.split("=/", 1) for part in rest)}
        driver, parent = docker or ("", "")
        return cls(version=int(version[1]), dirs=dirs, driver=driver, parent=parent)

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
            refusals.append(why(e))
    for mount in (m for m in mounts if m.version == 2):
        own_path = relative_path(mount, own.get("", "/"))
        for base in [own_path] if in_scope else dict.fromkeys((mount.path, own_path)):
            try:
                if in_scope:
                    _step_down(base, kernel)
                return _make_v2(base, name, kernel)
            except OSError as e:
                refusals.append(why(e))
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
        undo(made, kernel)
        raise
    return HostTree(version=1, dirs=dirs)


def _make_v2(base: Path, name: str, kernel: Kernel) -> HostTree:
    enable(base, kernel)
    path = base / name
    kernel.make(path)
    try:
        enable(path, kernel)
    except OSError:
        undo([path], kernel)
        raise
    return HostTree(version=2, dirs={"": path})


def _step_down(base: Path, kernel: Kernel) -> None:
    """Moves the processes of a scope of our own into a leaf: version 2 passes controllers on from empty ones only."""
    leaf = base / "host"
    kernel.make(leaf)
    for pid in kernel.read(base / "cgroup.procs").split():
        kernel.write(leaf / "cgroup.procs", pid)


def enable(path: Path, kernel: Kernel, *, further: tuple[str, ...] = ()) -> None:
    """Passes cpu on to the directories below, and of `further` what there is: a controller works in a directory only
    if every level above has passed it on. Raises OSError where cpu cannot be had."""
    there = kernel.read(path / "cgroup.controllers").split()
    if "cpu" not in there:
        raise OSError(errno.ENOTSUP, "the cpu controller is not available here", str(path / "cgroup.controllers"))
    control = path / "cgroup.subtree_control"
    passed_on = kernel.read(control).split()
    for controller in ("cpu", *(c for c in further if c in there)):
        if controller not in passed_on:
            kernel.write(control, f"+{controller}")
