"""What is asked of the cgroup file system, and the quota in the kernel's own terms."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

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


def remove_below(path: Path, kernel: Kernel) -> None:
    """Raises OSError where a process is inside."""
    for child in kernel.children(path):
        remove_below(child, kernel)
    kernel.remove(path)


def undo(made: list[Path], kernel: Kernel) -> None:
    """Removes what is empty; the rest stays."""
    for path in reversed(made):
        try:
            kernel.remove(path)
        except OSError:
            continue


def why(e: Exception) -> str:
    """An error in words for people: the file and what the kernel said."""
    if isinstance(e, OSError):
        return f"{e.filename or 'cgroup'}: {e.strerror or e}"
    return str(e)
