"""Runs a composition: an action, the conductor, says after each step which action comes next, and with what.

Its result is `{action?, params?, state?}`: `action` is called with `params`; what that gives, with `state` over it, is
what the conductor is called with next. Without `action` the composition ends with `params`, or the result itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from controller.api import params
from controller.api.errors import ApiError
from controller.compositions.parts import Course, PartError, Parts, error_json, loaded, plain, with_parameters
from controller.ledger import InFlight
from controller.own_calls import Ending
from fallow.core.model import Status

TOO_LONG = "Too many actions in the composition."


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What the conductor wants next. `action` None: the composition ends with `params`."""

    action: Any | None
    params: Any
    state: dict[str, Any]


def read_move(result: Any) -> Move:
    """Whatever a conductor gives is some move: what is no object where one is meant stands under "value" in one."""
    if not isinstance(result, dict):
        return Move(action=None, params=result, state={})
    action = result.get("action")
    if action is None:
        return Move(action=None, params=_boxed(result["params"]) if "params" in result else result, state={})
    given, state = result.get("params"), result.get("state")
    return Move(
        action=action,
        params=_boxed(given) if given is not None else {},
        state=_boxed(state) if state is not None else {},
    )


def _boxed(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {"value": value}


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
        course = self._parts.begin(call)
        try:
            status, result = await self._run(course)
        except PartError as e:
            status, result = e.status, error_json(e.text)
        finally:
            self._parts.end(course)
        return Ending(
            status=status,
            result=result,
            logs=tuple(course.logs),
            kind="sequence",
            memory_mb=course.memory_mb or None,
            duration_ms=course.duration_ms,
            topmost=not call.caused_by,
            conductor=True,
        )

    async def _run(self, course: Course) -> tuple[Status, bytes]:
        spec = course.call.activation.action
        # Arguments of the first step are merged already; the later ones get the stored parameters below what comes.
        args, first = course.call.args, True
        while True:
            conductor = await self._parts.find(course.call, f"{spec.namespace}/{spec.name}")
            if conductor is None:
                raise PartError("The conductor of the composition does not exist.")
            if not course.budget.take_conductor():
                raise PartError(TOO_LONG)
            given = args if first else with_parameters(conductor, args)
            record = await self._parts.run(course, plain(conductor), given)
            first = False
            if record.status != Status.SUCCESS:
                return Status(record.status), record.result
            move = read_move(loaded(record.result))
            if move.action is None:
                return Status.SUCCESS, json.dumps(move.params, separators=(",", ":")).encode()
            args = _with_state(await self._component(course, move), move.state)

    async def _component(self, course: Course, move: Move) -> Any:
        """What the action gives; where it cannot be run, the error that the conductor is told of."""
        call = course.call
        name = named(move.action, call.activation.action.caller_namespace)
        if name is None:
            return {
                "error": f"Failed to parse action name from json value {json.dumps(move.action)} during composition."
            }
        try:
            deployed = await self._parts.find(call, name)
        except PartError:
            return {"error": f"Not allowed to invoke action name '/{name}' during composition."}
        if deployed is None:
            return {"error": f"Failed to resolve action with name '/{name}' during composition."}
        if not course.budget.take_component():
            return {"error": TOO_LONG}
        args = json.dumps(move.params, separators=(",", ":")).encode()
        record = await self._parts.run(course, deployed, with_parameters(deployed, args))
        return loaded(record.result)


def _with_state(result: Any, state: dict[str, Any]) -> bytes:
    if state:
        result = {**_boxed(result), **state}
    return json.dumps(result, separators=(",", ":")).encode()
