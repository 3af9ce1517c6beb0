"""How the answers of a container become an activation's status and result (the action-container protocol, section 4).

The texts are OpenWhisk's, since clients match on them.
"""

from __future__ import annotations

import json

from fallow.core.model import Status
from fallow.core.value import value
from invoker.backends.base import Answer, Broken, Reply

MAX_RESULT_BYTES = 1 << 20

INIT_DIED = "The action did not initialize and exited unexpectedly."
RUN_DIED = "The action did not produce a valid response and exited unexpectedly."
MEMORY_EXHAUSTED = "The action exhausted its memory and was aborted."
NO_CONTAINER = "Failed to provision resources to run the action."
NO_CODE = "Failed to fetch action code: it is not in the store."


def _reject_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_reject_constant)


@value(frozen=True, slots=True, kw_only=True)
class Ending:
    """How one attempt ended. `result` is JSON text."""

    status: Status
    result: bytes
    timed_out: bool = False

    @property
    def keeps_container(self) -> bool:
        """Any developer or platform error ends the container; an application's own error does not."""
        return self.status in (Status.SUCCESS, Status.APPLICATION_ERROR)


def error(status: Status, text: object, *, timed_out: bool = False) -> Ending:
    """An ending whose result is {"error": text}; text is any JSON value."""
    return Ending(status=status, result=json.dumps({"error": text}).encode(), timed_out=timed_out)


def timed_out(timeout_s: float, *, during_init: bool) -> Ending:
    """The time limit of the action passed."""
    suffix = " during initialization." if during_init else "."
    text = f"The action exceeded its time limits of {round(timeout_s * 1000)} milliseconds{suffix}"
    return error(Status.DEVELOPER_ERROR, text, timed_out=True)


def after_init(reply: Reply) -> Ending | None:
    """None = the container is initialised."""
    match reply:
        case Broken(out_of_memory=True):
            return error(Status.DEVELOPER_ERROR, MEMORY_EXHAUSTED)
        case Broken():
            return error(Status.DEVELOPER_ERROR, INIT_DIED)
        case Answer(status=200):
            return None
        case Answer(body=body):
            given = _error_of(body)
            text = given if given is not None else f"The action failed during initialization: {_text(body)}"
            return error(Status.DEVELOPER_ERROR, text)


def after_run(reply: Reply) -> Ending:
    """Maps the answer to /run. The bytes of a valid result pass untouched."""
    match reply:
        case Broken(out_of_memory=True):
            return error(Status.DEVELOPER_ERROR, MEMORY_EXHAUSTED)
        case Broken():
            return error(Status.DEVELOPER_ERROR, RUN_DIED)
        case Answer(body=body, total_bytes=total) if total > MAX_RESULT_BYTES:
            head = body[:MAX_RESULT_BYTES].decode("utf-8", "replace")
            return error(
                Status.APPLICATION_ERROR,
                f"The action produced a response that exceeded the allowed length: {total} > {MAX_RESULT_BYTES} bytes. "
                f"The truncated response was: {head}",
            )
        case Answer(status=200, body=body):
            return _valid(body)
        case Answer(body=body):
            given = _error_of(body)
            return error(Status.DEVELOPER_ERROR, given) if given is not None else _invalid(body)


def _valid(body: bytes) -> Ending:
    value = _parse(body)
    if isinstance(value, list):
        return Ending(status=Status.SUCCESS, result=body)
    if isinstance(value, dict):
        status = Status.APPLICATION_ERROR if "error" in value else Status.SUCCESS
        return Ending(status=status, result=body)
    return _invalid(body)


def _invalid(body: bytes) -> Ending:
    text = f"The action did not produce a valid JSON or JSON Array response: {_text(body)}"
    return error(Status.DEVELOPER_ERROR, text)


def _error_of(body: bytes) -> object | None:
    value = _parse(body)
    return value.get("error") if isinstance(value, dict) else None


def _parse(body: bytes) -> object:
    """None where the body is not strict JSON in UTF-8 (NaN is not), or nests deeper than this process can follow."""
    try:
        value: object = _decoder.decode(body.decode())
    except (ValueError, RecursionError):
        return None
    return value


def _text(body: bytes) -> str:
    """A body as it is quoted in an error: at most 1,000 characters of it."""
    return body[:1000].decode("utf-8", "replace")
