"""What a simulated world is made of: actions with what they cost, calls, VMs, and the times that things take.

Every number has its source beside it; none of them is chosen so that a result comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from fallow.core.model import ActionSpec, VmKind
from fallow.traces.vms import Life


@dataclass(frozen=True, slots=True, kw_only=True)
class SimAction:
    """An action and what it costs beside its calls' own work."""

    spec: ActionSpec
    parallel: float = 1.0  # cores one call can use at once
    init_cpu_s: float = 0.0  # CPU time of loading code and libraries into a new container
    resident_mb: float = 64.0  # of an idle container that has run it


@dataclass(frozen=True, slots=True, kw_only=True)
class SimCall:
    """One arrival. It burns `cpu_s` core-seconds of a regular core, then waits `idle_s` without using CPU."""

    at_s: float
    action: int  # index into the workload's actions
    cpu_s: float
    idle_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Calls in order of arrival, made as they are asked for; the same ones whenever `calls` is asked."""

    name: str
    actions: Sequence[SimAction]
    calls: Callable[[], Iterator[SimCall]]
    window_s: float  # arrivals end here
    expected: int | None = None  # calls, for a progress bar; None = not known


@dataclass(frozen=True, slots=True, kw_only=True)
class SimVm:
    """A VM for the time of the run: its lives as a trace has them."""

    kind: VmKind
    memory_mb: float
    life: Life
    speed: float = 1.0
    price: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """What things take beside the work of actions, in seconds. Measured on the live platform (`make bench`)."""

    link_s: float = 0.0002  # a message between controller and invoker, one way
    store_s: float = 0.0003  # a fence raised in Redis
    container_s: float = 0.14  # Docker's create and start, without the CPU below: bench, "create + start"
    container_cpu_s: float = 0.3  # CPU of a start and removal, the engine's included: fallow.traces.plan.COLD_STARTS
    destroy_s: float = 0.05
    report_s: float = 1.0  # between two reports of a VM
    report_delay_s: float = 0.0  # on top of link_s: how old a report is when it arrives
    thread_cores: float = 1.0  # what one thread can use: 1 / core scale where a VM's cores are parts of real ones
    link_loss_s: float = 5.5  # an evicted VM is silent for so long before its link is seen to be closed


def process_times(core_scale: float) -> Times:
    """Those of the process runtime with so many real cores an emulated one: bench, "containers that are processes"."""
    return Times(
        container_s=0.003, container_cpu_s=0.0015 / core_scale, destroy_s=0.005, thread_cores=max(1.0, 1 / core_scale)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitoring:
    """Harvest VMs are ordered while the cores of the live ones sum to less than the target."""

    target_cores: float
    period_s: float = 30.0  # Zhang et al., SOSP 2021
    boot_s: float = 60.0  # from an order to the VM's joining; an assumption


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One run, complete: the same scenario gives the same result, call by call."""

    workload: Workload
    vms: Sequence[SimVm]
    policy: str = "mws"
    strategy: str = "prefer-regular"
    seed: int = 1
    controllers: int = 1
    notice_s: float = 30.0
    keep_alive_s: float = 600.0
    max_attempts: int = 3
    retries: bool = True  # False: every action is declared not idempotent, so an eviction may cut it off for good
    times: Times = field(default_factory=Times)
    monitoring: Monitoring | None = None  # None = lost cores are not replaced
    most_in_flight: int | None = None  # where more calls are under way the run ends: the cluster does not carry them
    tail_s: float = 600.0  # after the last arrival: what has not ended by then counts as unfinished
