"""How much of the cluster one action needs: arrivals, CPU and time, estimated from its own calls.

By Little's law an action that arrives `rate` times a second and runs for `time` seconds has rate x time calls running
at any moment; each uses cpu_f cores and its memory limit. The windows and constants are those of Zhang et al.
(SOSP 2021). All is in seconds and cores: rates in 1/s, times in s.

What the source leaves open is a function that uses less than a core. Here cpu_f stays the measured utilisation, 0.05
cores being 0.05, in the demand and in what a call must find free and books on its VM. The whole cores of the first
sample are caution while nothing is known, not a unit: rounded up for good, a function that mostly sleeps would find no
room on a VM of two cores that uses 0.5 (0.7 x 2 - 0.5 = 0.9 < 1), and every placement would be an overload. The caveat:
a function measured on an overloaded VM looks lighter than it is. It does no harm for long, since such a VM reports its
own use as full, and rate x time x cpu_f, which is CPU time per second, stays what it was as time stretches.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

SHORT_WINDOW_S = 10  # of the rate, while the action is new
LONG_WINDOW_S = 60  # of the rate, once it has been called for that long
BATCH = 5  # samples between two estimates
CAUTION = 1.5  # what is measured once may be half as much again next time
FIRST_CAP_CAUTION = 2.0
PERCENTILE = 0.99
CPU_KEPT = 100  # samples the percentile is taken of
MAX_CORES = 4  # no function is taken to use more


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What one call of an action needs."""

    cpu_cores: float  # cpu_f, mean while it executes
    time_s: float  # of execution, init excluded
    cap_cores: float  # cap_f, whole cores: a VM must have as many at all; the weight of its CPU shares, never a quota


UNKNOWN = Estimate(cpu_cores=1.0, time_s=0.001, cap_cores=1.0)  # before any sample


class Demand:
    """The estimator of one action. Memory is bounded whatever the rate: a counter per second and the last samples.

    Every step costs O(1) amortised, an estimate (each fifth sample) O(CPU_KEPT log CPU_KEPT).
    """

    __slots__ = (
        "_arrivals",
        "_arrived",
        "_cpus",
        "_samples",
        "_since_s",
        "_sum_cpu",
        "_sum_cpu_s",
        "_sum_s",
        "estimate",
    )

    def __init__(self) -> None:
        self.estimate = UNKNOWN
        self._arrivals: deque[list[int]] = deque()  # [second, count], oldest first; at most LONG_WINDOW_S of them
        self._arrived = 0  # the sum of those counts
        self._since_s = 0.0  # when the present run of arrivals began
        self._samples = 0
        self._cpus: deque[float] = deque(maxlen=CPU_KEPT)
        self._sum_cpu = self._sum_cpu_s = self._sum_s = 0.0  # of the present batch

    def arrived(self, now_s: float) -> None:
        """Count a call. `now_s` never goes back."""
        second = math.floor(now_s)
        self._drop_before(second - LONG_WINDOW_S + 1)
        if not self._arrivals:
            self._since_s = now_s  # new, or idle for a whole window: what comes now is best seen in the short one
        if self._arrivals and self._arrivals[-1][0] == second:
            self._arrivals[-1][1] += 1
        else:
            self._arrivals.append([second, 1])
        self._arrived += 1

    def completed(self, cpu_cores: float, exec_s: float) -> None:
        """Take in a finished call: CPU time / wall time, and wall time, both of the execution without init."""
        self._samples += 1
        self._cpus.append(cpu_cores)
        self._sum_cpu += cpu_cores
        self._sum_cpu_s += cpu_cores * exec_s
        self._sum_s += exec_s
        if self._samples == 1:
            self.estimate = Estimate(
                cpu_cores=_whole_cores(CAUTION * cpu_cores),
                time_s=CAUTION * exec_s,
                cap_cores=_whole_cores(FIRST_CAP_CAUTION * cpu_cores),
            )
        if self._samples % BATCH == 0:
            self.estimate = self._of_batch()
            self._sum_cpu = self._sum_cpu_s = self._sum_s = 0.0

    def rate_per_s(self, now_s: float) -> float:
        """Arrivals per second in this controller; 0 before any call has completed.

        Counted by whole seconds, the present one being as long as it is yet: the rate has no bias towards less.
        """
        if self._samples == 0:
            return 0.0
        second = math.floor(now_s)
        self._drop_before(second - LONG_WINDOW_S + 1)
        elapsed_s = now_s - second
        if now_s - self._since_s >= LONG_WINDOW_S:
            return self._arrived / (LONG_WINDOW_S - 1 + elapsed_s)
        first = second - SHORT_WINDOW_S + 1
        recent = 0
        for bucket in reversed(self._arrivals):
            if bucket[0] < first:
                break
            recent += bucket[1]
        return recent / (SHORT_WINDOW_S - 1 + elapsed_s)

    def _drop_before(self, second: int) -> None:
        while self._arrivals and self._arrivals[0][0] < second:
            self._arrived -= self._arrivals.popleft()[1]

    def _of_batch(self) -> Estimate:
        # Weighted by time: what the action's calls use on average while they run. Calls too short to time count alike.
        cpu = self._sum_cpu_s / self._sum_s if self._sum_s > 0 else self._sum_cpu / BATCH
        rank = math.ceil(PERCENTILE * len(self._cpus))
        p99 = sorted(self._cpus)[rank - 1]
        return Estimate(cpu_cores=cpu, time_s=self._sum_s / BATCH, cap_cores=_whole_cores(CAUTION * p99))


def _whole_cores(cores: float) -> float:
    return float(min(max(math.ceil(cores), 1), MAX_CORES))
