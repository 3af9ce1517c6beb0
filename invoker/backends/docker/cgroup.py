"""A container's own cgroup, where this process can reach it: CPU time, memory, and freezing.

The VM's directories are given; what they lack (memory: under cgroup v1 a hierarchy that the VM has no need of) is
looked for where the engine puts it under the mounts of this machine. A directory counts only if it holds the container.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

READ_BYTES = 4096  # more than cpu.stat or memory.stat needs for the lines that are read here
MB = 1 << 20
# What cannot be dropped, version 2 and version 1: written pages, and files of a tmpfs.
_MEMORY_LINES = ((b"anon", b"shmem"), (b"total_rss", b"total_shmem"))


def own_mountinfo() -> str:
    """The mounts that this process sees."""
    return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")


def container_roots(
    container_cgroups: Iterable[Path], *, cgroup_parent: str, systemd: bool, mountinfo: str
) -> tuple[Path, ...]:
    """The directories that may hold containers' cgroups, the VM's own first."""
    default = "system.slice" if systemd else "docker"
    parent = _slice_path(cgroup_parent) if cgroup_parent.endswith(".slice") else cgroup_parent.strip("/")
    derived = [mount / (parent or default) for mount in _cgroup_mounts(mountinfo)]
    return tuple(dict.fromkeys([*container_cgroups, *derived]))


def _slice_path(name: str) -> str:
    """ "a-b.slice" stands in "a.slice/a-b.slice": a dash is a step down."""
    parts = name.removesuffix(".slice").split("-")
    return "/".join("-".join(parts[: n + 1]) + ".slice" for n in range(len(parts)))


def _cgroup_mounts(mountinfo: str) -> list[Path]:
    found = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        words = left.split()
        if len(words) > 4 and right.split(" ", 1)[0] in ("cgroup", "cgroup2"):
            found.append(Path(words[4]))
    return found


class ContainerCgroup:
    """What was found of one container at its start. Files stay open: reading one again costs some microseconds."""

    def __init__(self, roots: Iterable[Path], container_id: str) -> None:
        self._cpu_fd = self._memory_fd = -1
        self._cpu_is_ns = False
        self._freezer: tuple[Path, bytes, bytes] | None = None  # file, what freezes, what thaws
        for root in roots:
            for name in (container_id, f"docker-{container_id}.scope"):
                if (directory := root / name).is_dir():
                    self._take(directory)

    def _take(self, directory: Path) -> None:
        names = set(os.listdir(directory))
        if self._cpu_fd < 0:
            if "cpuacct.usage" in names:
                self._cpu_fd, self._cpu_is_ns = _open(directory / "cpuacct.usage"), True
            elif "cpu.stat" in names and _read_stat(directory / "cpu.stat", b"usage_usec") is not None:
                self._cpu_fd, self._cpu_is_ns = _open(directory / "cpu.stat"), False
        if self._memory_fd < 0 and "memory.stat" in names:
            self._memory_fd = _open(directory / "memory.stat")
        if self._freezer is None:
            if "freezer.state" in names:
                self._freezer = (directory / "freezer.state", b"FROZEN", b"THAWED")
            elif "cgroup.freeze" in names:
                self._freezer = (directory / "cgroup.freeze", b"1", b"0")

    def cpu_s(self) -> float | None:
        """CPU seconds of all that ran in the container; None = not to be read, or it is gone."""
        if self._cpu_fd < 0:
            return None
        try:
            data = os.pread(self._cpu_fd, READ_BYTES, 0)
        except OSError:
            return None
        if self._cpu_is_ns:
            return int(data) / 1e9
        used_us = _find(data, b"usage_usec")
        return None if used_us is None else used_us / 1e6

    def memory_mb(self) -> float | None:
        """Resident memory that the kernel cannot take back; None = not to be read, or it is gone."""
        if self._memory_fd < 0:
            return None
        try:
            data = os.pread(self._memory_fd, READ_BYTES, 0)
        except OSError:
            return None
        for lines in _MEMORY_LINES:
            written, files = (_find(data, name) for name in lines)
            if written is not None:
                return (written + (files or 0)) / MB
        return None

    def freeze(self) -> bool:
        """False = it could not be."""
        return self._freezer is not None and _write(self._freezer[0], self._freezer[1])

    def thaw(self) -> bool:
        """False = it could not be: the container is gone."""
        return self._freezer is not None and _write(self._freezer[0], self._freezer[2])

    @classmethod
    def thaw_of(cls, roots: Iterable[Path], container_id: str) -> None:
        """Thaw a container that is to be removed, whoever froze it."""
        cgroup = cls(roots, container_id)
        cgroup.thaw()
        cgroup.close()

    def close(self) -> None:
        for fd in (self._cpu_fd, self._memory_fd):
            if fd >= 0:
                os.close(fd)
        self._cpu_fd = self._memory_fd = -1


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def _write(path: Path, data: bytes) -> bool:
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            return os.write(fd, data) == len(data)
        finally:
            os.close(fd)
    return False


def _read_stat(path: Path, name: bytes) -> int | None:
    try:
        return _find(path.read_bytes(), name)
    except OSError:
        return None


def _find(data: bytes, name: bytes) -> int | None:
    for line in data.splitlines():
        key, _, count = line.partition(b" ")
        if key == name and count.isdigit():
            return int(count)
    return None
