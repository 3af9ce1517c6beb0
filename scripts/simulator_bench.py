"""How fast the simulator is on one core, where its time goes, and what a decision of MWS costs as the cluster grows.

`make bench` prints it after the live path. Rates are of CPU time, without the building of the world. Where there is a
PyPy (`make pypy`, or FALLOW_SIMULATOR_PYTHON) its rate stands beside: of everything from its start to the figures.
"""

from __future__ import annotations

import cProfile
import gc
import json
import os
import pstats
import random
import resource
import sys
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from fallow.core.cluster.events import ActivationArrived, AttemptCompleted, AttemptFinished, VmJoined
from fallow.core.cluster.limits import ClusterLimits
from fallow.core.cluster.state import ClusterState
from fallow.core.eviction import make_strategy
from fallow.core.model import (
    ActionSpec,
    Activation,
    ActivationId,
    Outcome,
    Resources,
    Status,
    VmId,
    VmInfo,
    VmKind,
    VmReport,
)
from fallow.core.policies.base import ClusterView
from fallow.core.policies.mws import Mws
from simulator import clusters, workloads
from simulator.model import Scenario
from simulator.sweep import Point
from simulator.worker import ROOT, Worker, WorkerError
from simulator.world import World

VMS, CORES, RATE_PER_S, WINDOW_S = 100, 16, 500.0, 60.0
ELSEWHERE_WINDOW_S = 2000.0  # a million calls: what is compiled while it runs pays later
PYPY = ROOT / ".pypy" / "bin" / "python"
MEMORY_RATE_PER_S, MEMORY_WINDOWS_S = 50.0, (1000.0, 2500.0)
MEMORY_ACTIONS, MEMORY_VMS = 10, 10
SIZES = (10, 100, 1_000, 10_000)
DECISIONS = 4_000
ACTIONS = 400
ROUNDS = 3
WHERE = (
    ("core cluster", "/fallow/core/cluster/"),
    ("core policies", "/fallow/core/policies/"),
    ("core pool", "/fallow/core/pool/"),
    ("core, the rest", "/fallow/core/"),
    ("simulator", "/simulator/"),
)
BUILT_IN = "built-ins, the rest"


def scenario(window_s: float = WINDOW_S, rate_per_s: float = RATE_PER_S) -> Scenario:
    workload = workloads.mix(rate_per_s=rate_per_s, window_s=window_s, seed=1)
    return Scenario(workload=workload, vms=clusters.constant([CORES] * VMS), policy="mws")


def speed() -> dict[str, float]:
    """Activations a second of CPU time, the median round; events an activation."""
    rates = []
    for _ in range(ROUNDS):
        world = World(scenario())
        began_s = time.process_time()
        result = world.run()
        rates.append(result.arrived / (time.process_time() - began_s))
    return {
        "activations_per_s": round(median(rates)),
        "activations": result.arrived,
        "events_each": round(result.events / result.arrived, 2),
    }


def speed_elsewhere() -> dict[str, object] | None:
    """Of another interpreter, in activations a second of its CPU time; None = there is none."""
    python = os.environ.get("FALLOW_SIMULATOR_PYTHON") or (str(PYPY) if PYPY.exists() else None)
    if python is None:
        return None
    cluster = "cores:" + ",".join([str(CORES)] * VMS)
    point = Point(policy="mws", cluster=cluster, rate_per_s=RATE_PER_S, duration_s=ELSEWHERE_WINDOW_S)
    before_s = _children_cpu_s()
    with Worker(python) as worker:
        summary = worker.simulate(point)
    took_s = _children_cpu_s() - before_s
    calls = summary["invocations"]
    return {"interpreter": worker.name, "activations_per_s": round(calls / took_s), "activations": calls}


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def where_time_goes() -> dict[str, float]:
    """Shares of the time, under a profiler: small functions look dearer than they are."""
    world, profile = World(scenario(WINDOW_S / 3)), cProfile.Profile()
    profile.runcall(world.run)
    spent = dict.fromkeys([*(name for name, _ in WHERE), BUILT_IN], 0.0)
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]  # not in its stub
    for (file, _, _), (_, _, own_s, _, _) in stats.items():
        spent[next((name for name, part in WHERE if part in file), BUILT_IN)] += own_s
    total_s = sum(spent.values())
    return {name: round(own_s / total_s, 3) for name, own_s in spent.items()}


def bytes_a_call() -> float:
    """What is kept of each further call once it has ended.

    Measured between two runs of a few actions on a few VMs, both long enough for what is bounded to be full: samples by
    action, the minute of arrivals that MWS looks back on, deadlines of attempts.
    """
    first, second = (_allocated(window_s) for window_s in MEMORY_WINDOWS_S)
    return round((second[1] - first[1]) / (second[0] - first[0]), 1)


