"""Runs a composition: an action, the conductor, says after each step which action comes next, and with what.

Its result is `{action?, params?, state?}`: `action` is called with `params`; what that gives, with `state` over it, is
what the conductor is called with next. Without `action` the composition ends with `params`, or the result itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from controller.actions_cache import CONDUCTOR, SEQUENCE
from controller.api import params
from controller.api.errors import ApiError
from controller.compositions.parts import Course, PartError, Parts, dumped, loaded, plain, with_parameters
from controller.ledger import InFlight
from controller.own_calls import Ending
from fallow.core.model import ActionSpec, Status

TOO_LONG = "Too many actions in the composition."


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What the conductor wants next. Where it names no action, `ends`: the composition ends with `params`."""

    ends: bool
    action: Any  # as it stands there, perhaps no name at all
    params: Any
    state: dict[str, Any]


def read_move(result: Any) -> Move:
    """Whatever a conductor gives is some move: params and state that are no objects are put into one."""
    if not isinstance(result, dict):
        return Move(ends=True, action=None, params=result, state={})
    given = _boxed(result["params"], "value") if "params" in result else None
    if "action" not in result:
        return Move(ends=True, action=None, params=result if given is None else given, state={})
    state = _boxed(result["state"], "state") if "state" in result else {}
    return Move(ends=False, action=result["action"], params=given or {}, state=state)


def _boxed(value: Any, key: str) -> dict[str, Any]:
    return value if isinstance(value, dict) else {key: value}


def named(action: Any, namespace: str) -> str | None:
    """ "namespace/[package/]action" of "action", "package/action" or "/namespace/[package/]action"; None = it is no
    name."""
    if not isinstance(action, str):
        return None
    parts = action.split("/")
    if parts[0] == "":
        own, rest = parts[1] if len(parts) > 1 else "", parts[2:]
        own = namespace if own == "_" else own
    else:
        own, rest = namespace, parts
    if not 1 <= len(rest) <= 2:
        return None
    try:
        return "/".join([params.check_namespace(own), *map(params.check_name, rest)])
    except ApiError:
        return None


class ConductorRunner:
    """For OwnCalls."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def __call__(self, call: InFlight) -> Ending:
        return await self._parts.carry_out(call, self._run, conductor=True)

    async def _run(self, course: Course) -> tuple[Status, bytes]:
        name = _addressed(course.call.activation.action)
        # Arguments of the first step are merged already; the later ones get the stored parameters below what comes.
        args, first = course.call.args, True
        while True:
            conductor = await self._parts.find(course.call, name)
            if conductor is None or conductor.composition == SEQUENCE:
                raise PartError("The conductor of the composition does not exist.")
            if not course.budget.take_conductor():
                raise PartError(TOO_LONG)
            given = args if first else with_parameters(conductor, args)
            record = await self._parts.run(course, plain(conductor), given)
            first = False
            if record.status != Status.SUCCESS:
                return Status(record.status), record.result
            move = read_move(loaded(record.result))
            if move.ends:
                return Status.SUCCESS, dumped(move.params)
            args = _with_state(await self._component(course, move), move.state)

    async def _component(self, course: Course, move: Move) -> Any:
        """What the action gives; where it cannot be run, the error that the conductor is told of."""
        call = course.call
        name = named(move.action, call.activation.action.caller_namespace)
        if name is None:
            given = json.dumps(move.action, separators=(",", ":"))
            return {"error": f"Failed to parse action name from json value {given} during composition."}
        if course.budget.used_up:
            return {"error": TOO_LONG}
        try:
            deployed = await self._parts.find(call, name)
        except PartError:
            return {"error": f"Failed entitlement check for action with name '{name}' during composition."}
        if deployed is None:
            return {"error": f"Failed to resolve action with name '{name}' during composition."}
        if deployed.composition != CONDUCTOR:  # the steps of one inside are counted as they come
            course.budget.take_component()
        args = dumped(move.params)
        record = await self._parts.run(course, deployed, with_parameters(deployed, args))
        return loaded(record.result)


def _addressed(spec: ActionSpec) -> str:
    """The action as its caller addressed it: behind a binding, its parameters are others."""
    if not spec.binding:
        return f"{spec.namespace}/{spec.name}"
    return f"{spec.binding}/{spec.name.rpartition('/')[2]}"


def _with_state(result: Any, state: dict[str, Any]) -> bytes:
    if state:
        result = {**_boxed(result, "value"), **state}
    return dumped(result)
