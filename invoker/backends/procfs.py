"""What Linux says of processes: CPU time, memory, descendants.

Everything here reads /proc or sends signals.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
KILL_PAUSES_S = tuple(0.001 * 2**n for n in range(8))  # between two looks: what is killed is not gone at once


def own_cpu_s(pid: int) -> float:
    """CPU seconds of a process without its children, from its CPU clock (nanoseconds); 0.0 where it is gone.

    `~pid << 3 | 2` is how the kernel encodes a process's clock as a clock id.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def children_cpu_s(stat_fd: int) -> float:
    """CPU seconds, in ticks of 10 ms, of a process's children that ended and were waited for; 0.0 where it is gone.

    `stat_fd` is its /proc stat file, open: reading it again costs a third of opening it, and still some four times as
    much as the process's own clock. Live children do not count until they end.
    """
    try:
        fields = os.pread(stat_fd, 1024, 0).rpartition(b")")[2].split(None, 15)
    except OSError:
        return 0.0
    return (int(fields[13]) + int(fields[14])) / _TICKS_PER_S


def rss_mb(pid: int) -> float:
    """Resident memory of a process and its live children, shared pages counted in each."""
    total = 0.0
    for one in tree(pid):
        try:
            total += int(Path(f"/proc/{one}/statm").read_bytes().split()[1]) * _PAGE_BYTES / (1 << 20)
        except (OSError, IndexError):
            continue
    return total


def tree(pid: int) -> list[int]:
    """The process and its live descendants, parents first; children that were adopted away are not seen."""
    found = [pid]
    for one in found:
        try:
            found += [int(child) for child in Path(f"/proc/{one}/task/{one}/children").read_bytes().split()]
        except OSError:
            continue
    return found


def members(session: int, home: str, candidates: Iterable[int]) -> list[int]:
    """Those of `candidates` that belong to a container: in its session, or started with its HOME, which a child
    that made a session of its own and was adopted away still carries in its environment."""
    mark = f"HOME={home}".encode()
    found = []
    for pid in candidates:
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            if stat[0] == b"Z":
                continue
            if int(stat[3]) == session or mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
        except (OSError, IndexError):
            continue
    return found


def all_pids() -> list[int]:
    """Every process of this machine that is visible here."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def kill_container(session: int, home: str, candidates_file: Path | None) -> int:
    """Kill what belongs to a container, again until nothing is found (a fork may race with a kill).

    `candidates_file` is a `cgroup.procs` that names all candidates, None = look at every process. Returns how many
    are left after the last round, 0 but for processes that cannot be killed. Blocks for some milliseconds, on a busy
    machine for a quarter of a second at most.
    """
    left = 0
    for pause_s in KILL_PAUSES_S:
        pids = _cgroup_pids(candidates_file) if candidates_file is not None else all_pids()
        found = members(session, home, pids)
        left = len(found)
        if not found:
            break
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(pause_s)
    return left


def _cgroup_pids(path: Path) -> list[int]:
    try:
        return [int(line) for line in path.read_bytes().split()]
    except OSError:
        return all_pids()
