"""Settings of every process: dataclasses whose fields are the keys. One TOML file < FALLOW_* environment < flags.

All times are real seconds: whoever starts a cluster at a time compression divides before it passes them on.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fallow.core.model import VmKind
from fallow.core.throttle import QUOTAS
from fallow.infra.log import FORMATS, LEVELS
from fallow.infra.tasks import FatalError


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonSettings:
    redis_url: str = "redis://127.0.0.1:6379/0"
    join_secret: str = ""  # shared by controllers and invokers
    log_level: str = "info"
    log_format: str = "json"  # json | console


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerSettings(CommonSettings):
    controller_id: str = ""  # "" makes one
    host: str = "127.0.0.1"
    port: int = 3233  # 0 picks one
    link_host: str = "127.0.0.1"
    link_port: int = 0  # the internal listener: link, metrics, health; 0 picks one
    advertise_host: str = ""  # the name or address by which invokers and actions reach it; "" = where it listens
    actions_url: str = ""  # by which actions reach the API; "" = where it is advertised
    operator_key: str = ""  # uuid:64 letters and digits
    guest_key: str = ""  # granted on the namespace guest at the start; "" = none
    policy: str = "mws"
    strategy: str = "prefer-regular"
    seed: int = 0
    grace_s: float = 30.0  # notice before an eviction; what is longer is long
    lost_after_s: float = 5.0  # no report for so long: the VM is lost
    off_ring_after_s: float = 10.0
    max_attempts: int = 3
    waiting_calls: int = 2000  # bound of the waiting room
    waiting_bytes: int = 64 << 20
    max_wait_s: float = 30.0  # in the waiting room, then 503 (blocking calls)
    max_queue_wait_s: float = 30.0  # in the queue of a VM: what the invokers' setting of this name says
    in_flight_calls: int = 20_000  # answered but unrecorded outcomes count too
    in_flight_bytes: int = 256 << 20
    stream_entries: int = 100_000
    stream_bytes: int = 256 << 20
    record_age_s: float = 7 * 86400.0
    record_count: int = 1_000_000
    record_bytes: int = 512 << 20
    lease_s: float = 5.0
    target_cores: float = 0.0  # of the live harvest VMs; 0 = no resource monitor
    monitor_period_s: float = 30.0
    vm_boot_s: float = 15.0  # what a VM may take from the order to its Hello: the monitor waits so long
    provider_url: str = ""  # unix:///path of the fleet's socket; "" = no provider
    max_memory_mb: int = 2048  # the most an action may ask for
    max_timeout_s: float = 300.0
    deprecated_kinds: str = ""  # "python:3.9,...": actions of them may be read and deleted, neither put nor invoked
    allow_well_known_keys: bool = False  # those in OpenWhisk's repository: for clients that have them built in
    limits: str = "wide"  # what a namespace may do where nothing else is set for it: wide | openwhisk


@dataclass(frozen=True, slots=True, kw_only=True)
class InvokerSettings(CommonSettings):
    vm_id: str = "vm1"
    kind: str = "regular"
    speed: float = 1.0
    price: float = 1.0
    agent_socket: str = ""  # unix socket of this VM's agent
    container_cgroups: str = ""  # directories, colon-separated: what starts containers enters them
    run_dir: str = ""  # sockets and code of containers; short, because unix socket paths are
    backend: str = "process"  # what containers are: process | docker
    cluster: str = "local"  # Docker: the label by which a cluster knows its containers
    cgroup_parent: str = ""  # Docker: the VM's cgroup as Docker names it; "" = none of its own
    docker_network: str = ""  # Docker: the network of the containers; "" = the engine's default bridge
    images: str = "fallow/action-python,fallow/action-nodejs,fallow/action-python-libs"  # Docker: runtimes
    pause_grace_s: float = 10.0  # Docker: a container that rests so long is frozen until its next call
    keep_alive_s: float = 600.0  # idle containers
    prewarm: str = ""  # "python:3=2@256,..." kind = count @ memory MB
    queue_calls: int = 256  # bound of the VM's queue
    queue_bytes: int = 32 << 20
    max_queue_wait_s: float = 30.0  # then the call is returned unstarted
    reserve_after_s: float = 1.0  # once the oldest waited so long, freed memory is kept for it
    max_starts: int = 4  # containers starting at once
    stop_grace_s: float = 5.0  # a stopping invoker takes nothing new and lets what runs go on for so long


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    vm_id: str = "vm1"
    kind: str = "harvest"
    speed: float = 1.0
    price: float = 1.0
    cores: float = 2.0
    memory_mb: float = 2048.0
    core_scale: float = 1.0  # real cores per emulated core
    notice_s: float = 30.0  # default notice of an eviction
    link_loss_s: float = 5.5  # an evicted VM is frozen so long before it is killed
    life: str = ""  # JSON file of the VM's life (fallow.traces.vms.Life): the trace it plays
    hold: bool = False  # wait for /v1/play before playing
    vm_speedup: float = 1.0
    socket: str = ""
    events: str = ""  # JSON lines file of what happened to the VM
    cgroup_root: str = "auto"  # auto | none | a name under which the VM's cgroup is made
    backend: str = "process"  # what containers are: process | docker
    cluster: str = "local"  # Docker: the label by which a cluster knows its containers
    lease_dir: str = ""  # Docker: shared by the VMs of one engine; who finds a VM's lease lapsed removes its containers
    invoker: str = ""  # command line to start, "" = none
    stop_grace_s: float = 5.0  # what the invokers' setting of this name says
    log_level: str = "info"
    log_format: str = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings(AgentSettings):
    """Of a VM as a service of compose or Swarm: its agents, one life after the other."""

    vm_id: str = ""  # "" = the host's name; later lives are called <vm_id>.2, .3, ...
    cores: float = 2.0  # 0 = what this machine has
    memory_mb: float = 2048.0  # 0 = four fifths of what this machine has
    socket: str = "/run/fallow/agent.sock"
    lives: str = ""  # JSON file: what the VM is, its lives, when they repeat (harvest_agent.plan); "" = always there
    return_s: float = 5.0  # an evicted VM stays away at least so long


# Variables that carry something else than a setting: client selection, state folder, what a parent tells a child.
RESERVED_ENV = frozenset(
    {
        "FALLOW_URL",
        "FALLOW_AUTH",
        "FALLOW_OPERATOR_AUTH",
        "FALLOW_STATE_DIR",
        "FALLOW_PUBLIC_URL",
        "FALLOW_CONFIG",
        "FALLOW_PARENT_DEATH",
        "FALLOW_IN_SCOPE",
    }
)
_ENV_PREFIX = "FALLOW_"
_FILE_SUFFIX = "_FILE"  # FALLOW_JOIN_SECRET_FILE names the file that holds the secret
_FROM_FILES = frozenset({"redis_url", "join_secret", "operator_key", "guest_key", "cluster"})
_COMMON = "common"  # the table for keys that several sections share
_SECTIONS: Mapping[str, type] = {
    _COMMON: CommonSettings,
    "controller": ControllerSettings,
    "invoker": InvokerSettings,
    "agent": AgentSettings,
    "service": ServiceSettings,
}
_CHOICES: Mapping[str, Collection[str]] = {
    "log_level": tuple(LEVELS),
    "log_format": FORMATS,
    "kind": tuple(kind.value for kind in VmKind),
    "backend": ("process", "docker"),
    "limits": tuple(QUOTAS),
}
_MAX_PORT = 65535
_BOOLS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}

S = TypeVar("S")


class SettingsError(FatalError):
    """A key or value is wrong. The text names the key, the value, where it came from, and the nearest known key."""


def load(cls: type[S], *, section: str, file: Path | None, env: Mapping[str, str], flags: Mapping[str, object]) -> S:
    """Reads the settings of `cls`: flags over `FALLOW_<FIELD>` over the file's table [section] over its table [common].

    A flag that is None was not given. A secret may be given as `FALLOW_<FIELD>_FILE`, the file that holds it. Keys of
    other sections may stand in the file and in the environment, since one file and one environment serve every process
    of a machine; a key that no section knows is an error. Raises SettingsError.
    """
    types: dict[str, type] = typing.get_type_hints(cls)
    values: dict[str, object] = {}
    if file is not None:
        for table, key, raw in _from_file(file, section, cls):
            values[key] = _typed(types[key], key, raw, f"{file} [{table}]", from_text=False)
    known = _fields(cls).union(*map(_fields, _SECTIONS.values()))
    for name in sorted(env):
        if not name.startswith(_ENV_PREFIX) or name in RESERVED_ENV:
            continue
        key, secret = _key_of(name)
        if key not in known:
            raise _unknown(name, "the environment", [_ENV_PREFIX + k.upper() for k in known])
        if key in types:
            text = _secret_of(name, env) if secret else env[name]
            values[key] = _typed(types[key], name, text, "the environment", from_text=True)
    for key, raw in flags.items():
        if key not in types:
            raise _unknown(key, "the flags", types)
        if raw is not None:
            values[key] = _typed(types[key], key, raw, "the flags", from_text=isinstance(raw, str))
    return cls(**values)


def _key_of(name: str) -> tuple[str, bool]:
    """The setting that a variable is for, and whether the variable names a file with its value."""
    key = name.removeprefix(_ENV_PREFIX).lower()
    secret = key.removesuffix(_FILE_SUFFIX.lower())
    return (secret, True) if secret != key and secret in _FROM_FILES else (key, False)


def _secret_of(name: str, env: Mapping[str, str]) -> str:
    """Raises SettingsError where the file cannot be read, or the value is given itself, too."""
    plain = name.removesuffix(_FILE_SUFFIX)
    if plain in env:
        raise SettingsError(f"{plain} and {name} are both set in the environment; give one of them")
    try:
        return Path(env[name]).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise SettingsError(f"{name} is {env[name]!r} in the environment; it cannot be read: {e}") from None


def _fields(cls: Any) -> frozenset[str]:
    return frozenset(f.name for f in dataclasses.fields(cls))


def _from_file(file: Path, section: str, cls: type) -> list[tuple[str, str, object]]:
    """(table, key, value) of what the file says for `cls`, weakest first; every table is checked for unknown keys."""
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as e:
        raise SettingsError(f"cannot read the settings file {file}: {e.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise SettingsError(f"{file} is no TOML file: {e}") from None
    sections = {**_SECTIONS, section: cls}
    found: dict[str, list[tuple[str, str, object]]] = {_COMMON: [], section: []}
    for table, content in tables.items():
        if table not in sections:
            raise _unknown(table, str(file), sections)
        if not isinstance(content, dict):
            raise SettingsError(f"{table} in {file} is {content!r}; it must be a table [{table}]")
        for key, raw in content.items():
            if key not in _fields(sections[table]):
                raise _unknown(key, f"{file} [{table}]", _fields(sections[table]))
            if table in found and key in _fields(cls):
                found[table].append((table, key, raw))
    return [*found[_COMMON], *(found[section] if section != _COMMON else [])]


def _unknown(key: str, source: str, known: Collection[str]) -> SettingsError:
    nearest = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.0)
    return SettingsError(f"unknown setting {key} in {source}; the nearest known one is {nearest[0]}")


def _typed(kind: type, key: str, raw: object, source: str, *, from_text: bool) -> object:
    value = _parsed(kind, raw) if from_text and isinstance(raw, str) else raw
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise SettingsError(f"{key} is {raw!r} in {source}; it must be {_KIND_WORDS[kind]}")
    field = key.removeprefix(_ENV_PREFIX).lower()
    if isinstance(value, (int, float)) and not (math.isfinite(value) and value >= 0):
        raise SettingsError(f"{key} is {raw!r} in {source}; it must not be negative or infinite")
    if field.rpartition("_")[2] == "port" and isinstance(value, int) and value > _MAX_PORT:
        raise SettingsError(f"{key} is {raw!r} in {source}; a port is at most {_MAX_PORT}")
    if field in _CHOICES and value not in _CHOICES[field]:
        raise SettingsError(f"{key} is {raw!r} in {source}; it must be one of {', '.join(_CHOICES[field])}")
    return value


_KIND_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def _parsed(kind: type, text: str) -> object:
    """The value a text stands for, or the text itself where it stands for none of this kind."""
    try:
        if kind is bool:
            return _BOOLS.get(text.strip().lower(), text)
        return kind(text)
    except ValueError:
        return text
