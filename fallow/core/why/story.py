"""The story of an activation: what was considered, chosen, waited for, moved, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum

from fallow.core.attempt_waits import AttemptWaits
from fallow.core.model import ActionSpec, Activation, ActivationId, Outcome, VmId
from fallow.core.value import value
from fallow.core.why.causes import Cause, Spent
from fallow.core.why.placement import PassedOver, Placement

STEPS_KEPT = 64  # of one activation; of a longer story the middle is left out


class StepKind(StrEnum):
    """What happened in a step."""

    PLACED = "placed"
    WAITED = "waited"
    RETURNED = "returned"
    NOTICE = "notice"  # an eviction of its VM was announced, moved or called off
    CORES = "cores"  # its VM shrank or grew
    CUT_OFF = "cut off"
    FENCE_ASKED = "fence asked"
    FENCE_RAISED = "fence raised"
    DURABLE = "made durable"
    FINISHED = "finished"
    DISCARDED = "late result discarded"
    CONCLUDED = "concluded"
    REFUSED = "refused"
    FORGOTTEN = "forgotten"

    __hash__ = str.__hash__  # Enum's own is Python code, and a step of every call is looked up


class _Phase(Enum):
    """What a call's time is spent on until the next step that changes it."""

    PLACING = 0  # takes no time
    ROOM = 1
    STORE = 2
    ON_VM = 3
    ENDED = 4


_PHASES = {
    StepKind.PLACED: _Phase.ON_VM,
    StepKind.WAITED: _Phase.ROOM,
    StepKind.RETURNED: _Phase.PLACING,
    StepKind.CUT_OFF: _Phase.PLACING,
    StepKind.FENCE_ASKED: _Phase.STORE,
    StepKind.FENCE_RAISED: _Phase.PLACING,
    StepKind.FINISHED: _Phase.ENDED,
    StepKind.CONCLUDED: _Phase.ENDED,
    StepKind.REFUSED: _Phase.ENDED,
    StepKind.FORGOTTEN: _Phase.ENDED,
}
_CAUSES = {_Phase.ROOM: Cause.ROOM, _Phase.STORE: Cause.STORE, _Phase.PLACING: Cause.WAY}


@value(frozen=True, slots=True, kw_only=True)
class CoresChange:
    before: float
    after: float


# What a step tells beside its note: PLACED a Placement, WAITED the VMs passed over, FINISHED an Outcome, RETURNED an
# AttemptWaits, CORES a CoresChange.
Detail = Placement | Outcome | AttemptWaits | CoresChange | tuple[PassedOver, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryStep:
    after_s: float  # since the call arrived at this controller
    what: StepKind
    attempt: int
    vm_id: VmId | None
    note: str  # one clause: the reason
    detail: Detail = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOffUse:
    """What an attempt that was cut off had used when its VM last told."""

    attempt: int
    vm_id: VmId
    cpu_s: float  # in the VM's cores x seconds
    after_s: float  # when it was told, since the call arrived here


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """As one controller remembers it."""

    activation_id: ActivationId
    action: ActionSpec
    blocking: bool
    durable: bool
    attempts: int  # the number of the last attempt
    ended: bool
    accepted_unix_ms: int  # by the API
    arrived_unix_ms: int  # at this controller
    steps: tuple[StoryStep, ...]
    left_out: int  # steps from the middle that were not kept
    spent: Spent  # from the arrival here to the answer, or to now
    cut_off_use: tuple[CutOffUse, ...]


class StoryLog:
    """Collects one activation's steps; cheap on the hot path, turned into a Story only when somebody asks."""

    __slots__ = (
        "_activation",
        "_arrived_s",
        "_final",
        "_left_out",
        "_phase",
        "_since_s",
        "_spent",
        "_steps",
        "_used",
        "attempt",
        "durable",
        "ended",
    )

    def __init__(self, activation: Activation, arrived_s: float) -> None:
        self._activation = activation
        self._arrived_s = self._since_s = arrived_s
        self._steps: list[tuple[float, StepKind, int, VmId | None, str, Detail]] = []
        self._left_out = 0
        self._phase = _Phase.PLACING
        self._spent: Spent | None = None  # of what is over, but for the attempt that answered
        self._final: tuple[float, Outcome] | None = None  # that one: its time on its VM, and its outcome
        self._used: dict[tuple[int, VmId], tuple[float, float]] | None = None
        self.attempt = 0
        self.durable = activation.durable
        self.ended = False

    def add(
        self, now_s: float, what: StepKind, vm_id: VmId | None = None, note: str = "", detail: Detail = None
    ) -> None:
        phase = _PHASES.get(what)
        if phase is not None and self._phase is not _Phase.ENDED:
            if isinstance(detail, Outcome):
                self._final = (now_s - self._since_s, detail)  # told apart only when somebody asks
            elif now_s > self._since_s:
                self._charge(now_s, what, detail)
            self._phase, self._since_s = phase, now_s
        if len(self._steps) == STEPS_KEPT:
            del self._steps[STEPS_KEPT // 2]
            self._left_out += 1
        self._steps.append((now_s, what, self.attempt, vm_id, note, detail))

    def _charge(self, now_s: float, what: StepKind, detail: Detail) -> None:
        """Sum up the phase that this step ends."""
        span_s = now_s - self._since_s
        if self._spent is None:
            self._spent = Spent()
        if self._phase is not _Phase.ON_VM:
            self._spent.add(_CAUSES[self._phase], span_s)
        elif what is StepKind.CUT_OFF:
            self._spent.add(Cause.CUT_OFF, span_s)
        else:
            self._spent.add_on_vm(span_s, None, detail if isinstance(detail, AttemptWaits) else None)

    def used(self, now_s: float, attempt: int, vm_id: VmId, cpu_s: float) -> None:
        """An attempt has used so much so far; told only of those that are, or are about to be, cut off."""
        if self._used is None:
            self._used = {}
        self._used[attempt, vm_id] = (cpu_s, now_s)

    def story(self, now_s: float | None = None) -> Story:
        """Told now; None = sums up to the last step."""
        return Story(
            activation_id=self._activation.id,
            action=self._activation.action,
            blocking=self._activation.blocking,
            durable=self.durable,
            attempts=self.attempt,
            ended=self.ended or self._phase is _Phase.ENDED,
            accepted_unix_ms=self._activation.accepted_unix_ms,
            arrived_unix_ms=self._activation.arrived_unix_ms,
            steps=tuple(
                StoryStep(
                    after_s=at_s - self._arrived_s, what=what, attempt=attempt, vm_id=vm_id, note=note, detail=detail
                )
                for at_s, what, attempt, vm_id, note, detail in self._steps
            ),
            left_out=self._left_out,
            spent=self._sum(now_s),
            cut_off_use=tuple(
                CutOffUse(attempt=attempt, vm_id=vm_id, cpu_s=cpu_s, after_s=at_s - self._arrived_s)
                for (attempt, vm_id), (cpu_s, at_s) in (self._used or {}).items()
            ),
        )

    def _sum(self, now_s: float | None) -> Spent:
        spent = Spent() if self._spent is None else self._spent.copy()
        if self._final is not None:
            span_s, outcome = self._final
            spent.add_on_vm(span_s, outcome, outcome.waits)
        elif now_s is not None and self._phase is not _Phase.ENDED:
            spent.add(_CAUSES.get(self._phase, Cause.ON_VM), now_s - self._since_s)
        return spent
