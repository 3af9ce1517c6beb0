"""What a local cluster is to be: its VMs and the settings of its processes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class VmPlan:
    """One VM to start with. `life` is the trace it plays (fallow.traces.vms.Life as JSON), None = constant cores."""

    id: str
    kind: str
    cores: float
    memory_mb: float
    speed: float = 1.0
    price: float = 1.0
    life: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlan:
    """Everything a local cluster is started with. Times are real seconds."""

    vms: tuple[VmPlan, ...]
    runtime: str = "process"  # what containers are: process | docker
    port: int = 3233
    controllers: int = 1
    policy: str | None = None  # None = as the settings file and the environment say
    strategy: str | None = None
    seed: int | None = None
    target_cores: float | None = None
    core_scale: float = 1.0
    notice_s: float = 30.0
    keep_alive_s: float = 600.0
    monitor_period_s: float = 30.0
    vm_speedup: float = 1.0
    hold: bool = False  # traces wait for `play`
    provider_memory_mb: float = 1024.0
    provider_max_vms: int = 0  # harvest VMs at once, ordered ones included
    durability: str = "everysec"
    redis_url: str = ""
    limits: str | None = None  # wide | openwhisk; None = as policy
    openwhisk_guest_key: bool = False  # the guest has the key that OpenWhisk's clients have built in
    log_level: str | None = None
    config: Path | None = None  # TOML settings of the processes


def vms_at_once(vm_ids: Iterable[str]) -> int:
    """VMs that can be there together: the lives of one VM (h3, h3.2) follow each other."""
    return len({vm_id.split(".")[0] for vm_id in vm_ids})
