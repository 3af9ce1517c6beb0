"""The states of an activation, a container and a VM, and every move between them.

Theory. A thing's life is a table: state -> event -> next state. What stands in the table may happen; everything else
is a broken contract and raises `IllegalMoveError`, leaving the state as it was. Only `advance()` writes a state, so the
tables below are the whole truth about what can follow what; the brains (`cluster`, `pool`) decide *when*, never
*whether* a move exists. Messages from other machines may be late, doubled or crossed: a brain drops those that do not
concern the present attempt before it advances, so an `IllegalMoveError` always means a defect in the brain itself.

Terminal states have an empty row. A state that is entered and left within one handling is marked transient.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar, Generic, TypeVar

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)
Table = Mapping[StrEnum, Mapping[StrEnum, StrEnum]]


class _Word(StrEnum):
    """A StrEnum that hashes as the string it is: Enum's own hash is a Python call, and a move looks up two."""

    __hash__ = str.__hash__


class IllegalMoveError(Exception):
    """The table has no such edge. The state is unchanged."""

    def __init__(self, machine: str, state: str, event: str) -> None:
        super().__init__(f"{machine}: no move for {event!r} in state {state!r}")
        self.machine = machine
        self.state = state
        self.event = event


class Lifecycle(Generic[S, E]):
    """One thing's state. Subclasses name the table and the first state."""

    __slots__ = ("_state",)
    table: ClassVar[Table]
    first: ClassVar[StrEnum]

    def __init__(self) -> None:
        self._state: S = self.first  # type: ignore[assignment]  # a class variable cannot be generic

    @property
    def state(self) -> S:
        return self._state

    def can(self, event: E) -> bool:
        """Does the table have an edge for the event from here?"""
        return event in self.table[self._state]

    def advance(self, event: E) -> S:
        """Follow the edge and return the new state. The only writer. Raises IllegalMoveError, changing nothing."""
        try:
            self._state = self.table[self._state][event]  # type: ignore[assignment]  # the subclass's own enum
        except KeyError:
            raise IllegalMoveError(type(self).__name__, self._state, event) from None
        return self._state


# ---- container -------------------------------------------------------------------------------------------------------


class ContainerState(_Word):
    """Where a container of an invoker stands."""

    STARTING = "starting"  # asked for; its server does not answer yet
    PREWARMED = "prewarmed"  # its server answers; no action's code is in it
    READY = "ready"  # initialised for one action revision, idle
    BUSY = "busy"  # initialising or running one call
    DESTROYING = "destroying"  # told to go; its memory is not free yet
    GONE = "gone"


class ContainerEvent(_Word):
    """What may happen to a container."""

    STARTED = "started"  # its server answers
    START_FAILED = "start failed"
    TAKEN = "taken"  # a call was given to it
    RELEASED = "released"  # the run ended and the container may serve again
    DESTROY = "destroy"  # the brain decided to remove it
    DIED = "died"  # it ended by itself
    DESTROYED = "destroyed"  # the backend says that its memory is free


_C, _CE = ContainerState, ContainerEvent


class ContainerLifecycle(Lifecycle[ContainerState, ContainerEvent]):
    """STARTING -> PREWARMED -> BUSY <-> READY -> DESTROYING -> GONE."""

    __slots__ = ()
    first: ClassVar[StrEnum] = ContainerState.STARTING
    table: ClassVar[Table] = {
        _C.STARTING: {
            _CE.STARTED: _C.PREWARMED,  # transient where a queued call takes it in the same handling
            _CE.START_FAILED: _C.GONE,  # the backend cleaned up after itself: nothing to destroy
            _CE.DESTROY: _C.DESTROYING,  # not wanted any more: drained, or its call was cancelled
            _CE.DIED: _C.GONE,  # ended before it ever answered
        },
        _C.PREWARMED: {
            _CE.TAKEN: _C.BUSY,  # /init, then /run
            _CE.DESTROY: _C.DESTROYING,  # its memory is needed for a call of another kind
            _CE.DIED: _C.GONE,
        },
        _C.READY: {
            _CE.TAKEN: _C.BUSY,  # a warm start: /run only
            _CE.DESTROY: _C.DESTROYING,  # kept long enough, or the oldest idle one under memory pressure
            _CE.DIED: _C.GONE,
        },
        _C.BUSY: {
            _CE.RELEASED: _C.READY,  # success and application errors keep a container
            _CE.DESTROY: _C.DESTROYING,  # crash, time or memory limit, failed init, cancelled call
        },
        _C.DESTROYING: {
            _CE.DESTROYED: _C.GONE,
            # what was on its way when the order was given changes nothing any more
            _CE.STARTED: _C.DESTROYING,
            _CE.START_FAILED: _C.DESTROYING,
            _CE.RELEASED: _C.DESTROYING,
            _CE.DIED: _C.DESTROYING,
        },
        _C.GONE: {},
    }


# ---- activation ------------------------------------------------------------------------------------------------------


