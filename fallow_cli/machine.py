"""What this machine offers a local cluster."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from fallow_cli.errors import CliError

MEMORY_SHARE = 0.6  # of the available memory goes to the VMs


def real_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0))


def vm_memory_mb(vms: int, available_mb: float | None = None) -> int:
    """Memory of each of `vms` VMs in MB: 60 % of what is available now, shared equally; at least 256."""
    available = available_memory_mb() if available_mb is None else available_mb
    return max(256, int(available * MEMORY_SHARE / max(vms, 1)))


def available_memory_mb() -> float:
    """MemAvailable of /proc/meminfo, or less where a memory cgroup limits this process."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return min(int(line.split()[1]) / 1024, _cgroup_limit_mb())
    return 1024.0


def _cgroup_limit_mb() -> float:
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return int(Path(path).read_text()) / (1 << 20)
        except (OSError, ValueError):  # absent, or the word "max"
            continue
    return float("inf")


def free_ports(first: int, count: int) -> list[int]:
    """`count` ports on loopback from `first` up (0 = any). Raises CliError that names a port in use."""
    ports = []
    for offset in range(count):
        wanted = first + offset if first else 0
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", wanted))
            except (OSError, OverflowError):
                raise CliError(
                    f"port {wanted} on 127.0.0.1 is in use or not allowed\nchoose another with --port (0 picks one)"
                ) from None
            ports.append(s.getsockname()[1])
    return ports
