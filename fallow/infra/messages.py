"""What controllers and invokers say to each other over the link.

A message is a frozen dataclass; the codec sends it as `[tag, field, field, ...]` in declaration order. The order is the
wire format: fields are only ever appended, with a default, and a reader ignores what it does not know. So versions
N and N-1 understand each other. Durations travel as durations left, never as moments of a clock; `*_unix_ms` are
wall-clock stamps for records.
"""

from __future__ import annotations

from dataclasses import dataclass

from fallow.core.value import value

PROTOCOL_MIN = 1
PROTOCOL_MAX = 1


# ---- invoker to controller ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`fallow.core.model.VmReport` on the wire."""

    cores: float
    memory_mb: float
    cpu_used: float
    memory_used_mb: float
    running: int = 0
    queued: int = 0
    full: bool = False
    healthy: bool = True
    health_note: str = ""
    notice_left_s: float | None = None
    seen: int = 0
    controllers: int = 1
    warm: int = 0
    used_by: tuple[tuple[str, int, float], ...] = ()  # activation, attempt, cpu_s: of running attempts, under a notice


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The invoker's first message on a link. `holds`: the [activation id, attempt] pairs it has for this controller."""

    protocol_min: int
    protocol_max: int
    vm_id: str
    incarnation: str
    kind: str
    speed: float
    price: float
    runtimes: list[str]
    report: Report
    holds: list[tuple[str, int]]
    emulated: bool = False
    cpu_enforced: bool = False
    cpu_note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """A dispatch given back unstarted. `reason` is a ReturnReason value."""

    activation_id: str
    attempt: int
    reason: str
    waits: bytes = b""  # as of Result


@value(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of an attempt. `completed` joins the Completed message when nothing separates the two."""

    activation_id: str
    attempt: int
    status: int  # fallow.core.model.Status
    result: bytes  # JSON text, as the function gave it
    start_unix_ms: int
    end_unix_ms: int
    wait_s: float
    init_s: float | None
    run_s: float
    cpu_s: float | None
    prewarmed: bool = False
    timed_out: bool = False
    evicted: bool = False
    completed: bool = False
    waits: bytes = b""  # an encoded AttemptWaits; empty = none, as with most calls


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """The slot is free: logs are collected. Without an earlier Result: the attempt ended with nothing to say."""

    activation_id: str
    attempt: int
    cpu_s: float | None = None  # of a cancelled attempt: CPU time in the VM's cores x seconds until then


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """These activations' final records stand in the store (one message per flush).

    `fenced`: [activation id, attempt] pairs whose records were refused, because a newer attempt's is to be written.
    """

    activation_ids: list[str]
    fenced: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandDone:
    """Answers VmCommand. `error` in words, "" = done."""

    command_id: int
    error: str = ""


# ---- controller to invoker ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """Answers Hello. `protocol` is the version spoken from here on; `cancel` are held attempts to drop."""

    protocol: int
    controller_id: str
    cancel: list[tuple[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """Answers a Hello that cannot be accepted; the link is closed after it."""

    reason: str


@value(frozen=True, slots=True, kw_only=True)
class Run:
    """Start a call. `action` is an encoded ActionSpec: the same bytes for every call of a revision."""

    activation_id: str
    attempt: int
    seq: int
    action: bytes
    args: bytes  # JSON text: parameters merged
    cap_cores: float
    subject: str
    transaction_id: str
    accepted_unix_ms: int  # when the API accepted the call: the record's waitTime counts from here
    blocking: bool = True
    traceparent: str = ""
    cause: str = ""
    api_key: str = ""  # "uuid:key", only for actions with provide-api-key
    caused_by: str = ""  # what kind of activation `cause` is, where records say so: "sequence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    activation_id: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VmCommand:
    """An operator's wish, for the agent of an emulated VM. verb: "resize" (cores), "evict" (notice_s), "withdraw"."""

    command_id: int
    verb: str
    cores: float | None = None
    notice_s: float | None = None


FromInvoker = Hello | Report | Returned | Result | Completed | Recorded | CommandDone
FromController = Welcome | Rejected | Run | Cancel | VmCommand
Message = FromInvoker | FromController
