"""One point of a published figure on a live local cluster: the evaluation's mix on the VMs of cluster Normal.

**Time** is compressed: gaps, calls, notice and keep-alive are divided by `speedup`. The platform's own periods are
not: a VM reports once a second and the demand of a function is counted over 10 and 60 s, as ever. **CPU**: one
emulated core is `core_scale` real ones. Example: a call of 5.25 s at speed-up 15 and core scale 0.02 takes 0.35 s and
burns 7 ms. **Memory** of the VMs is what the figure's have, 16 GB: a container that burns and sleeps has a few MB, so
memory decides nothing here.

The same plan is simulated with the times of the process runtime; a call that has not ended when the live client stops
waiting has not ended there either.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fallow.report.summary import summarise_calls
from fallow.traces.model import InvocationTrace, ReplayPlan, TraceCall, TraceFunction
from fallow.traces.plan import make_plan
from fallow_cli.cluster_plan import VmPlan
from fallow_cli.demo.folder import state_folder
from fallow_cli.demo.prepare import DemoOptions, Prepared, cluster_plan
from fallow_cli.demo.run import run_demo
from fallow_cli.errors import CliError
from fallow_cli.fidelity import scenario_of
from loadtest.replay import DRAIN_S
from simulator.clusters import NORMAL, constant
from simulator.reproduce.frame import work
from simulator.results import summarise
from simulator.workloads import mix
from simulator.world import World

METER_PERIOD_S = 0.5
STRETCH_S = 5.0  # what waits for a machine that is full for so long shows in a tail
Sample = tuple[float, float]  # (Unix ms, core-seconds busy since the machine started)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is run. Rate and window are the figure's, not yet compressed."""

    policy: str
    rate_per_s: float
    window_s: float
    speedup: float
    core_scale: float  # real cores per emulated core
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What came of the calls, live or simulated. `p99_s` is multiplied by the speed-up: a time of the figure."""

    cold_share: float
    p99_s: float
    unended: int  # calls without a success when the client stopped waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePoint:
    """One point, and how the machine bore it."""

    policy: str
    rate_per_s: float
    calls: int
    live: Side
    simulated: Side
    late_ms: float  # p95 of how much later than due the client sent
    busy_cores: float  # of this machine, mean while calls were sent, whoever used them
    busiest_cores: float  # the same in the busiest STRETCH_S
    cpu_note: str = ""  # why the VMs' cores were not enforced; "" = they were


def mix_trace(*, rate_per_s: float, window_s: float, seed: int) -> InvocationTrace:
    """The mix that the simulated figures run, as a trace whose calls keep one core busy."""
    workload = mix(rate_per_s=rate_per_s, window_s=window_s, seed=seed, work=work())
    return InvocationTrace(
        source=workload.name,
        format="generated",
        functions=tuple(
            TraceFunction(name=a.spec.name, app=a.spec.name, memory_mb=a.spec.memory_mb, cpu_share=1.0)
            for a in workload.actions
        ),
        calls=tuple(TraceCall(at_s=c.at_s, function=c.action, duration_s=c.cpu_s) for c in workload.calls()),
        window_s=window_s,
    )


def plan_of(setting: Setting) -> ReplayPlan:
    """What is sent: the same of every policy. Whether the machine carries it is measured, not planned, so no function
    is left out for it."""
    return make_plan(
        mix_trace(rate_per_s=setting.rate_per_s, window_s=setting.window_s, seed=setting.seed),
        duration_s=setting.window_s / setting.speedup,
        speedup=setting.speedup,
        core_scale=setting.core_scale,
        vm_mean_cores=float("inf"),
        machine_cores=float("inf"),
        seed=setting.seed,
    )


def prepared_point(setting: Setting) -> tuple[DemoOptions, Prepared]:
    """The cluster and the plan, as a demo has them."""
    plan = plan_of(setting)
    options = DemoOptions(
        invocations=None,
        vm_traces=None,
        duration_s=plan.duration_s,
        speedup=setting.speedup,
        vm_speedup=1.0,
        core_scale=setting.core_scale,
        start_s=0.0,
        policy=setting.policy,
        strategy="prefer-regular",
        seed=setting.seed,
        evictions="none",
        target_cores=None,
        discount="Typical",
        benchmarks=False,
    )
    vms = tuple(
        VmPlan(id=vm.life.vm_id, kind=vm.kind, cores=vm.life.steps[0][1], memory_mb=vm.memory_mb)
        for vm in constant(NORMAL)
    )
    cluster = cluster_plan(options, vms, setting.core_scale, 1.0, float(sum(NORMAL)))
    prepared = Prepared(
        cluster=cluster,
        replay=replace(plan, available_cores=float(sum(NORMAL))),
        without_benchmarks=None,
        vm_source="cluster Normal",
        vm_speedup=1.0,
        notice_s=cluster.notice_s,
        injected=0,
    )
    return options, prepared


def run_point(setting: Setting) -> LivePoint:
    """Runs it live, then simulated. Raises CliError where the cluster cannot be had or no call ended,
    KeyboardInterrupt on Ctrl-C; leaves nothing behind."""
    options, prepared = prepared_point(setting)
    meter = CpuMeter()

    async def metered() -> Any:
        measuring = asyncio.create_task(meter.run())
        try:
            return await run_demo(options, prepared, state, quiet=True)
        finally:
            measuring.cancel()

    with state_folder(None) as state:
        run = asyncio.run(metered())
    live = summarise_calls(run)
    scenario = replace(scenario_of(options, prepared, prepared.replay), tail_s=DRAIN_S)
    sending_ms = (run.began_unix_ms, run.began_unix_ms + 1000 * prepared.replay.duration_s)
    return LivePoint(
        policy=setting.policy,
        rate_per_s=setting.rate_per_s,
        calls=len(run.calls),
        live=side(live, setting),
        simulated=side(summarise(scenario, World(scenario).run()), setting),
        late_ms=live["late_ms"]["p95"],
        busy_cores=mean_busy(meter.samples, *sending_ms),
        busiest_cores=busiest(meter.samples, *sending_ms),
        cpu_note=live["cpu_note"],
    )


def side(summary: dict[str, Any], setting: Setting) -> Side:
    """Of the summary of a run. Raises CliError where no call ended: there is no share of nothing."""
    if not summary["succeeded"]:
        why = summary["errors"][0]["error"] if summary["errors"] else "nothing was sent"
        raise CliError(f"{setting.policy} at {setting.rate_per_s:g}/s: no call ended well\n{why}")
    return Side(
        cold_share=summary["cold_start_share"],
        p99_s=summary["latency_ms"]["p99"] / 1e3 * setting.speedup,
        unended=summary["invocations"] - summary["succeeded"],
    )


class CpuMeter:
    """How many of this machine's cores are busy, looked at twice a second."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.samples.append(_look())
            await asyncio.sleep(METER_PERIOD_S)


