"""VM traces as the VMs of a local cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fallow.traces.vms import Life, TraceError, VmTrace, lives, read_vm_traces
from fallow_cli.cluster_plan import VmPlan, vms_at_once
from fallow_cli.errors import CliError
from fallow_cli.machine import vm_memory_mb
from fallow_cli.options import harvest_price


def plan_from_traces(folder: Path, *, regular_cores: float, memory_mb: int) -> tuple[VmPlan, ...]:
    """One regular VM r1 and every life of every trace in the folder. Raises CliError naming file, line and column."""
    return plan_from_lives(vm_lives(load_vm_traces(folder)), regular_cores=regular_cores, memory_mb=memory_mb)


def load_vm_traces(folder: Path) -> list[VmTrace]:
    """The traces of a folder or a single file. Raises CliError naming file, line and column."""
    try:
        return read_vm_traces(folder)
    except TraceError as e:
        raise CliError(str(e)) from None


def vm_lives(traces: Sequence[VmTrace]) -> list[Life]:
    """The lives of all traces; the n-th trace is the VM hN."""
    return [life for n, trace in enumerate(traces, 1) for life in lives(trace, vm_id=f"h{n}")]


def plan_from_lives(all_lives: Sequence[Life], *, regular_cores: float, memory_mb: int) -> tuple[VmPlan, ...]:
    """`memory_mb` 0 = 60 % of what is free, shared by the VMs that can live at once."""
    memory = memory_mb or vm_memory_mb(vms_at_once(life.vm_id for life in all_lives) + 1)
    harvest = (
        VmPlan(
            id=life.vm_id,
            kind="harvest",
            cores=life.steps[0][1],
            memory_mb=memory,
            price=harvest_price(life.steps[0][1]),
            life=life.to_json(),
        )
        for life in all_lives
    )
    return (VmPlan(id="r1", kind="regular", cores=regular_cores, memory_mb=memory), *harvest)