def _allocated(window_s: float) -> tuple[int, int]:
    """(calls, bytes that are held once they have ended)."""
    whole = scenario(window_s, MEMORY_RATE_PER_S)
    made = whole.workload.calls
    few = replace(whole.workload, calls=lambda: (replace(call, action=call.action % MEMORY_ACTIONS) for call in made()))
    tracemalloc.start()
    try:
        world = World(replace(whole, workload=few, vms=whole.vms[:MEMORY_VMS]))
        result = world.run()
        gc.collect()
        return result.arrived, tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


class Timed(Mws):
    """Notes how long each placement took."""

    def __init__(self) -> None:
        super().__init__()
        self.took_s: list[float] = []

    def place(self, call: Activation, kind: VmKind, view: ClusterView, now_s: float) -> object:  # type: ignore[override]
        began_s = time.perf_counter()
        decision = super().place(call, kind, view, now_s)
        self.took_s.append(time.perf_counter() - began_s)
        return decision


def decision_us(vms: int) -> float:
    """The median of placements on so many VMs, the load of a function being the same on all clusters."""
    policy = Timed()
    state = ClusterState(
        policy=policy,  # type: ignore[arg-type]
        strategy=make_strategy("prefer-regular", 30.0),
        limits=ClusterLimits(why_kept=1),
    )
    report = VmReport(
        capacity=Resources(cpu_cores=CORES, memory_mb=16384.0), used=Resources(cpu_cores=0.0, memory_mb=0.0)
    )
    for n in range(vms):
        info = VmInfo(id=VmId(f"h{n}"), incarnation="1", kind=VmKind.HARVEST, runtimes=("python:3",))
        state.handle(VmJoined(vm=info, report=report), 0.0)
    specs = [
        ActionSpec(namespace="guest", name=f"f{n}", version="0.0.1", revision="1", kind="python:3", memory_mb=256)
        for n in range(ACTIONS)
    ]
    dice, now_s = random.Random(1), 0.0
    for n in range(DECISIONS):
        now_s += 1 / RATE_PER_S
        call = Activation(id=ActivationId(f"{n:x}"), action=specs[dice.randrange(ACTIONS)], blocking=True)
        (dispatch,) = state.handle(ActivationArrived(activation=call), now_s)
        vm_id, attempt = dispatch.vm_id, dispatch.attempt  # type: ignore[union-attr]
        outcome = Outcome(status=Status.SUCCESS, run_s=0.03, cpu_s=0.03)
        state.handle(AttemptFinished(vm_id=vm_id, activation_id=call.id, attempt=attempt, outcome=outcome), now_s)
        state.handle(AttemptCompleted(vm_id=vm_id, activation_id=call.id, attempt=attempt), now_s)
    return round(1e6 * median(policy.took_s[DECISIONS // 4 :]), 2)


def main(args: Sequence[str]) -> int:
    try:
        found = measured()
    except WorkerError as e:
        sys.stderr.write(f"bench: {e}\n")
        return 1
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if "--json" in args else f"{table(found)}\n")
    return 0


def measured() -> dict[str, object]:
    return {
        "vms": VMS,
        "policy": "mws",
        **speed(),
        "elsewhere": speed_elsewhere(),
        "time": where_time_goes(),
        "bytes_a_call": bytes_a_call(),
        "mws_decision_us": {str(size): decision_us(size) for size in SIZES},
    }


def table(found: dict[str, object]) -> str:
    """For a terminal."""
    shares, costs, elsewhere = found["time"], found["mws_decision_us"], found["elsewhere"]
    assert isinstance(shares, dict)
    assert isinstance(costs, dict)
    return "\n".join(
        [
            f"simulator, one core, {VMS} VMs under MWS: {found['activations_per_s']:,} activations/s, "
            f"{found['events_each']} events each, {found['bytes_a_call']} bytes kept a call",
            *([_elsewhere(elsewhere)] if isinstance(elsewhere, dict) else []),
            "  time: " + ", ".join(f"{name} {share:.0%}" for name, share in shares.items()),
            "  an MWS decision: " + ", ".join(f"{cost} us on {int(size):,} VMs" for size, cost in costs.items()),
        ]
    )


def _elsewhere(found: dict[str, object]) -> str:
    return (
        f"  {found['interpreter']}: {found['activations_per_s']:,} activations/s over {found['activations']:,}, "
        "its start and compiling included"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