def _look() -> Sample:
    return time.time() * 1e3, busy_core_s(Path("/proc/stat").read_text())


def busy_core_s(stat: str) -> float:
    """Of /proc/stat: core-seconds that were not idle, all cores together. Time stolen by a host counts: it was not
    there to be used."""
    user, nice, system, _idle, _iowait, *rest = (int(ticks) for ticks in stat.split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def mean_busy(samples: Sequence[Sample], from_unix_ms: float, to_unix_ms: float) -> float:
    """Mean over the window, of which at least two samples are needed."""
    inside = _inside(samples, from_unix_ms, to_unix_ms)
    return _mean(inside[0], inside[-1])


def busiest(samples: Sequence[Sample], from_unix_ms: float, to_unix_ms: float) -> float:
    """The highest mean over STRETCH_S of the window; over all of it where it is shorter."""
    inside = _inside(samples, from_unix_ms, to_unix_ms)
    apart = min(round(STRETCH_S / METER_PERIOD_S), len(inside) - 1)
    return max(_mean(first, last) for first, last in zip(inside, inside[apart:], strict=False))


def _inside(samples: Sequence[Sample], from_unix_ms: float, to_unix_ms: float) -> list[Sample]:
    return [sample for sample in samples if from_unix_ms <= sample[0] <= to_unix_ms]


def _mean(first: Sample, last: Sample) -> float:
    return (last[1] - first[1]) / (last[0] - first[0]) * 1e3
