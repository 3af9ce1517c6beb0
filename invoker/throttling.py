"""For how long the CPU quota of this VM has held its processes back: the kernel's own counter, read when asked.

It is asked only for calls whose VM changed its cores while they were there, so a warm call on a steady VM never pays.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_UNITS = {"throttled_usec": 1e-6, "throttled_time": 1e-9}  # cgroup version 2, version 1
_READ_BYTES = 4096  # more than a cpu.stat ever holds


class Throttling:
    """Reads `cpu.stat` of the VM's cgroup, whichever of its directories has the counter."""

    def __init__(self, cgroups: Iterable[Path]) -> None:
        self._fd = -1
        self.note = "the VM has no CPU cgroup"
        for directory in cgroups:
            try:
                fd = os.open(directory / "cpu.stat", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            self._fd = fd
            if self.throttled_s() is not None:
                self.note = ""
                return
            self.close()
            self.note = f"{directory}/cpu.stat does not count throttled time"

    def throttled_s(self) -> float | None:
        """Seconds so far, summed over the CPUs on which processes were held back; None = not to be read (`note`)."""
        if self._fd < 0:
            return None
        try:
            text = os.pread(self._fd, _READ_BYTES, 0).decode("ascii")
        except OSError as e:
            self.note = f"cpu.stat cannot be read: {e.strerror}"
            return None
        for line in text.splitlines():
            name, _, count = line.partition(" ")
            if name in _UNITS and count.isdigit():
                return int(count) * _UNITS[name]
        return None

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