class CallState(_Word):
    """Where an activation stands in its controller."""

    PLACING = "placing"  # transient: to be fenced, placed, queued or ended within this handling
    WAITING = "waiting"  # in the waiting room: no VM can take it now
    FENCING = "fencing"  # the fence is being raised in the store; nothing may start before the answer
    DISPATCHED = "dispatched"  # on a VM: queued, starting or running there
    FINISHED = "finished"  # the answer is accepted; the VM still collects logs, so the slot stays booked
    CLOSED = "closed"  # ended: nothing of it is booked, queued or expected


class CallEvent(_Word):
    """What may happen to an activation in its controller."""

    FENCE_ASKED = "fence asked"
    FENCE_RAISED = "fence raised"
    PLACED = "placed"
    DEFERRED = "deferred"  # no VM can take it now
    RETURNED = "returned"  # given back unstarted
    ANSWERED = "answered"  # the outcome of the present attempt was accepted
    RELEASED = "released"  # the slot is free, or its VM is gone
    ENDED = "ended"  # concluded, refused or forgotten: no attempt will answer


_A, _AE = CallState, CallEvent


class CallLifecycle(Lifecycle[CallState, CallEvent]):
    """PLACING -> (FENCING | WAITING)* -> DISPATCHED -> FINISHED -> CLOSED, with ways back for what did not end well."""

    __slots__ = ()
    first: ClassVar[StrEnum] = CallState.PLACING
    table: ClassVar[Table] = {
        _A.PLACING: {
            _AE.PLACED: _A.DISPATCHED,
            _AE.DEFERRED: _A.WAITING,  # no VM is usable, or the usable ones are not for it
            _AE.FENCE_ASKED: _A.FENCING,  # every start but a non-durable first one needs the fence
            _AE.ENDED: _A.CLOSED,  # refused (room full), concluded (outcome unknown, attempts used up)
        },
        _A.WAITING: {
            _AE.PLACED: _A.DISPATCHED,
            _AE.FENCE_ASKED: _A.FENCING,  # made durable while it waited: its first start needs the fence now
            _AE.ENDED: _A.CLOSED,  # waited too long
        },
        _A.FENCING: {
            _AE.FENCE_RAISED: _A.PLACING,  # the attempt is ours: place it
            _AE.FENCE_ASKED: _A.FENCING,  # its new stream entry had set the fence meanwhile: asked again from there
            _AE.ENDED: _A.CLOSED,  # a record exists, or another controller owns the call
        },
        _A.DISPATCHED: {
            _AE.ANSWERED: _A.FINISHED,
            _AE.RETURNED: _A.PLACING,  # not an attempt: the same number goes elsewhere
            _AE.FENCE_ASKED: _A.FENCING,  # cut off (VM lost, evicted, deadline): the next attempt is fenced first
            _AE.ENDED: _A.CLOSED,  # cut off and not to be started again
        },
        _A.FINISHED: {
            _AE.RELEASED: _A.CLOSED,  # completed; or its VM is gone, which cannot unsay the answer
        },
        _A.CLOSED: {},
    }


# ---- VM --------------------------------------------------------------------------------------------------------------


class VmState(_Word):
    """Where a VM stands in its controller."""

    UP = "up"
    DRAINING = "draining"  # an eviction is announced: no new placements, what runs may finish
    SILENT = "silent"  # its link is closed; it may dial again
    LOST = "lost"  # declared lost: what ran there was cut off
    GONE = "gone"


class VmEvent(_Word):
    """What may happen to a VM in its controller."""

    NOTICED = "noticed"
    WITHDRAWN = "withdrawn"
    DISCONNECTED = "disconnected"
    REJOINED = "rejoined"
    DECLARED_LOST = "declared lost"
    FORGOTTEN = "forgotten"


_V, _VE = VmState, VmEvent


class VmLifecycle(Lifecycle[VmState, VmEvent]):
    """UP <-> DRAINING, both -> SILENT -> LOST -> GONE; a VM that is heard again is UP again."""

    __slots__ = ()
    first: ClassVar[StrEnum] = VmState.UP
    table: ClassVar[Table] = {
        _V.UP: {
            _VE.NOTICED: _V.DRAINING,
            _VE.DISCONNECTED: _V.SILENT,
            _VE.DECLARED_LOST: _V.LOST,  # silent on an open link, or its invoker is another process now
            _VE.REJOINED: _V.UP,  # dialled again before the old link was seen to close
        },
        _V.DRAINING: {
            _VE.WITHDRAWN: _V.UP,  # the notice was taken back
            _VE.DISCONNECTED: _V.SILENT,
            _VE.DECLARED_LOST: _V.LOST,
            _VE.REJOINED: _V.UP,  # its report tells at once whether the notice still stands
        },
        _V.SILENT: {
            _VE.REJOINED: _V.UP,
            _VE.DECLARED_LOST: _V.LOST,  # it did not dial again in time
        },
        _V.LOST: {
            _VE.REJOINED: _V.UP,  # stopped and continued, or cut off from the network for a while
            _VE.FORGOTTEN: _V.GONE,  # shown as lost long enough
        },
        _V.GONE: {},
    }
