"""One action in its container: /init loads it, /run calls it."""

from __future__ import annotations

import os
import sys

from functions.runtimes.python import quickjson
from functions.runtimes.python.logs import LogStreams, describe, log_traceback
from functions.runtimes.python.unpack import unpack_zip
from functions.runtimes.python.wire import RequestError

TYPE_CHECKING = False  # typing itself takes longer to import than all of this package
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAIN_MODULE = "main__"  # not "__main__": `if __name__ == "__main__"` in an action is for its author's own tests


def load_function(path: str, source: str | bytes, main: str) -> Callable[[Any], Any]:
    """Run the module once and find `main` in it. What the module raises is logged and becomes a RequestError."""
    module = type(sys)(MAIN_MODULE)
    module.__file__ = path
    sys.modules[MAIN_MODULE] = module
    try:
        exec(compile(source, path, "exec", dont_inherit=True), module.__dict__)
    except MemoryError:
        raise
    except BaseException as error:  # the action's own code: whatever it raises is its answer
        log_traceback(error)
        text = f"The action's code did not load: {type(error).__name__}: {describe(error)}"
        raise RequestError(502, text) from error
    function = getattr(module, main, None)
    if not callable(function):
        raise RequestError(502, f"The action's code has no function {main!r}.")
    found: Callable[[Any], Any] = function
    return found


def set_environment(values: dict[str, Any]) -> None:
    """Raises RequestError for what no environment can hold."""
    try:
        for name, value in values.items():
            os.environ[name] = value if type(value) is str else quickjson.dumps(value)
    except (ValueError, OSError) as error:
        raise RequestError(400, f"The environment cannot hold {name!r}: {error}") from error


def parse_object(body: bytes | bytearray) -> dict[str, Any]:
    """Raises RequestError(400) for anything but a JSON object."""
    try:
        parsed = quickjson.loads(str(body, "utf-8"))
    except RecursionError as error:
        raise RequestError(400, "The request is nested too deeply.") from error
    except ValueError as error:
        raise RequestError(400, f"The request is not JSON: {error}") from error
    if type(parsed) is not dict:
        raise RequestError(400, "The request is not a JSON object.")
    return parsed


def encode_result(result: Any) -> bytes:
    """Raises RequestError(502) for what is no dict or list, or cannot be said in JSON."""
    if not isinstance(result, (dict, list)):
        raise RequestError(502, "The action did not return a dictionary or array.")
    try:
        text = quickjson.dumps(result)
    except RecursionError as error:
        raise RequestError(502, "The action's result is nested too deeply.") from error
    except (TypeError, ValueError) as error:
        raise RequestError(502, f"The action's result is not JSON: {error}") from error
    try:
        return text.encode()
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8, but JSON can escape it
        import json

        return json.dumps(result, allow_nan=False).encode()


async def finish(awaitable: Any) -> Any:
    return await awaitable


class Runtime:
    """The life of one container: empty, then one action for good."""

    def __init__(self, folder: str, logs: LogStreams) -> None:
        self._folder = folder
        self._logs = logs
        self._function: Callable[[Any], Any] | None = None
        self._run_names: frozenset[str] = frozenset()
        self._pid = os.getpid()

    def answer(self, target: bytes, body: bytes | bytearray, *, sentinels: bool = True) -> bytes:
        """The JSON of a 200; raises RequestError for every other status, MemoryError when there is none left.

        Without `sentinels` the log of a run is only flushed: the client takes what stands there for the whole of it.
        """
        if target == b"POST /run":
            return self._run(body, sentinels=sentinels)
        if target == b"POST /init":
            return self._init(body)
        raise RequestError(404, "There is POST /init and POST /run.")

    def _init(self, body: bytes | bytearray) -> bytes:
        if self._function is not None:
            raise RequestError(403, "Cannot initialize the action more than once.")
        value = parse_object(body).get("value")
        if not isinstance(value, dict):
            raise RequestError(400, "The request has no object `value`.")
        main, code, environment = value.get("main") or "main", value.get("code"), value.get("env") or {}
        if not isinstance(main, str) or not isinstance(code, str) or not code:
            raise RequestError(403, "Missing main/no code to execute.")
        if not isinstance(environment, dict):
            raise RequestError(400, "`env` is not an object.")
        set_environment(environment)
        try:
            self._function = self._load(main, code, binary=bool(value.get("binary")))
        except RequestError:
            self._logs.end()
            raise
        self._logs.restore()
        return b'{"ok":true}'

    def _load(self, main: str, code: str, *, binary: bool) -> Callable[[Any], Any]:
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        os.chdir(self._folder)
        sys.path.insert(0, self._folder)
        if binary:
            path = unpack_zip(code, self._folder)
            with open(path, "rb") as file:
                return load_function(path, file.read(), main)
        path = os.path.join(self._folder, MAIN_MODULE + ".py")
        source = code.encode("utf-8", "surrogatepass")
        with open(path, "wb") as file:  # so that tracebacks show the lines
            file.write(source)
        return load_function(path, source, main)

    def _run(self, body: bytes | bytearray, *, sentinels: bool) -> bytes:
        function = self._function
        if function is None:
            raise RequestError(500, "no action defined yet")
        request = parse_object(body)
        arguments = request.pop("value", {})
        if not isinstance(arguments, (dict, list)):
            raise RequestError(400, "`value` is neither an object nor an array.")
        self._set_run_environment(request)
        try:
            return encode_result(self._call(function, arguments))
        except MemoryError:
            print("MemoryError: the memory limit was met", file=sys.__stderr__)
            raise
        finally:
            self._logs.end(sentinels=sentinels)

    def _set_run_environment(self, request: dict[str, Any]) -> None:
        values = {"__OW_" + name.upper(): value for name, value in request.items()}
        for name in self._run_names - values.keys():
            os.environ.pop(name, None)  # what only an earlier run was given, such as an API key
        set_environment(values)
        self._run_names = frozenset(values)

    def _call(self, function: Callable[[Any], Any], arguments: Any) -> Any:
        try:
            result = function(arguments)
            if hasattr(result, "__await__"):
                import asyncio

                result = asyncio.run(finish(result))
        except MemoryError:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever the action's code raises is its answer
            log_traceback(error)
            result = {"error": describe(error)}
        if os.getpid() != self._pid:
            os._exit(0)  # the action forked and its child came back: only the parent answers
        return result
