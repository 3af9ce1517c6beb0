"""Several simulations, one a core: points that are told apart by what was asked of them, built where they run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from fallow.core.model import VmKind
from fallow.traces.invocations import read_invocations
from fallow.traces.vms import read_vm_traces
from simulator import clusters, workloads
from simulator.model import Monitoring, Scenario, SimVm, Times, Workload
from simulator.results import summarise
from simulator.worker import Worker
from simulator.world import Progress, World

CLUSTERS = ("normal", "active", "dedicated")
GENERATED = "generated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One simulation as a person asks for it. Small: workload and VMs are made from it where it is simulated."""

    policy: str = "mws"
    strategy: str = "prefer-regular"
    seed: int = 1
    cluster: str = "normal"  # CLUSTERS, "generated:N", "cores:a,b,...", or "short-lived:N:SPEEDUP"
    vm_traces: Path | None = None  # instead of a cluster
    regular: tuple[float, ...] = ()  # cores of regular VMs beside it
    vm_memory_mb: float = clusters.MEMORY_MB  # of every VM
    workload: str = "mix"  # "mix" | GENERATED
    invocations: Path | None = None  # instead of a workload
    rate_per_s: float = 10.0  # of a workload
    work: float = 1.0  # of the mix
    init_work: float = 1.0
    start_s: float = 0.0  # of the invocations
    duration_s: float = 1200.0
    controllers: int = 1
    retries: bool = True
    notice_s: float = 30.0
    target_cores: float = 0.0  # harvest VMs are ordered below it; 0 = never
    give_up_s: float | None = None  # end a run where more calls are under way than arrive in so long
    discount: str = "Typical"
    times: Times = field(default_factory=Times)
    label: str = ""  # what tells it from others beyond all this


def document_of(point: Point) -> dict[str, Any]:
    """A point as JSON has it, for a process of another interpreter."""
    paths = {"vm_traces": point.vm_traces, "invocations": point.invocations}
    return asdict(point) | {name: None if path is None else str(path) for name, path in paths.items()}


def point_of(document: dict[str, Any]) -> Point:
    """The point that `document_of` made it of."""
    paths = {name: None if document[name] is None else Path(document[name]) for name in ("vm_traces", "invocations")}
    return Point(**document | paths | {"regular": tuple(document["regular"]), "times": Times(**document["times"])})


def scenario_of(point: Point) -> Scenario:
    """Raises TraceError naming file, line and column, ValueError for a cluster or workload that does not exist."""
    workload = _workload(point)
    vms = [*_vms(point, workload.window_s), *clusters.constant(point.regular, VmKind.REGULAR)]
    vms = [replace(vm, memory_mb=point.vm_memory_mb) for vm in vms]
    return Scenario(
        workload=workload,
        vms=vms,
        policy=point.policy,
        strategy=point.strategy,
        seed=point.seed,
        controllers=point.controllers,
        retries=point.retries,
        notice_s=point.notice_s,
        most_in_flight=None if point.give_up_s is None else round(point.give_up_s * point.rate_per_s),
        times=point.times,
        monitoring=Monitoring(target_cores=point.target_cores) if point.target_cores else None,
    )


def _workload(point: Point) -> Workload:
    if point.invocations is not None:
        trace = read_invocations(point.invocations, start_s=point.start_s, window_s=point.duration_s, seed=point.seed)
        return replace(workloads.traced(trace), window_s=min(trace.window_s, point.duration_s))
    if point.workload == GENERATED:
        return workloads.generated(rate_per_s=point.rate_per_s, window_s=point.duration_s, seed=point.seed)
    if point.workload != "mix":
        raise ValueError(f"unknown workload {point.workload!r}; known: mix, {GENERATED}")
    return workloads.mix(
        rate_per_s=point.rate_per_s,
        window_s=point.duration_s,
        seed=point.seed,
        work=point.work,
        init_work=point.init_work,
    )


def _vms(point: Point, window_s: float) -> list[SimVm]:
    if point.vm_traces is not None:
        return clusters.traced(read_vm_traces(point.vm_traces))
    name, _, number = point.cluster.partition(":")
    match name:
        case "normal":
            return clusters.constant(clusters.NORMAL)
        case "dedicated":
            return clusters.constant(clusters.DEDICATED)
        case "active":
            return clusters.active(seed=point.seed, window_s=window_s)
        case "cores" if number:
            return clusters.constant([float(count) for count in number.split(",")])
        case "short-lived" if number:
            count, _, speedup = number.partition(":")
            return clusters.short_lived(
                vms=int(count), seed=point.seed, window_s=window_s, speedup=float(speedup or "1")
            )
        case "generated" if number.isdecimal() and 1 <= int(number) <= clusters.MAX_VMS:
            return clusters.generated(vms=int(number), seed=point.seed, window_s=window_s)
        case _:
            known = ", ".join((*CLUSTERS, f"generated:N with N up to {clusters.MAX_VMS:,}"))
            raise ValueError(f"unknown cluster {point.cluster!r}; known: {known}")


def simulate(point: Point, progress: Progress | None = None) -> dict[str, Any]:
    """The figures of one point, with what was asked for in `point`."""
    scenario = scenario_of(point)
    summary = summarise(scenario, World(scenario).run(progress), discount=point.discount)
    return summary | {"cluster": str(point.vm_traces or point.cluster), "rate_per_s": point.rate_per_s}


def sweep(
    points: Sequence[Point],
    done: Callable[[int], None] | None = None,
    *,
    progress: Callable[[int, float, int], None] | None = None,
    workers: int | None = None,
    python: str | None = None,
) -> list[dict[str, Any]]:
    """The figures of every point, in their order, on all cores, under the interpreter `python`, by default this one.

    `done` hears which point has ended; `progress`, in threads of its own, of which one: virtual seconds, calls ended.
    A single point under this interpreter is simulated in this process. Raises WorkerError for what is wrong with a
    point or the interpreter, in this process what `simulate` raises; the other points are given up.
    """
    if not points:
        return []
    told = [_of(i, progress) for i in range(len(points))]
    if len(points) == 1 and python is None:
        (point,) = points
        found = [simulate(point, told[0])]
        if done is not None:
            done(0)
        return found
    idle: SimpleQueue[Worker] = SimpleQueue()

    def one(index: int) -> dict[str, Any]:
        worker = idle.get()
        try:
            return worker.simulate(points[index], told[index])
        finally:
            idle.put(worker)

    workers = min(len(points), workers or len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(workers) as pool, ExitStack() as started:  # the workers end first, then the threads
        for _ in range(workers):
            idle.put(started.enter_context(Worker(python or sys.executable)))
        futures = {pool.submit(one, i): i for i in range(len(points))}
        try:
            for future in as_completed(futures):
                future.result()
                if done is not None:
                    done(futures[future])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def _of(index: int, progress: Callable[[int, float, int], None] | None) -> Progress | None:
    return None if progress is None else partial(progress, index)
