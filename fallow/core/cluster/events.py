"""What the controller's brain is told (events, past facts) and what it answers (instructions, imperatives)."""

from __future__ import annotations

from dataclasses import dataclass

from fallow.core.attempt_waits import AttemptWaits
from fallow.core.model import (
    Activation,
    ActivationId,
    Outcome,
    RefusalReason,
    ReturnReason,
    Status,
    VmId,
    VmInfo,
    VmReport,
)
from fallow.core.value import value

# ---- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class VmJoined:
    """An invoker's Hello was accepted: a new VM, or a known one whose link is back.

    `holds` are the (activation, attempt) pairs it still has; those that this controller no longer wants are cancelled.
    """

    vm: VmInfo
    report: VmReport
    holds: tuple[tuple[ActivationId, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VmReported:
    vm_id: VmId
    report: VmReport


@dataclass(frozen=True, slots=True, kw_only=True)
class VmDisconnected:
    """The link closed. Not yet lost: the invoker may dial again."""

    vm_id: VmId


@value(frozen=True, slots=True, kw_only=True)
class ActivationArrived:
    """A call came from the API, or an entry was read or claimed from the stream."""

    activation: Activation


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationMadeDurable:
    """A blocking call outlived its wait and was entered in the stream, with its running attempt.

    `running_attempt` is what the entry says (0 = none started); None = the present attempt if it is on a VM, else none.
    """

    activation_id: ActivationId
    running_attempt: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceRaised:
    activation_id: ActivationId
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceRefused:
    """`recorded`: a final record exists and is the answer; else another controller raised the fence and owns it."""

    activation_id: ActivationId
    attempt: int
    recorded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptReturned:
    """Given back unstarted: not an attempt."""

    vm_id: VmId
    activation_id: ActivationId
    attempt: int
    reason: ReturnReason
    waits: AttemptWaits | None = None  # what it waited for there


@value(frozen=True, slots=True, kw_only=True)
class AttemptFinished:
    """The result is known; the container may still be busy collecting logs."""

    vm_id: VmId
    activation_id: ActivationId
    attempt: int
    outcome: Outcome


@value(frozen=True, slots=True, kw_only=True)
class AttemptCompleted:
    """The slot is free again. Comes once after AttemptFinished, or alone when an attempt ended without a result."""

    vm_id: VmId
    activation_id: ActivationId
    attempt: int
    cpu_s: float | None = None  # what a cancelled attempt had used, in the VM's cores x seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllersChanged:
    live: int  # controllers that hold a lease, this one included; at least 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """Time passed: nothing else happened. Sent about four times a second."""


ClusterEvent = (
    VmJoined
    | VmReported
    | VmDisconnected
    | ActivationArrived
    | ActivationMadeDurable
    | FenceRaised
    | FenceRefused
    | AttemptReturned
    | AttemptFinished
    | AttemptCompleted
    | ControllersChanged
    | Ticked
)

# ---- instructions ----------------------------------------------------------------------------------------------------


@value(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """Send the call to this VM as this attempt. `seq` counts this controller's dispatches to this VM, from 1."""

    vm_id: VmId
    activation_id: ActivationId
    attempt: int
    seq: int
    cap_cores: float
    long: bool = False  # what the strategy took it for


@dataclass(frozen=True, slots=True, kw_only=True)
class RaiseFence:
    """Raise the fence from `expect` (0 = absent) to `attempt`; answer FenceRaised or FenceRefused, however late."""

    activation_id: ActivationId
    expect: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAttempt:
    """Tell this VM that the attempt is not wanted any more: its result would be fenced off."""

    vm_id: VmId
    activation_id: ActivationId
    attempt: int


@value(frozen=True, slots=True, kw_only=True)
class AcceptOutcome:
    """This attempt's result is the activation's answer: hand it to whoever waits."""

    vm_id: VmId
    activation_id: ActivationId
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardOutcome:
    """A late result of an attempt that was fenced off: count it, drop its bytes."""

    vm_id: VmId
    activation_id: ActivationId
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclude:
    """No attempt will answer: the controller itself writes this final record and answers with it.

    `fence` is the attempt number the record is written under.
    """

    activation_id: ActivationId
    fence: int
    status: Status
    error: str  # the text of result.error
    evicted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """The call was never placed and leaves no record (a durable one gets a final error record instead, by Conclude)."""

    activation_id: ActivationId
    reason: RefusalReason
    retry_after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """The call is answered by a record that exists already (`recorded`), or belongs to another controller."""

    activation_id: ActivationId
    recorded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclareLost:
    """This VM is lost: write the records of its outcomes that were never confirmed as recorded, then close its link.

    `keep_link`: the VM is back as another process over a new link, which stays open; the records are to be written.
    """

    vm_id: VmId
    keep_link: bool = False


ClusterInstruction = (
    Dispatch | RaiseFence | CancelAttempt | AcceptOutcome | DiscardOutcome | Conclude | Refuse | Forget | DeclareLost
)
