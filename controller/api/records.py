"""Activation records as the API shows them: composed around the result's bytes, which are never parsed."""

from __future__ import annotations

import json
from functools import lru_cache

from controller.api.http import dump
from fallow.core.model import Status
from fallow.infra.records import Record

_STATUS_TEXT = {int(status): status.text for status in Status}
TRIGGER = "trigger"  # the kind of a fired trigger's record
HTTP_STATUS = {
    int(Status.SUCCESS): 200,
    int(Status.APPLICATION_ERROR): 502,
    int(Status.DEVELOPER_ERROR): 502,
    int(Status.WHISK_ERROR): 500,
}


def record_json(record: Record) -> bytes:
    """The full record."""
    return b"".join(
        (
            _head(record),
            b',"response":',
            response_json(record),
            b',"logs":',
            dump(record.logs) if record.logs else b"[]",
            b"}",
        )
    )


def response_json(record: Record) -> bytes:
    """The `response` object."""
    success = "true" if record.status == Status.SUCCESS else "false"
    head = f'{{"status":"{_STATUS_TEXT[record.status]}","success":{success},"result":'
    return b"".join((head.encode(), record.result or b"{}", b',"size":%d}' % len(record.result)))


def item_json(record: Record) -> bytes:
    """The record as a list shows it: no response and no logs."""
    return b'%s,"statusCode":%d}' % (_head(record), record.status)


def is_array(result: bytes) -> bool:
    return result.lstrip()[:1] == b"["


def _head(record: Record) -> bytes:
    """Everything but response and logs, the object left open."""
    if record.kind == TRIGGER:
        return _trigger_head(record)
    name = record.name.rpartition("/")[2]
    path = f"{record.action_namespace or record.namespace}/{record.name}"
    cause = f',"cause":{json.dumps(record.cause)}' if record.cause else ""
    duration_ms = record.duration_ms
    if duration_ms is None:
        duration_ms = max(0, record.end_unix_ms - record.start_unix_ms)
    text = (
        f'{{"namespace":{_quoted(record.namespace)},"name":{_quoted(name)},"version":{_quoted(record.version)},'
        f'"subject":{_quoted(record.subject)},"activationId":"{record.activation_id}"{cause},'
        f'"start":{record.start_unix_ms},"end":{record.end_unix_ms},"duration":{duration_ms},"publish":false,'
        f'"annotations":[{_static_annotations(path, record.kind, _limits(record))},'
        f'{{"key":"timeout","value":{"true" if record.timed_out else "false"}}}'
        f"{_measured(record)}]"
    )
    return text.encode()


def _trigger_head(record: Record) -> bytes:
    cause = f',"cause":{json.dumps(record.cause)}' if record.cause else ""
    text = (
        f'{{"namespace":{_quoted(record.namespace)},"name":{_quoted(record.name)},"version":{_quoted(record.version)},'
        f'"subject":{_quoted(record.subject)},"activationId":"{record.activation_id}"{cause},'
        f'"start":{record.start_unix_ms},"publish":false,"annotations":[]'
    )
    return text.encode()


def _measured(record: Record) -> str:
    """`waitTime` and `initTime` (cold starts only) are OpenWhisk's; the others say where and how the attempt ran.

    What was not measured is left out.
    """
    text = "" if record.wait_ms is None else f',{{"key":"waitTime","value":{record.wait_ms}}}'
    if record.init_ms is not None:
        text += f',{{"key":"initTime","value":{record.init_ms}}}'
    if record.run_ms is not None:
        text += f',{{"key":"runTime","value":{round(record.run_ms, 3)}}}'
    if record.cpu_ms is not None:
        text += f',{{"key":"cpuTime","value":{round(record.cpu_ms, 3)}}}'
    text += f',{{"key":"attempt","value":{record.attempt}}}'
    for key, holds in (
        ("conductor", record.conductor),
        ("prewarmed", record.prewarmed),
        ("evicted", record.evicted),
        ("logsMissing", record.logs_missing),
    ):
        if holds:
            text += f',{{"key":"{key}","value":true}}'
    if record.topmost is not None:
        text += f',{{"key":"topmost","value":{"true" if record.topmost else "false"}}}'
    for key, value in (("causedBy", record.caused_by), ("binding", record.binding)):
        if value:
            text += f',{{"key":"{key}","value":{_quoted(value)}}}'
    if record.vm_id:
        text += f',{{"key":"vm","value":{_quoted(record.vm_id)}}},{{"key":"vmKind","value":{_quoted(record.vm_kind)}}}'
    return text


def _limits(record: Record) -> tuple[int, int, int, int]:
    return (record.concurrency, record.logs_mb, record.memory_mb, record.timeout_ms)


@lru_cache(maxsize=4096)
def _quoted(text: str) -> str:
    """JSON of a name; few distinct ones are asked for again and again."""
    return json.dumps(text)


@lru_cache(maxsize=4096)
def _static_annotations(path: str, kind: str, limits: tuple[int, int, int, int]) -> str:
    """The annotations that are the same for every call of an action's version."""
    names = ("concurrency", "logs", "memory", "timeout")
    annotations = [
        {"key": "path", "value": path},
        {"key": "kind", "value": kind},
        {"key": "limits", "value": dict(zip(names, limits, strict=True))},
    ]
    return json.dumps(annotations, separators=(",", ":"))[1:-1]
