"""The VMs of a cluster of services, as the plans that their services play (harvest_agent.plan)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fallow.core.monitor import CORES_PER_VM
from fallow.traces.generated.vms import generate_vm_traces
from fallow.traces.plan import default_core_scale
from fallow.traces.vms import Life, VmTrace, lives
from fallow_cli.errors import CliError
from fallow_cli.machine import real_cores, vm_memory_mb
from fallow_cli.options import harvest_price
from fallow_cli.vm_plan import load_vm_traces

MAX_HARVEST_VMS = 6  # services of compose.yaml; those beyond the number asked for are told to stay away
GENERATED = "generated"
STATIC = "static"
REGULAR_CORES = 8.0  # emulated
GENERATED_SPAN_S = 7200.0  # of trace time
EVICTED_AT = 0.5  # of a round
AWAY = 0.12  # of a round
GROUP = 3  # of so many VMs, in the order of their names, each shows something: fewer may be started than planned


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePlans:
    """What each service plays, by its name, and in words what that is."""

    plans: dict[str, dict[str, Any]]
    told: str


def make_plans(*, harvest_vms: int, traces: str, round_s: float, seed: int, core_scale: float | None) -> ServicePlans:
    """`traces` is generated, static, or a folder of VM traces; they are compressed into rounds of `round_s` real
    seconds. Raises CliError."""
    shared = {"memory_mb": vm_memory_mb(harvest_vms + 1), "core_scale": core_scale or default_core_scale(real_cores())}
    plans: dict[str, dict[str, Any]] = {
        "regular-1": {"kind": "regular", "cores": REGULAR_CORES, "price": 1.0, **shared},
        **{f"harvest-{n}": {"kind": "harvest", "lives": [], **shared} for n in range(1, MAX_HARVEST_VMS + 1)},
    }
    names = [f"harvest-{n}" for n in range(1, harvest_vms + 1)]
    if traces == STATIC:
        harvest = {"kind": "harvest", "cores": CORES_PER_VM, "price": harvest_price(CORES_PER_VM), **shared}
        return ServicePlans(plans=plans | {name: dict(harvest) for name in names}, told="cores stay as they are")
    found, told = _traces(traces, harvest_vms, seed)
    if harvest_vms > len(found):
        raise CliError(
            f"{traces} holds {len(found)} VM traces, for {harvest_vms} harvest VMs\ngive fewer VMs or more traces"
        )
    by_vm = [lives(trace, vm_id=name) for name, trace in zip(names, found, strict=False)]
    compressed = _compressed(by_vm, round_s, GENERATED_SPAN_S if traces == GENERATED else 0.0)
    if traces == GENERATED:
        compressed, added = _with_eviction(compressed, round_s)
        told += f"; the eviction of {added} is added" if added else ""
    for name, of_vm in zip(names, compressed, strict=True):
        if not of_vm:
            raise CliError(f"the trace of {name} never has a core\ngive other traces")
        cores = of_vm[0].steps[0][1]
        plans[name] = {
            "kind": "harvest",
            "cores": cores,
            "price": harvest_price(cores),
            "lives": [life.to_json() for life in of_vm],
            "repeat_s": round_s,
            **shared,
        }
    return ServicePlans(plans=plans, told=f"{told}; a round takes {round_s:g} s, then it begins again")


def _traces(traces: str, vms: int, seed: int) -> tuple[Sequence[VmTrace], str]:
    if traces != GENERATED:
        return load_vm_traces(Path(traces)), f"VM traces of {traces}"
    made = [
        trace
        for n in range(0, vms, GROUP)
        for trace in generate_vm_traces(seed=seed + n, vms=min(GROUP, vms - n), window_s=GENERATED_SPAN_S)
    ]
    return made, f"generated VM traces (seed {seed})"


def _compressed(by_vm: Sequence[Sequence[Life]], round_s: float, span_s: float) -> list[list[Life]]:
    """All by the same factor: the last change of any, and `span_s`, come by the round's end."""
    last_s = max([span_s, *(t for of_vm in by_vm for life in of_vm for t in _times(life))])
    factor = round_s / last_s if last_s > 0 else 1.0
    return [[_scaled(life, factor) for life in of_vm] for of_vm in by_vm]


def _times(life: Life) -> list[float]:
    return [life.join_s + (life.end_s if life.end_s is not None else life.steps[-1][0])]


def _scaled(life: Life, factor: float) -> Life:
    return replace(
        life,
        join_s=round(life.join_s * factor, 3),
        steps=tuple((round(t * factor, 3), cores) for t, cores in life.steps),
        end_s=None if life.end_s is None else round(life.end_s * factor, 3),
    )


def _with_eviction(by_vm: list[list[Life]], round_s: float) -> tuple[list[list[Life]], str]:
    """In a few minutes of a generated trace hardly any VM is evicted: where none is and comes back, the VM that changes
    least is. Also its name, "" where nothing was added."""
    endless = [n for n, of_vm in enumerate(by_vm[:GROUP]) if len(of_vm) == 1 and of_vm[0].end_s is None]
    if not endless or any(len(of_vm) > 1 for of_vm in by_vm[:GROUP]):
        return by_vm, ""
    chosen = min(endless, key=lambda n: (len(by_vm[n][0].steps), n))
    (life,) = by_vm[chosen]
    gone_s, back_s = round(EVICTED_AT * round_s, 3), round((EVICTED_AT + AWAY) * round_s, 3)
    before = tuple(step for step in life.steps if life.join_s + step[0] < gone_s)
    if not before:
        return by_vm, ""
    back = max((step for step in life.steps if life.join_s + step[0] <= back_s), key=lambda step: step[0])[1]
    later = tuple((life.join_s + t - back_s, cores) for t, cores in life.steps if life.join_s + t > back_s)
    first = replace(life, steps=before, end_s=gone_s - life.join_s)
    second = replace(life, join_s=back_s, steps=((0.0, back), *later))
    return [[first, second] if n == chosen else of_vm for n, of_vm in enumerate(by_vm)], life.vm_id
