"""What a fake invoker runs: a Python function by the action's name, on the arguments as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from fallow.core.model import Status
from fallow.infra import codec


def functions(**by_name: Callable[[Any], Any]) -> Callable[[Any, Any], None]:
    """A behaviour of the fake invoker. Names with a dash are written with an underscore; others echo."""

    def behave(invoker: Any, run: Any) -> None:
        name = codec.decode_action(run.action).name.rpartition("/")[2]
        function = by_name.get(name.replace("-", "_"), lambda args: args)
        result = function(json.loads(run.args or b"{}"))
        failed = isinstance(result, dict) and "error" in result
        status = Status.APPLICATION_ERROR if failed else Status.SUCCESS
        invoker.finish(run, json.dumps(result).encode(), status)

    return behave


def names(invoker: Any) -> list[str]:
    """The actions that ran, in order."""
    return [codec.decode_action(run.action).name for run in invoker.runs]
