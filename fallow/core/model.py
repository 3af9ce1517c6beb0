"""The values every part of Fallow speaks of: ids, actions, activations, outcomes, VMs.

All are frozen. Durations are seconds (`_s`), sizes mebibytes (`_mb`) or bytes (`_bytes`); a name that ends in `_mono_s`
is a moment on the process's own monotonic clock and never leaves the process.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import NewType

from fallow.core.attempt_waits import AttemptWaits
from fallow.core.value import value

ActivationId = NewType("ActivationId", str)  # 32 lower-case hex digits, minted by the API
VmId = NewType("VmId", str)  # one life of one VM: a VM that returns has a new id
ControllerId = NewType("ControllerId", str)
ContainerId = NewType("ContainerId", int)  # a counter within one invoker


class VmKind(StrEnum):
    """What a VM is sold as."""

    REGULAR = "regular"  # fixed size, never evicted
    HARVEST = "harvest"  # takes the free cores of its host, shrinks and grows, evicted with a notice
    SPOT = "spot"  # fixed size, evicted with a notice

    __hash__ = str.__hash__  # Enum's own is Python code, and kinds are keys on the hot path

    @property
    def evictable(self) -> bool:
        return self is not VmKind.REGULAR


class Status(IntEnum):
    """How an activation ended: OpenWhisk's `statusCode`."""

    SUCCESS = 0
    APPLICATION_ERROR = 1  # the function answered {"error": ...}
    DEVELOPER_ERROR = 2  # bad code, crash, time or memory limit
    WHISK_ERROR = 3  # the platform's fault

    @property
    def text(self) -> str:
        return ("success", "application error", "action developer error", "whisk internal error")[self]


@value(frozen=True, slots=True, kw_only=True)
class Resources:
    """An amount of CPU (cores as the VM counts them, emulated ones included) and memory."""

    cpu_cores: float
    memory_mb: float

    def __add__(self, other: Resources) -> Resources:
        return Resources(cpu_cores=self.cpu_cores + other.cpu_cores, memory_mb=self.memory_mb + other.memory_mb)


@value(frozen=True, slots=True, kw_only=True)
class ActionKey:
    """Names an action across its revisions; the unit of demand estimation and of homes on the ring."""

    namespace: str
    name: str  # "action" or "package/action"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@lru_cache(maxsize=4096)
