"""How the cores of one VM are shared by what runs there: processor sharing by weights, each up to its parallelism.

Each job has so much CPU work left, in core-seconds of this VM, a weight (its CPU shares) and a parallelism, the cores
it can use at most. Cores go to the jobs by weight; what one cannot use goes to the others. As long as all fit side by
side every job runs at its parallelism, and coming and going costs O(1); else O(n log n) in the jobs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simulator.clock import VirtualClock

_EPS = 1e-9


class Job:
    """Owned by `CpuShare`. `done` is called once its work is done."""

    __slots__ = ("args", "done", "ends_s", "left", "number", "parallel", "rate", "since_s", "used", "weight")

    def __init__(self, work: float, parallel: float, weight: float, done: Callable[..., None], args: tuple[Any, ...]):
        self.left = work
        self.parallel = parallel
        self.weight = weight
        self.done = done
        self.args = args
        self.rate = 0.0  # cores now
        self.since_s = 0.0  # ... since then
        self.used = 0.0  # core-seconds until then
        self.ends_s = -1.0
        self.number = 0  # of the appointment for its end: an older one finds another number and does nothing


class CpuShare:
    """The cores of one VM."""

    def __init__(self, clock: VirtualClock, cores: float) -> None:
        self._clock = clock
        self.cores = cores
        self.jobs: dict[Job, None] = {}
        self._wanted = 0.0  # sum of the parallelism of all jobs
        self._crowded = False  # not all run at their parallelism
        self._used = 0.0  # core-seconds of jobs that are gone
        self._numbers = 0

    def add(self, work: float, parallel: float, weight: float, done: Callable[..., None], *args: Any) -> Job:
        """`work` in core-seconds, above 0."""
        job = Job(work, parallel, weight, done, args)
        job.since_s = self._clock.now_s
        self.jobs[job] = None
        self._wanted += parallel
        if self._crowded or self._wanted > self.cores + _EPS:
            self._share()
        else:
            self._give(job, parallel)
        return job

    def remove(self, job: Job) -> float:
        """Takes a job out, done or not; the core-seconds it used."""
        self._settle(job)
        del self.jobs[job]
        job.number = 0
        self._wanted = self._wanted - job.parallel if self.jobs else 0.0
        self._used += job.used
        if self._crowded:
            self._share()
        return job.used

    def resize(self, cores: float) -> None:
        """The VM shrank or grew."""
        self.cores = cores
        if self._crowded or self._wanted > cores + _EPS:
            self._share()

    def used(self) -> float:
        """Core-seconds used since the start."""
        now_s = self._clock.now_s
        return self._used + sum(job.used + job.rate * (now_s - job.since_s) for job in self.jobs)

    def rate(self) -> float:
        """Cores in use now."""
        return min(self.cores, self._wanted)

    def stop(self) -> None:
        """The VM is frozen or gone: nothing gets any further."""
        for job in self.jobs:
            self._settle(job)
            job.rate = 0.0
            job.number = 0

    def _settle(self, job: Job) -> None:
        """Writes down what it has used up to now."""
        now_s = self._clock.now_s
        worked = job.rate * (now_s - job.since_s)
        job.used += worked
        job.left -= worked
        job.since_s = now_s

    def _give(self, job: Job, rate: float) -> None:
        """From now on it has so many cores; its work ends accordingly."""
        job.rate = rate
        self._numbers += 1
        job.number = self._numbers
        if rate > 0:
            self._clock.after(max(0.0, job.left) / rate, self._end, job, job.number)

    def _end(self, job: Job, number: int) -> None:
        if job.number != number:
            return
        self.remove(job)
        job.done(*job.args)

    def _share(self) -> None:
        """Cores by weight, at most each job's parallelism: fill the most easily satisfied first."""
        cores, weights = self.cores, sum(job.weight for job in self.jobs)
        self._crowded = self._wanted > cores + _EPS
        for job in sorted(self.jobs, key=lambda job: job.parallel / job.weight) if self._crowded else list(self.jobs):
            rate = min(job.parallel, cores * job.weight / weights) if self._crowded else job.parallel
            cores -= rate
            weights -= job.weight
            if abs(rate - job.rate) > _EPS:
                self._settle(job)
                self._give(job, rate)
