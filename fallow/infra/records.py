"""What the store keeps: documents of entities, activation records, stream entries, leases."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fallow.core.model import ActionSpec
from fallow.core.value import value

RIGHTS = ("READ", "PUT", "DELETE", "ACTIVATE")  # that a key may have


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionDoc:
    """A deployed action as the API shows it. The code is stored apart, by digest."""

    namespace: str
    name: str  # "action" or "package/action"
    version: str
    revision: str  # set by the store at each put; passing it back guards against concurrent changes
    updated_unix_ms: int
    kind: str
    binary: bool = False
    main: str | None = None
    image: str | None = None  # blackbox only
    code_digest: str = ""
    code_bytes: int = 0
    publish: bool = False
    parameters: list[dict[str, Any]] = field(default_factory=list)  # [{"key", "value", "init"?}]
    annotations: list[dict[str, Any]] = field(default_factory=list)  # [{"key", "value"}]
    timeout_ms: int = 60_000
    memory_mb: int = 256
    logs_mb: int = 10
    concurrency: int = 1
    components: list[str] = field(default_factory=list)  # of a sequence: "namespace/[package/]action"
    instances: int | None = None  # the most containers at once that the caller asks for; None = not given


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageDoc:
    """A package, or where `binding` is given, a binding to one."""

    namespace: str
    name: str
    version: str
    revision: str  # as of ActionDoc
    updated_unix_ms: int
    publish: bool = False
    parameters: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    binding: str = ""  # "namespace/package" of the package it stands for


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerDoc:
    """A trigger, and the rules that hear of it."""

    namespace: str
    name: str
    version: str
    revision: str
    updated_unix_ms: int
    publish: bool = False
    parameters: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    # Rule name to {"action": "namespace/[package/]action", "active": bool}: a fire needs no more than this document.
    rules: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleDoc:
    """A rule. Whether it is active stands in its trigger's document: without the trigger it is not."""

    namespace: str
    name: str
    version: str
    revision: str
    updated_unix_ms: int
    trigger: str  # "namespace/trigger"
    action: str  # "namespace/[package/]action"
    publish: bool = False
    annotations: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a key belongs to, and what may be done with it."""

    namespace: str
    subject: str
    uuid: str
    rights: tuple[str, ...] = RIGHTS


@value(frozen=True, slots=True, kw_only=True)
class Record:
    """A final activation record. `result` is JSON text; `logs` are finished log lines."""

    activation_id: str
    namespace: str
    name: str  # "action" or "package/action"
    version: str
    subject: str
    attempt: int
    start_unix_ms: int
    end_unix_ms: int
    status: int  # fallow.core.model.Status
    result: bytes
    logs: list[str]
    kind: str
    timeout_ms: int
    memory_mb: int
    logs_mb: int
    concurrency: int
    wait_ms: int | None  # from acceptance to the start; None = it was not started here, or not at all
    init_ms: int | None
    run_ms: float | None  # None = no attempt said
    cpu_ms: float | None
    timed_out: bool = False
    prewarmed: bool = False
    logs_missing: bool = False  # written by the controller because the VM died first
    evicted: bool = False
    vm_id: str = ""
    vm_kind: str = ""
    cause: str = ""
    transaction_id: str = ""
    accepted_unix_ms: int = 0
    waits: bytes = b""  # an encoded AttemptWaits (codec.decode_waits); empty = none, or its VM does not tell
    vm_price: float | None = None  # of one core-second there, relative to a regular VM; None = not told
    vm_speed: float | None = None  # of one core there, relative to a regular VM's
    action_namespace: str = ""  # of an action of another namespace than the caller's; "" = the caller's own
    binding: str = ""  # "namespace/package": the binding through which it was invoked
    caused_by: str = ""  # "sequence" where `cause` is one
    topmost: bool | None = None  # of a sequence or composition: nothing caused it; None = it is neither
    conductor: bool = False
    duration_ms: int | None = None  # where it is not end minus start: a sequence's is the sum of its components


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEntry:
    """An accepted asynchronous call. `entry_id` is set by the store."""

    activation_id: str
    action: ActionSpec  # as it was when the call was accepted
    args: bytes
    subject: str
    transaction_id: str
    accepted_unix_ms: int
    traceparent: str = ""
    cause: str = ""
    running_attempt: int = 0  # a blocking call that outlived its wait: the attempt its controller has running
    controller_id: str = ""  # ... and that controller
    entry_id: str = ""
    attempts: int = 0  # on a claimed entry: the fence found in the store (0 = never started)
    api_key: str = ""
    caused_by: str = ""  # as of Record
    components: list[str] = field(default_factory=list)  # of a sequence, as they were when the call was accepted
    composition: str = ""  # "sequence" | "conductor" | "builtin": the controller runs it itself; "" = an invoker does


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerLease:
    """A live controller, for invokers to dial and peers to count."""

    controller_id: str
    link_url: str  # ws://host:port/link
    api_url: str
