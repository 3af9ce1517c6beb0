"""Runs a sequence: each action's result is what the next one is called with."""

from __future__ import annotations

from controller.actions_cache import SEQUENCE
from controller.compositions.parts import Course, PartError, Parts, with_parameters
from controller.ledger import InFlight
from controller.own_calls import Ending
from fallow.core.composition import MAX_COMPONENTS, SEQUENCE_TOO_LONG, goes_on
from fallow.core.model import Status

MISSING = "Sequence component does not exist."


class SequenceRunner:
    """For OwnCalls."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def __call__(self, call: InFlight) -> Ending:
        return await self._parts.carry_out(call, self._run)

    async def _run(self, course: Course) -> tuple[Status, bytes]:
        if course.depth > MAX_COMPONENTS:
            raise PartError(SEQUENCE_TOO_LONG)
        args = course.call.args
        for name in course.call.components:
            deployed = await self._parts.find(course.call, name)
            if deployed is None:
                raise PartError(MISSING)
            if deployed.composition != SEQUENCE and not course.sequence_budget.take_action():
                raise PartError(SEQUENCE_TOO_LONG)
            record = await self._parts.run(course, deployed, with_parameters(deployed, args))
            args = record.result
            if not goes_on(Status(record.status)):
                return Status(record.status), args
        return Status.SUCCESS, args
