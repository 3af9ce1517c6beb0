"""What the invoker's brain is told (events) and what it answers (instructions)."""

from __future__ import annotations

from dataclasses import dataclass

from fallow.core.attempt_waits import AttemptWaits
from fallow.core.model import ActionSpec, ActivationId, ContainerId, ControllerId, Resources, ReturnReason
from fallow.core.value import value

# ---- events ----------------------------------------------------------------------------------------------------------


@value(frozen=True, slots=True, kw_only=True)
class RunRequested:
    """A controller dispatched a call here."""

    controller_id: ControllerId
    activation_id: ActivationId
    attempt: int
    action: ActionSpec
    payload_bytes: int
    cap_cores: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStarted:
    """The container's server answers; nothing is initialised in it yet."""

    container_id: ContainerId


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStartFailed:
    """`developer_error` is what the activation says where the action itself is at fault: no other start is tried, for
    this call or for those that wait for such a container."""

    container_id: ContainerId
    error: str
    developer_error: str = ""


@value(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """Init and run are over, logs are collected. `keep` = the container may serve again."""

    container_id: ContainerId
    activation_id: ActivationId
    keep: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerDied:
    """A container ended by itself while idle or prewarmed (one that dies in a run ends by RunEnded(keep=False))."""

    container_id: ContainerId


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerDestroyed:
    """Answers DestroyContainer: its memory is free."""

    container_id: ContainerId


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested:
    activation_id: ActivationId
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VmMeasured:
    """A one-second sample of the VM: capacity now, use of its containers; CPU in the VM's cores.

    `idle_mb` is the resident memory of idle containers measured since the last sample; others stay as they were.
    """

    capacity: Resources
    used: Resources
    idle_mb: tuple[tuple[ContainerId, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeChanged:
    """An eviction is announced, moved or withdrawn (None)."""

    left_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """Time passed. Sent about four times a second."""


PoolEvent = (
    RunRequested
    | ContainerStarted
    | ContainerStartFailed
    | RunEnded
    | ContainerDied
    | ContainerDestroyed
    | CancelRequested
    | VmMeasured
    | NoticeChanged
    | Ticked
)

# ---- instructions ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StartContainer:
    """Start an empty container of this kind and memory; answer ContainerStarted or ContainerStartFailed."""

    container_id: ContainerId
    kind: str
    memory_mb: int
    cap_cores: float
    prewarm: bool


@value(frozen=True, slots=True, kw_only=True)
class RunInContainer:
    """Run the call there; `init` = first send /init with the action's code. Answer RunEnded."""

    container_id: ContainerId
    activation_id: ActivationId
    attempt: int
    init: bool
    prewarmed: bool
    waited: AttemptWaits | None = None  # None = it starts at once


@dataclass(frozen=True, slots=True, kw_only=True)
class DestroyContainer:
    """Remove it, whatever it does. Answer ContainerDestroyed."""

    container_id: ContainerId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnUnstarted:
    """Give the call back to its controller: it never started here."""

    controller_id: ControllerId
    activation_id: ActivationId
    attempt: int
    reason: ReturnReason
    waited: AttemptWaits | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailUnstarted:
    """No container could be made for this call: a final whisk error with this text, or the developer error given."""

    controller_id: ControllerId
    activation_id: ActivationId
    attempt: int
    error: str
    developer_error: str = ""
    waited: AttemptWaits | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AbandonRun:
    """Cancelled while running: the container is destroyed, no result is sent, no record written."""

    container_id: ContainerId
    activation_id: ActivationId
    attempt: int


PoolInstruction = StartContainer | RunInContainer | DestroyContainer | ReturnUnstarted | FailUnstarted | AbandonRun
