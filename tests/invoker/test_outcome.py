"""The table of the action-container protocol, section 4."""

from __future__ import annotations

import json

import pytest

from fallow.core.model import Status
from invoker import outcome
from invoker.backends.base import Answer, Broken


def answer(status: int, body: bytes) -> Answer:
    return Answer(status=status, body=body, total_bytes=len(body))


@pytest.mark.parametrize(
    ("reply", "status", "error"),
    [
        (answer(200, b'{"a": 1}'), Status.SUCCESS, None),
        (answer(200, b"[1, 2]"), Status.SUCCESS, None),
        (answer(200, b'{"error": "no"}'), Status.APPLICATION_ERROR, "no"),
        (answer(502, b'{"error": {"why": 1}}'), Status.DEVELOPER_ERROR, {"why": 1}),
        (answer(200, b'"text"'), Status.DEVELOPER_ERROR, 'did not produce a valid JSON or JSON Array response: "text"'),
        (answer(200, b'{"a": NaN}'), Status.DEVELOPER_ERROR, "did not produce a valid JSON"),
        (answer(200, b"\xff{}"), Status.DEVELOPER_ERROR, "did not produce a valid JSON"),
        (answer(200, b"[" * 200_000), Status.DEVELOPER_ERROR, "did not produce a valid JSON"),
        (answer(500, b"oops"), Status.DEVELOPER_ERROR, "response: oops"),
        (Broken(sent=True), Status.DEVELOPER_ERROR, "exited unexpectedly"),
        (Broken(sent=True, out_of_memory=True), Status.DEVELOPER_ERROR, "exhausted its memory"),
    ],
)
def test_after_run(reply: Answer | Broken, status: Status, error: object) -> None:
    ending = outcome.after_run(reply)
    assert ending.status is status
    assert ending.keeps_container is (status in (Status.SUCCESS, Status.APPLICATION_ERROR))
    if error is None:
        assert isinstance(reply, Answer)
        assert ending.result is reply.body, "the bytes pass untouched"
        return
    told = json.loads(ending.result)["error"]
    assert error in told if isinstance(told, str) and isinstance(error, str) else told == error


def test_a_long_result_is_an_application_error_with_its_beginning() -> None:
    body = b'"' + b"x" * outcome.MAX_RESULT_BYTES
    ending = outcome.after_run(Answer(status=200, body=body, total_bytes=3_000_000))
    assert ending.status is Status.APPLICATION_ERROR
    text = json.loads(ending.result)["error"]
    assert text.startswith("The action produced a response that exceeded the allowed length: 3000000 > 1048576 bytes.")
    assert text.endswith("x")


def test_after_init() -> None:
    assert outcome.after_init(answer(200, b"OK")) is None
    for reply, told in (
        (answer(502, b'{"error": "bad code"}'), "bad code"),
        (answer(500, b"x"), "The action failed during initialization: x"),
        (Broken(sent=True), outcome.INIT_DIED),
        (Broken(sent=True, out_of_memory=True), outcome.MEMORY_EXHAUSTED),
    ):
        ending = outcome.after_init(reply)
        assert ending is not None
        assert ending.status is Status.DEVELOPER_ERROR
        assert json.loads(ending.result) == {"error": told}


def test_time_limits() -> None:
    init = outcome.timed_out(0.1, during_init=True)
    assert init.timed_out
    assert json.loads(init.result)["error"] == (
        "The action exceeded its time limits of 100 milliseconds during initialization."
    )
