"""Calls that no VM runs: compositions and built-in actions, each a task of the controller that took it up.

They keep the promises of every other call. One that a client waits for starts at once; one from the stream first raises
its fence, so that of two controllers that run it only the later one writes its record. A controller that dies leaves
its entries to be claimed, and the runner that takes over finds what is recorded of the parts.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from controller import outcomes
from controller.dispatcher import Dispatcher
from controller.ledger import InFlight, Refused
from fallow.core.model import Status
from fallow.infra.clock import unix_ms
from fallow.infra.log import get_logger
from fallow.infra.store import FenceVerdict, Store, StoreError

BROKE = "There was an internal server error."
_RETRY_S = 0.25

_log = get_logger("controller.own_calls")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How such a call ended."""

    status: Status
    result: bytes  # JSON text
    logs: tuple[str, ...] = ()  # of a composition: the ids of its components' activations
    kind: str = ""  # what its record names as kind; "" = the action's own
    memory_mb: int | None = None  # the most that a component may use; None = the action's own limit
    duration_ms: int | None = None  # sum of the components'; None = from start to end
    topmost: bool | None = None
    conductor: bool = False
    timed_out: bool = False


class NotPlacedError(Exception):
    """Nothing of the call was started, and nothing can be now: it is refused as a whole and leaves no record."""

    def __init__(self, reply: Refused) -> None:
        super().__init__(reply.reason.value)
        self.reply = reply


class GivenAwayError(Exception):
    """Another controller runs the call now: nothing more is done or said of it here."""


Runner = Callable[[InFlight], Awaitable[Ending]]


class OwnCalls:
    """Runs them. A runner is registered for each value of `InFlight.composition`."""

    def __init__(self, *, controller_id: str, dispatcher: Dispatcher, store: Store) -> None:
        self._controller_id = controller_id
        self._dispatcher = dispatcher
        self._store = store
        self._runners: dict[str, Runner] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        dispatcher.compose = self.start

    def register(self, composition: str, runner: Runner) -> None:
        self._runners[composition] = runner

    def start(self, call: InFlight) -> None:
        """Takes up a call that is open in the ledger."""
        task = asyncio.get_running_loop().create_task(self._run(call), name=f"own call {call.activation.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Stops all of them where they are; those that stand in the stream are claimed by another controller."""
        for task in self._tasks:
            task.cancel()

    async def still_ours(self, call: InFlight) -> bool:
        """Whether no other controller has taken the call over; costs a round trip where it stands in the stream.

        Raises StoreError.
        """
        if not call.durable:
            return True
        return await self._store.read_fence(call.activation.id) <= call.attempt

    async def _run(self, call: InFlight) -> None:
        started_unix_ms = unix_ms()
        try:
            await self._claim(call)
            ending = await self._runners[call.composition](call)
        except GivenAwayError:
            self._dispatcher.give_away(call.activation.id)
            return
        except NotPlacedError as e:
            self._dispatcher.refuse(call.activation.id, e.reply)
            return
        except Exception as e:  # noqa: BLE001 - the call's door: a bug in one must not end the others
            _log.error(
                "own call broke", activation=call.activation.id, action=str(call.activation.action.key), exc_info=e
            )
            ending = Ending(status=Status.WHISK_ERROR, result=json.dumps({"error": BROKE}).encode())
        record = outcomes.own(
            call,
            attempt=call.attempt,
            status=ending.status,
            result=ending.result,
            logs=list(ending.logs),
            start_unix_ms=started_unix_ms,
            end_unix_ms=max(started_unix_ms, unix_ms()),
        )
        record = replace(
            record,
            kind=ending.kind or record.kind,
            memory_mb=record.memory_mb if ending.memory_mb is None else ending.memory_mb,
            duration_ms=ending.duration_ms,
            topmost=ending.topmost,
            conductor=ending.conductor,
            timed_out=ending.timed_out,
        )
        self._dispatcher.conclude(call, record)

    async def _claim(self, call: InFlight) -> None:
        """Raises the fence of a call from the stream. Raises GivenAwayError where it has ended or is another's."""
        attempts = call.activation.attempts
        call.attempt = attempts + 1
        while call.durable:
            try:
                verdict = await self._store.raise_fence(
                    call.activation.id, expect=attempts, attempt=call.attempt, controller_id=self._controller_id
                )
            except StoreError as e:
                _log.warning("waiting for the store", activation=call.activation.id, error=str(e))
                await asyncio.sleep(_RETRY_S)
                continue
            if verdict is not FenceVerdict.RAISED:
                raise GivenAwayError
            return
