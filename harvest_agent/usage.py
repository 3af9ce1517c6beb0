"""Measures what the containers of a VM use: from its cgroup, else from every descendant in /proc."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass

from harvest_agent import processes
from harvest_agent.cgroups import VmCgroup

_MB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    cpu_cores: float  # real cores, mean since the sample before
    memory_mb: float  # resident: by the cgroup, else the sum of resident sets, where shared pages count once for each


class CgroupUsage:
    """Exact for CPU: the counter holds the time of processes that have ended, too. Raises CgroupError."""

    def __init__(self, cgroup: VmCgroup) -> None:
        self._cgroup = cgroup
        self._cpu_ns = cgroup.cpu_ns() or 0
        self._at_mono_s: float | None = None

    def sample(self, now_mono_s: float) -> Usage:
        cpu_ns = self._cgroup.cpu_ns() or 0
        used_s = (cpu_ns - self._cpu_ns) / 1e9
        cores = rate(used_s, self._at_mono_s, now_mono_s)
        self._cpu_ns, self._at_mono_s = cpu_ns, now_mono_s
        return Usage(cpu_cores=cores, memory_mb=self._memory_mb())

    def _memory_mb(self) -> float:
        counted = self._cgroup.memory_mb()
        if counted is not None:
            return counted
        found = (processes.read_process(pid) for pid in self._cgroup.pids())
        return sum(p.rss_bytes for p in found if p is not None) / _MB


class DescendantUsage:
    """Without a cgroup: in steps of 10 ms a process, and blind to what lived and died between two samples."""

    def __init__(self, root: int, *, without: Callable[[], Collection[int]]) -> None:
        """`without` answers the pids that are no container (the invoker); what they start counts."""
        self._root = root
        self._without = without
        self._seen: dict[int, float] = {}
        self._at_mono_s: float | None = None

    def sample(self, now_mono_s: float) -> Usage:
        apart = self._without()
        found = [p for p in processes.descendants(self._root) if p.pid not in apart]
        used_s = sum(max(0.0, p.cpu_s - self._seen.get(p.pid, 0.0)) for p in found)
        cores = rate(used_s, self._at_mono_s, now_mono_s)
        self._seen, self._at_mono_s = {p.pid: p.cpu_s for p in found}, now_mono_s
        return Usage(cpu_cores=cores, memory_mb=sum(p.rss_bytes for p in found) / _MB)


def meter(cgroup: VmCgroup | None, *, without: Callable[[], Collection[int]]) -> CgroupUsage | DescendantUsage:
    """The best one that there is here."""
    if cgroup is not None and cgroup.cpu_ns() is not None:
        return CgroupUsage(cgroup)
    return DescendantUsage(os.getpid(), without=without)


def rate(used_s: float, before_mono_s: float | None, now_mono_s: float) -> float:
    """0 for the first sample, which has no interval."""
    if before_mono_s is None or now_mono_s <= before_mono_s:
        return 0.0
    return used_s / (now_mono_s - before_mono_s)
