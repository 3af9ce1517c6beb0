"""From the options of a demo to its trace, its VMs and the plan of the replay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fallow.traces.benchmarks.mix import mix_benchmarks
from fallow.traces.errors import TraceError
from fallow.traces.generated.invocations import generate_invocations
from fallow.traces.generated.vms import generate_vm_traces
from fallow.traces.invocations import read_invocations
from fallow.traces.model import InvocationTrace, ReplayPlan
from fallow.traces.plan import COLD_STARTS, BenchmarksTooLargeError, default_core_scale, default_vm_speedup, make_plan
from fallow.traces.vms import Life, VmTrace
from fallow_cli.cluster_plan import ClusterPlan, VmPlan, vms_at_once
from fallow_cli.errors import CliError
from fallow_cli.machine import real_cores, vm_memory_mb
from fallow_cli.vm_plan import load_vm_traces, plan_from_lives, vm_lives

HARVEST_VMS = 4
REGULAR_CORES = 8.0  # emulated cores of the demo's regular VM
GENERATED_RATE_PER_S = 2.5  # of trace time: 25/s at the default speedup
GENERATED_VM_SPAN_S = 7200.0
SPARE_VMS = 1  # harvest VMs that may be ordered beside those of the traces, while some are leaving
TARGET_SHARE = 0.75  # of the traces' mean harvest cores: below it the resource monitor orders VMs
TRACE_NOTICE_S = 30.0
TRACE_KEEP_ALIVE_S = 600.0
TRACE_MONITOR_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What the user asked for; None = choose."""

    invocations: Path | None
    vm_traces: Path | None
    duration_s: float
    speedup: float
    vm_speedup: float | None
    core_scale: float | None
    start_s: float
    policy: str
    strategy: str
    seed: int
    evictions: str  # "none" | "trace" | a number
    target_cores: float | None
    discount: str
    runtime: str = "process"  # what containers are
    retries: bool = True
    history: bool = False  # the strategy knows the apps of the trace beforehand
    benchmarks: bool | None = None  # None = where the invocations are generated


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    cluster: ClusterPlan
    replay: ReplayPlan
    without_benchmarks: ReplayPlan | None  # what is sent where no VM can run them; None = `replay` has none
    vm_source: str
    vm_speedup: float
    notice_s: float  # real seconds
    injected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The VMs together, to which a replay is fitted."""

    mean_cores: float  # emulated, over the window
    vm_memory_mb: float  # of the smallest VM
    memory_mb: float


def plan_replay(options: DemoOptions, capacity: Capacity) -> tuple[ReplayPlan, ReplayPlan | None]:
    """What to send to VMs that are there, and where part of it are benchmark functions also the plan without. Of the
    options those that say something of VMs are not used. Raises CliError naming file, line and column."""
    return _with_benchmarks(_invocations(options), options, capacity)


def prepare(options: DemoOptions) -> Prepared:
    """Reads or generates both traces and fits them to this machine. Raises CliError naming file, line and column."""
    invocations = _invocations(options)
    traces, vm_source = _vm_traces(options)
    span_s = max((t for trace in traces for t, _ in trace.steps), default=0.0)
    vm_speedup = options.vm_speedup or default_vm_speedup(span_s, options.duration_s)
    all_lives = _lives(traces, options, vm_speedup)
    harvest_cores = _mean_cores(all_lives, options.duration_s * vm_speedup)
    vms = _vms(all_lives)
    capacity = Capacity(
        mean_cores=REGULAR_CORES + harvest_cores,
        vm_memory_mb=vms[0].memory_mb,
        memory_mb=vms[0].memory_mb * vms_at_once(vm.id for vm in vms),
    )
    plan, without = _with_benchmarks(invocations, options, capacity)
    return Prepared(
        cluster=cluster_plan(options, vms, plan.core_scale, vm_speedup, harvest_cores),
        replay=plan,
        without_benchmarks=without,
        vm_source=vm_source,
        vm_speedup=vm_speedup,
        notice_s=TRACE_NOTICE_S / options.speedup,
        injected=int(options.evictions) if options.evictions.isdigit() else 0,
    )


def _lives(traces: Sequence[VmTrace], options: DemoOptions, vm_speedup: float) -> list[Life]:
    """The lives that fall into the window; with --evictions none the first life of each VM, for ever."""
    found = [life for life in vm_lives(traces) if life.join_s / vm_speedup < options.duration_s]
    if options.evictions == "none":
        found = [life.without_end() for life in found if "." not in life.vm_id]
    if not found:
        raise CliError("no VM of the traces lives in the window\ngive a longer --duration or a higher --vm-speedup")
    return found


def _with_benchmarks(
    invocations: InvocationTrace, options: DemoOptions, capacity: Capacity
) -> tuple[ReplayPlan, ReplayPlan | None]:
    """The plan, and where part of its calls run on benchmark functions also the one without. Functions that were not
    asked for give way, with a rule, where the cluster is too small for them."""
    if options.benchmarks is False or (options.benchmarks is None and options.invocations is not None):
        return _replay_plan(invocations, options, capacity), None
    plain = _replay_plan(invocations, options, capacity)
    try:
        return _replay_plan(mix_benchmarks(invocations, seed=options.seed), options, capacity), plain
    except BenchmarksTooLargeError as e:
        if options.benchmarks:
            raise CliError(str(e)) from None
        rule = f"no benchmark functions: {str(e).splitlines()[0]}"
        return replace(plain, rules=(rule, *plain.rules)), None


def _replay_plan(invocations: InvocationTrace, options: DemoOptions, capacity: Capacity) -> ReplayPlan:
    """Raises CliError, BenchmarksTooLargeError."""
    try:
        plan = make_plan(
            invocations,
            duration_s=options.duration_s,
            speedup=options.speedup,
            core_scale=options.core_scale or default_core_scale(real_cores()),
            vm_mean_cores=capacity.mean_cores,
            machine_cores=real_cores(),
            seed=options.seed,
            cold=COLD_STARTS[options.runtime],
            vm_memory_mb=capacity.vm_memory_mb,
            vms_memory_mb=capacity.memory_mb,
        )
    except BenchmarksTooLargeError:
        raise
    except TraceError as e:
        raise CliError(str(e)) from None
    if not plan.arrivals:
        raise CliError("no invocation of the trace falls into the window\ngive a longer --duration or another --start")
    return plan


def cluster_plan(
    options: DemoOptions, vms: tuple[VmPlan, ...], core_scale: float, vm_speedup: float, harvest_cores: float
) -> ClusterPlan:
    """The cluster of these VMs, with every time divided by the speed-up; `harvest_cores` is their mean together."""
    target = TARGET_SHARE * harvest_cores if options.target_cores is None else options.target_cores
    return ClusterPlan(
        vms=vms,
        runtime=options.runtime,
        port=0,
        policy=options.policy,
        strategy=options.strategy,
        seed=options.seed,
        target_cores=0.0 if options.evictions == "none" else round(target),
        core_scale=core_scale,
        notice_s=TRACE_NOTICE_S / options.speedup,
        keep_alive_s=TRACE_KEEP_ALIVE_S / options.speedup,
        monitor_period_s=TRACE_MONITOR_S / options.speedup,
        vm_speedup=vm_speedup,
        hold=True,
        provider_memory_mb=vms[0].memory_mb,
        provider_max_vms=vms_at_once(vm.id for vm in vms) - 1 + SPARE_VMS,
        log_level="warning",
    )


def _invocations(options: DemoOptions) -> InvocationTrace:
    window_s = options.duration_s * options.speedup
    if options.invocations is None:
        return generate_invocations(seed=options.seed, window_s=window_s, rate_per_s=GENERATED_RATE_PER_S)
    try:
        return read_invocations(options.invocations, start_s=options.start_s, window_s=window_s, seed=options.seed)
    except TraceError as e:
        raise CliError(str(e)) from None


def _vm_traces(options: DemoOptions) -> tuple[Sequence[VmTrace], str]:
    if options.vm_traces is not None:
        return load_vm_traces(options.vm_traces), str(options.vm_traces)
    traces = generate_vm_traces(seed=options.seed, vms=HARVEST_VMS, window_s=GENERATED_VM_SPAN_S)
    return traces, "generated"


def _vms(all_lives: Sequence[Life]) -> tuple[VmPlan, ...]:
    memory = vm_memory_mb(vms_at_once(life.vm_id for life in all_lives) + 1 + SPARE_VMS)
    return plan_from_lives(all_lives, regular_cores=REGULAR_CORES, memory_mb=memory)


def _mean_cores(all_lives: Sequence[Life], span_s: float) -> float:
    """Mean over the window of the harvest VMs' emulated cores together."""
    return sum(life.core_seconds(span_s) for life in all_lives) / span_s