def _action_key(namespace: str, name: str) -> ActionKey:
    """Every call asks for its action's key several times."""
    return ActionKey(namespace=namespace, name=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionSpec:
    """What placing and running need to know of a deployed action: small, the same for every call of a revision.

    The code itself is not here: an invoker fetches it by `code_digest` and keeps it.
    """

    namespace: str
    name: str  # "action" or "package/action"
    version: str  # shown to people, "0.0.1"
    revision: str  # changes at every PUT; a container serves one revision of one action only
    kind: str  # concrete runtime kind, such as "python:3"
    main: str = "main"
    binary: bool = False  # the code is a base64 zip
    code_digest: str = ""  # sha256 hex of the stored code; "" where there is none
    memory_mb: int = 256
    timeout_s: float = 60.0  # the limit of init and of run, each
    logs_mb: int = 10  # 0 collects none
    concurrency: int = 1  # calls at once in one container
    idempotent: bool = True  # may a started call be started again? annotation `idempotent`
    long: bool | None = None  # declared by annotation `long`; None = learn it
    app: str = ""  # the unit whose durations are learned: annotation `app`, else the package, else the action
    provide_api_key: bool = False
    init_env: tuple[tuple[str, str], ...] = ()  # parameters marked init:true, given to /init as environment
    image: str = ""  # of the container, for the kind "blackbox"; "" = the kind's own
    caller: str = ""  # the namespace that invokes it, where that is another than its own; "" = its own
    binding: str = ""  # "namespace/package": the package binding through which it was addressed

    @property
    def key(self) -> ActionKey:
        return _action_key(self.namespace, self.name)

    @property
    def app_key(self) -> tuple[str, str]:
        """Names the app across namespaces: (namespace, app)."""
        return (self.namespace, self.app or self.name)

    @property
    def caller_namespace(self) -> str:
        """Whose activation a call of it is: its records stand there."""
        return self.caller or self.namespace

    @property
    def container_kind(self) -> str:
        """What its container is started as: the kind, of a blackbox with its image."""
        return f"{self.kind}:{self.image}" if self.image else self.kind

    @property
    def container_key(self) -> tuple[str, str, str]:
        """Calls with equal keys may share a container: (its caller's namespace, full name, revision)."""
        if self.caller:  # never a container of another caller
            return (self.caller, f"/{self.namespace}/{self.name}", self.revision)
        return (self.namespace, self.name, self.revision)


@value(frozen=True, slots=True, kw_only=True)
class Activation:
    """One call, as the deciding parts see it. Arguments and results never enter core."""

    id: ActivationId
    action: ActionSpec
    blocking: bool  # a client is waiting for the answer
    durable: bool = False  # it has an entry in the stream, so every start needs the fence raised first
    attempts: int = 0  # the fence found when the entry was claimed: starts that an earlier controller may have made
    payload_bytes: int = 0  # size of the arguments, for the byte bound of the waiting room
    accepted_unix_ms: int = 0  # when the API accepted it, and when this controller took it up: for its story only
    arrived_unix_ms: int = 0


@value(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one attempt ended, measured where it ran. The result's bytes travel beside it, never in it."""

    status: Status
    wait_s: float = 0.0  # from arrival at the invoker to the start of init or run: queue and container start
    init_s: float | None = None  # None = the container was initialised before: a warm start
    run_s: float = 0.0
    cpu_s: float | None = None  # CPU time of init and run, in the VM's own cores x seconds; None = not measurable
    prewarmed: bool = False  # a cold start in a container that had been started ahead of time
    evicted: bool = False  # cut off by the end of its VM
    waits: AttemptWaits | None = None  # None = it waited for nothing, or its VM does not tell


@dataclass(frozen=True, slots=True, kw_only=True)
class VmInfo:
    """What does not change during one life of a VM."""

    id: VmId
    incarnation: str  # changes when the invoker's process is another one
    kind: VmKind
    speed: float = 1.0  # of one core, relative to a regular one
    price: float = 1.0  # of one core-second, relative to a regular one
    runtimes: tuple[str, ...] = ()  # kinds offered, such as "python:3"
    emulated: bool = False  # can be resized and evicted on request
    cpu_enforced: bool = False
    cpu_note: str = ""  # why CPU is not enforced, in words


@dataclass(frozen=True, slots=True, kw_only=True)
class VmReport:
    """What an invoker says of its VM, every second and at once when cores, notice or health changed.

    `used` counts what ran when the report was made: CPU is the maximum of the last five one-second samples, memory the
    maximum of that and of what running and starting containers reserve. It includes every dispatch of this controller
    up to number `seen`, so the controller adds its own bookings above that number.
    """

    capacity: Resources  # cores now, memory
    used: Resources
    running: int = 0  # activations inside a container
    queued: int = 0  # activations waiting in the invoker
    full: bool = False  # its queue is at its bound: not usable
    healthy: bool = True
    health_note: str = ""  # why not, in words
    notice_left_s: float | None = None  # time to the announced eviction; None = none announced
    seen: int = 0  # the last dispatch of this controller that the invoker had taken
    controllers: int = 1  # controllers that sent an activation here in the last 10 s
    warm: int = 0  # idle initialised containers
    # While an eviction is announced: what each running attempt has used, CPU in the VM's cores x seconds.
    used_by: tuple[tuple[ActivationId, int, float], ...] = ()


class ReturnReason(StrEnum):
    """Why an invoker gave a dispatch back unstarted (that is not an attempt)."""

    FULL = "full"
    DRAINING = "draining"
    UNHEALTHY = "unhealthy"
    WAITED = "waited too long in the VM's queue"
    UNREACHABLE = "unreachable"  # the send queue of the link was full or closed
    UNSUPPORTED = "runtime not offered"


class RefusalReason(StrEnum):
    """Why a call was never placed; the API turns it into a status."""

    NO_VM = "no VM is usable"
    OVERLOADED = "every VM is full and the waiting room is full"
    WAITED = "no VM had room in time"
    NO_RUNTIME = "no VM offers the runtime"
    FORBIDDEN = "the eviction strategy allows none of the VMs that are there: a long call may need a regular one"
    TOO_LARGE = "no VM that could take it has as much memory as the action's limit"


@value(frozen=True, slots=True, kw_only=True)
class Considered:
    """One VM a placement looked at."""

    vm_id: VmId
    kind: VmKind
    score: float  # the policy's own; lower is better
    fits: bool
    note: str = ""


@value(frozen=True, slots=True, kw_only=True)
class Decision:
    """A placement with its reasons."""

    vm_id: VmId | None  # None = no VM is usable for this call now
    fits: bool  # the VM has room; False = least busy of the busy
    reason: str  # one clause, for `fallow why`
    considered: tuple[Considered, ...] = ()
    cpu_cores: float = 1.0  # what the call books on the VM
    memory_mb: float = 0.0
    cap_cores: float = 1.0  # the weight of its CPU shares
