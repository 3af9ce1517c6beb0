"""Actions that the controller runs itself, for what no container may reach."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from controller.api.errors import STORE_AWAY
from controller.ledger import InFlight
from controller.own_calls import Ending
from fallow.core.model import Status
from fallow.infra.codec import CodecError
from fallow.infra.log import get_logger
from fallow.infra.store import StoreError

_log = get_logger("controller.builtins")

Builtin = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]  # from arguments to a result; raises BuiltinError


class BuiltinError(Exception):
    """The call ends as an application error with this text."""


class BuiltinRunner:
    """For OwnCalls. `actions`: by "namespace/package/action"."""

    def __init__(self, actions: Mapping[str, Builtin]) -> None:
        self._actions = actions

    async def __call__(self, call: InFlight) -> Ending:
        spec = call.activation.action
        try:
            result = await self._run(f"{spec.namespace}/{spec.name}", json.loads(call.args or b"{}"))
        except BuiltinError as e:
            return _failed(Status.APPLICATION_ERROR, str(e))
        except CodecError as e:
            return _failed(Status.APPLICATION_ERROR, f"A parameter cannot be stored: {e}.")
        except StoreError as e:
            _log.warning("store failed a built-in action", activation=call.activation.id, error=str(e))
            return _failed(Status.WHISK_ERROR, STORE_AWAY)
        return Ending(status=Status.SUCCESS, result=json.dumps(result, separators=(",", ":")).encode())

    async def _run(self, name: str, args: Any) -> dict[str, Any]:
        action = self._actions.get(name)
        if action is None:
            raise BuiltinError(f"The action {name} is not known to this version of the platform.")
        if not isinstance(args, dict):
            raise BuiltinError("The arguments must be a JSON object.")
        return await action(args)


def _failed(status: Status, text: str) -> Ending:
    return Ending(status=status, result=json.dumps({"error": text}).encode())
