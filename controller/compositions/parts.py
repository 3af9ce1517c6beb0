"""One part of a composition: found in the records, or run, and run again while no VM has room."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from controller.actions_cache import SEQUENCE, ActionsCache, Deployed
from controller.api.errors import ApiError
from controller.invocations import Caller, Invocations
from controller.ledger import Answered, Elsewhere, InFlight, Refused
from controller.own_calls import Ending, GivenAwayError, NotPlacedError, OwnCalls
from fallow.core.composition import Budget, SequenceBudget, child_id
from fallow.core.model import ActivationId, Status
from fallow.infra.clock import mono_s
from fallow.infra.log import get_logger
from fallow.infra.records import Record
from fallow.infra.store import Store, StoreError

CAUSED_BY = "sequence"
UNREADABLE = "The result of a component is nested too deeply, or holds a number out of range."
PLACING_S = 60.0  # a part that no VM has room for is tried so long; then the composition ends
_RETRY_S = 0.1
_MAX_RETRY_S = 2.0

_log = get_logger("controller.compositions")
T = TypeVar("T")


class PartError(Exception):
    """A part that cannot be run: the text is for the caller, `status` what the composition ends with."""

    def __init__(self, text: str, status: Status = Status.APPLICATION_ERROR) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


@dataclass(slots=True, kw_only=True)
class Course:
    """How far a composition has come: what its record says in the end."""

    call: InFlight
    root: InFlight  # the outermost composition: whose it is decides whose all in it are
    budget: Budget
    sequence_budget: SequenceBudget
    depth: int  # how many sequences directly inside one another, this one counted in
    caught_up: bool  # False: parts may have been started by a controller that ran it before
    step: int = 0  # of the next part
    logs: list[str] = field(default_factory=list)  # the parts' activation ids
    duration_ms: int = 0
    memory_mb: int = 0

    def took(self, record: Record) -> None:
        self.logs.append(record.activation_id)
        own_ms = max(0, record.end_unix_ms - record.start_unix_ms)
        self.duration_ms += own_ms if record.duration_ms is None else record.duration_ms
        self.memory_mb = max(self.memory_mb, record.memory_mb)


class Parts:
    """Runs parts. One for the whole controller."""

    def __init__(self, *, actions: ActionsCache, invocations: Invocations, store: Store, own_calls: OwnCalls) -> None:
        self._actions = actions
        self._invocations = invocations
        self._store = store
        self._own_calls = own_calls
        self._courses: dict[ActivationId, Course] = {}  # compositions under way

    def begin(self, call: InFlight) -> Course:
        """A composition that is taken up; one inside another shares its budget. To be ended by `end`."""
        outer = self._courses.get(ActivationId(call.cause))
        within = outer if outer is not None and call.composition == outer.call.composition == SEQUENCE else None
        course = Course(
            call=call,
            root=outer.root if outer else call,
            budget=outer.budget if outer else Budget(),
            sequence_budget=within.sequence_budget if within else SequenceBudget(),
            depth=within.depth + 1 if within else 1,
            caught_up=not (call.durable and call.activation.attempts),
        )
        self._courses[call.activation.id] = course
        return course

    def end(self, course: Course) -> None:
        self._courses.pop(course.call.activation.id, None)

    async def carry_out(
        self, call: InFlight, run: Callable[[Course], Awaitable[tuple[Status, bytes]]], *, conductor: bool = False
    ) -> Ending:
        """Runs a composition to its end, whatever that is, and says what its record is to say."""
        course = self.begin(call)
        try:
            status, result = await run(course)
        except PartError as e:
            status, result = e.status, error_json(e.text)
        finally:
            self.end(course)
        return Ending(
            status=status,
            result=result,
            logs=tuple(course.logs),
            kind="sequence",
            memory_mb=course.memory_mb or None,
            duration_ms=course.duration_ms,
            topmost=not call.caused_by,
            conductor=conductor,
        )

    async def find(self, call: InFlight, name: str) -> Deployed | None:
        """The action "namespace/[package/]action" as it is now, for the composition's caller; None = there is none.

        Raises PartError where the caller may not invoke it.
        """
        namespace, _, action = name.partition("/")
        caller = call.activation.action.caller_namespace
        try:
            return await _patiently(lambda: self._actions.get(namespace, action, caller))
        except ApiError as e:
            raise PartError(e.text) from None

    async def run(self, course: Course, deployed: Deployed, args: bytes) -> Record:
        """The record of the next part. Raises PartError, GivenAwayError, NotPlacedError."""
        part_id = child_id(course.call.activation.id, course.step)
        record = None
        if course.step and not await _patiently(lambda: self._own_calls.still_ours(course.root)):
            raise GivenAwayError
        if not course.caught_up:
            record = await self._recorded(course.call, part_id)
        if record is None:
            record = await self._run(course, deployed, args, part_id)
        course.step += 1
        course.took(record)
        return record

    async def _recorded(self, call: InFlight, part_id: ActivationId) -> Record | None:
        namespace = call.activation.action.caller_namespace
        return await _patiently(lambda: self._store.get_record(namespace, part_id))

    async def _run(self, course: Course, deployed: Deployed, args: bytes, part_id: ActivationId) -> Record:
        call = course.call
        caller = Caller(
            namespace=call.activation.action.caller_namespace,
            subject=call.subject,
            transaction_id=call.transaction_id,
            api_key=call.api_key,
            traceparent=call.traceparent,
        )
        started = await self._started(course, part_id)
        give_up_mono_s = mono_s() + PLACING_S
        delay_s = _RETRY_S
        while True:
            part = self._invocations.new(
                deployed,
                args,
                caller,
                blocking=True,
                activation_id=part_id,
                cause=call.activation.id,
                caused_by=CAUSED_BY,
                started=started,
            )
            reply = await self._invocations.part(part)
            match reply:
                case Answered():
                    return reply.record
                case Elsewhere():
                    record = await self._recorded(call, part_id)
                    if record is None:
                        raise GivenAwayError
                    return record
                case Refused() if course.step == 0 and not call.durable:
                    raise NotPlacedError(reply)
                case Refused() if mono_s() >= give_up_mono_s:
                    raise PartError(f"A component could not be placed: {reply.reason.value}.", Status.WHISK_ERROR)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _MAX_RETRY_S)

    async def _started(self, course: Course, part_id: ActivationId) -> int | None:
        """What `Invocations.new` is to know of earlier attempts."""
        call = course.call
        if not (call.durable and call.activation.attempts):
            return None
        fence = await _patiently(lambda: self._store.read_fence(part_id))
        if course.caught_up:
            return fence
        # The first part without a record: the controller that was here before may have started it without a fence.
        course.caught_up = True
        return max(fence, 1)


def with_parameters(deployed: Deployed, args: bytes) -> bytes:
    """What the action is called with: its stored parameters, and over them what came before it. An array replaces."""
    if not deployed.parameters or args.lstrip()[:1] != b"{":
        return args
    return dumped({**deployed.parameters, **loaded(args)})


def dumped(value: Any) -> bytes:
    """The value as JSON text. Raises PartError as `loaded` does."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except (RecursionError, ValueError):
        raise PartError(UNREADABLE) from None


def loaded(result: bytes) -> Any:
    """The value of a result. Raises PartError for JSON that cannot be held: its depth, or a number's length."""
    try:
        return json.loads(result or b"{}")
    except (RecursionError, ValueError):
        raise PartError(UNREADABLE) from None


def error_json(text: str) -> bytes:
    return json.dumps({"error": text}).encode()


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Asks the store until it answers: a composition that has begun is not ended by its absence."""
    delay_s = _RETRY_S
    while True:
        try:
            return await ask()
        except StoreError as e:
            _log.warning("a composition waits for the store", error=str(e))
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _MAX_RETRY_S)


def plain(deployed: Deployed) -> Deployed:
    """The same action run as one on a VM: what conducts a composition is an action itself."""
    return replace(deployed, composition="")
