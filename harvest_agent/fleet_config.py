"""The one JSON file that says which VMs a fleet emulates. All times are real seconds but those inside a life."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fallow.core.model import VmKind
from fallow.infra.tasks import FatalError
from fallow.traces.vms import Life


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetVm:
    """One life of one VM. With a `life` it joins when that says, else at once."""

    id: str
    kind: str = VmKind.HARVEST
    cores: float = 2.0
    memory_mb: float = 2048.0
    speed: float = 1.0
    price: float = 1.0
    life: Life | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """The harvest VMs that can be had on request: their size, how many may live at once, how long one takes."""

    cores: float = 6.0
    memory_mb: float = 2048.0
    max_vms: int = 8
    delay_s: float = 1.0
    speed: float = 1.0
    price: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetConfig:
    vms: tuple[FleetVm, ...]
    run_dir: str  # sockets of the VMs, a folder each; short
    state_dir: str  # logs/<vm>.log and vms/events.jsonl
    core_scale: float = 1.0
    notice_s: float = 30.0
    link_loss_s: float = 5.5
    vm_speedup: float = 1.0
    hold: bool = False  # traces wait for /v1/play
    redis_url: str = ""  # "" = what the fleet's own environment says; so is the secret
    join_secret: str = ""
    socket: str = ""  # "" = run_dir/fleet.sock
    invoker: str = f"{sys.executable} -m invoker"
    cgroup_root: str = "auto"
    backend: str = "process"  # what containers are: process | docker
    cluster: str = ""  # Docker: the label by which this fleet knows its containers
    env: Mapping[str, str] = field(default_factory=dict)  # further FALLOW_* of the invokers
    provider: Provider | None = None

    @property
    def socket_path(self) -> str:
        return self.socket or str(Path(self.run_dir) / "fleet.sock")


def read_config(path: Path) -> FleetConfig:
    """Raises FatalError naming the file and the key."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        raise FatalError(f"{path} cannot be read as JSON: {e}") from None
    try:
        return parse_config(raw)
    except ValueError as e:
        raise FatalError(f"{path}: {e}") from None


def parse_config(raw: Any) -> FleetConfig:
    """Raises ValueError naming the key."""
    values = _checked(FleetConfig, raw, "the fleet")
    if not isinstance(values.get("vms"), list):
        raise ValueError("vms must be a list")
    vms = tuple(_vm(one, f"vms[{i}]") for i, one in enumerate(values["vms"]))
    ids = [vm.id for vm in vms]
    if twice := sorted({i for i in ids if ids.count(i) > 1}):
        raise ValueError(f"vms: {twice[0]!r} stands there twice")
    if values.get("provider") is not None:
        values["provider"] = Provider(**_checked(Provider, values["provider"], "provider"))
    env = values.get("env", {})
    if not isinstance(env, dict) or not all(isinstance(v, str) for v in env.values()):
        raise ValueError("env must be an object of texts")
    backend = values.get("backend", "process")
    if backend not in ("process", "docker"):
        raise ValueError(f"backend is {backend!r}; it must be process or docker")
    if backend == "docker" and not values.get("cluster"):
        raise ValueError("backend is docker: cluster must say by which label its containers are known")
    try:
        return FleetConfig(**{**values, "vms": vms})
    except TypeError as e:
        raise ValueError(str(e).partition("() ")[2]) from None


def _vm(raw: Any, where: str) -> FleetVm:
    values = _checked(FleetVm, raw, where)
    if not values.get("id") or "/" in values["id"]:
        raise ValueError(f"{where}.id is {values.get('id')!r}; it must be a plain name")
    if values.get("kind", VmKind.HARVEST) not in set(VmKind):
        raise ValueError(f"{where}.kind is {values['kind']!r}; it must be one of {', '.join(VmKind)}")
    if values.get("life") is not None:
        values["life"] = Life.from_json(values["life"])
    return FleetVm(**values)


_NOT_ZERO = frozenset({"cores", "memory_mb", "core_scale", "vm_speedup", "speed"})


def _checked(cls: Any, raw: Any, where: str) -> dict[str, Any]:
    """The object's fields, none unknown, texts, switches and numbers as the class has them."""
    if not isinstance(raw, dict):
        raise ValueError(f"{where} must be an object")
    kinds = {f.name: f.type for f in dataclasses.fields(cls)}
    for key, value in raw.items():
        if key not in kinds:
            raise ValueError(f"{where} has an unknown key {key!r}; known are {', '.join(kinds)}")
        kind = kinds[key]
        if kind == "str" and not isinstance(value, str):
            raise ValueError(f"{where}: {key} is {value!r}; it must be a text")
        if kind == "bool" and not isinstance(value, bool):
            raise ValueError(f"{where}: {key} is {value!r}; it must be true or false")
        if kind in ("float", "int"):
            whole = kind == "int" and not isinstance(value, int)
            if isinstance(value, bool) or not isinstance(value, int | float) or whole or not math.isfinite(value):
                raise ValueError(f"{where}: {key} is {value!r}; it must be a {'whole ' if whole else ''}number")
            if value < 0 or (value == 0 and key in _NOT_ZERO):
                raise ValueError(f"{where}: {key} is {value!r}; it is too small")
    return dict(raw)
