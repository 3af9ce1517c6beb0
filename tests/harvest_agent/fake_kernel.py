"""A cgroup file system in memory, with the rules of each version that code can fall over."""

from __future__ import annotations

import errno
from pathlib import Path


class FakeKernel:
    """`refuse` holds paths whose write (or mkdir) is refused with EACCES."""

    def __init__(self, version: int, roots: list[Path], *, controllers: str = "cpu memory") -> None:
        self.version = version
        self.files: dict[Path, dict[str, str]] = {}
        self.refuse: set[Path] = set()
        self.roots = roots
        for root in roots:
            self._make(root, controllers)

    def _make(self, path: Path, controllers: str) -> None:
        files = {"cgroup.procs": ""}
        if self.version == 2:
            files |= {"cgroup.controllers": controllers, "cgroup.subtree_control": "", "cpu.stat": "usage_usec 0\n"}
            if path not in self.roots:
                files |= {"cgroup.freeze": "0", "cgroup.type": "domain", "cgroup.kill": "", "cgroup.events": ""}
                if "cpu" in controllers.split():
                    files["cpu.max"] = "max 100000"
                if "memory" in controllers.split():
                    files["memory.stat"] = "anon 3145728\nfile 9999999\nshmem 1048576\n"
        else:
            files |= {
                "cpu": {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"},
                "cpuacct": {"cpuacct.usage": "0"},
                "freezer": {"freezer.state": "THAWED"},
                "memory": {
                    "memory.stat": "rss 0\ntotal_rss 3145728\ntotal_shmem 1048576\n",
                    "memory.use_hierarchy": "0",
                },
                "pids": {"pids.current": "0"},
            }.get(next(r for r in self.roots if path.is_relative_to(r)).name, {})
            if path in self.roots:
                files["release_agent"] = ""
        self.files[path] = files

    def make(self, path: Path) -> None:
        self._may(path)
        if path in self.files:
            return
        parent = self.files.get(path.parent)
        if parent is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        self._make(path, parent.get("cgroup.subtree_control", ""))

    def remove(self, path: Path) -> None:
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        if self.files[path]["cgroup.procs"].split() or self.children(path):
            raise OSError(errno.EBUSY, "Device or resource busy", str(path))
        del self.files[path]

    def read(self, path: Path) -> str:
        if path.name == "cgroup.events" and self.exists(path):
            inside = any(f["cgroup.procs"] for p, f in self.files.items() if p.is_relative_to(path.parent))
            return f"populated {int(inside)}\nfrozen {self.files[path.parent]['cgroup.freeze']}\n"
        try:
            return self.files[path.parent][path.name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path)) from None

    def write(self, path: Path, text: str) -> None:
        self._may(path)
        self.read(path)
        files = self.files[path.parent]
        if path.name == "cgroup.procs":
            if self.version == 2 and files["cgroup.subtree_control"]:
                raise OSError(errno.EBUSY, "Device or resource busy", str(path))
            for other in self.files.values():
                other["cgroup.procs"] = " ".join(p for p in other["cgroup.procs"].split() if p != text)
            files["cgroup.procs"] = f"{files['cgroup.procs']} {text}".strip()
        elif path.name == "cgroup.subtree_control":
            if files["cgroup.procs"] and path.parent not in self.roots:
                raise OSError(errno.EBUSY, "Device or resource busy", str(path))  # no internal processes
            files[path.name] = f"{files[path.name]} {text.removeprefix('+')}".strip()
        elif path.name == "cgroup.kill":
            for below, other in self.files.items():
                if below.is_relative_to(path.parent):
                    other["cgroup.procs"] = ""
        else:
            files[path.name] = text

    def exists(self, path: Path) -> bool:
        return path in self.files or path.name in self.files.get(path.parent, {})

    def children(self, path: Path) -> list[Path]:
        return [p for p in self.files if p.parent == path]

    def _may(self, path: Path) -> None:
        if path in self.refuse:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
