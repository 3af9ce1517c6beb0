"""From what an attempt said to the activation's record."""

from __future__ import annotations

import json
from dataclasses import replace

from controller.ledger import InFlight
from fallow.core.cluster.events import Conclude
from fallow.core.model import Outcome, Status, VmId
from fallow.infra import codec
from fallow.infra.messages import Result
from fallow.infra.records import Record

LOGS_MISSING = "There was an issue while collecting your logs. Data might be missing."


def outcome(message: Result) -> Outcome:
    """The part of a result that decides or is told. Raises ValueError for a status that does not exist."""
    return Outcome(
        status=Status(message.status),
        wait_s=message.wait_s,
        init_s=message.init_s,
        run_s=message.run_s,
        cpu_s=message.cpu_s,
        prewarmed=message.prewarmed,
        evicted=message.evicted,
        waits=codec.decode_waits(message.waits) if message.waits else None,
    )


def record(call: InFlight, message: Result, vm_id: VmId) -> Record:
    """The record of an accepted result. Its logs stay empty: the invoker's own record has them."""
    return _record(
        call,
        attempt=message.attempt,
        vm_id=vm_id,
        status=message.status,
        result=message.result,
        start_unix_ms=message.start_unix_ms,
        end_unix_ms=message.end_unix_ms,
        wait_ms=max(0, message.start_unix_ms - call.accepted_unix_ms),
        init_ms=None if message.init_s is None else round(message.init_s * 1000),
        run_ms=message.run_s * 1000,
        cpu_ms=None if message.cpu_s is None else message.cpu_s * 1000,
        timed_out=message.timed_out,
        prewarmed=message.prewarmed,
        evicted=message.evicted,
        waits=message.waits,
    )


def concluded(call: InFlight, conclusion: Conclude, now_unix_ms: int) -> Record:
    """The final record of a call that no attempt will answer.

    It starts when its last attempt was sent out, the last that is known of it; what nobody measured is None.
    """
    sent_unix_ms = call.sent_unix_ms or None
    return _record(
        call,
        attempt=conclusion.fence,
        vm_id=call.vm_id or "",
        status=conclusion.status,
        result=json.dumps({"error": conclusion.error}).encode(),
        start_unix_ms=now_unix_ms if sent_unix_ms is None else sent_unix_ms,
        end_unix_ms=now_unix_ms,
        wait_ms=None if sent_unix_ms is None else max(0, sent_unix_ms - call.accepted_unix_ms),
        init_ms=None,
        run_ms=None,
        cpu_ms=None,
        logs_missing=True,
        evicted=conclusion.evicted,
    )


def own(
    call: InFlight,
    *,
    attempt: int,
    status: int,
    result: bytes,
    logs: list[str],
    start_unix_ms: int,
    end_unix_ms: int,
) -> Record:
    """The final record of a call that the controller ran itself."""
    wait_ms = max(0, start_unix_ms - call.accepted_unix_ms)
    record = _record(
        call,
        attempt=attempt,
        vm_id="",
        status=status,
        result=result,
        start_unix_ms=start_unix_ms,
        end_unix_ms=end_unix_ms,
        wait_ms=wait_ms,
        init_ms=None,
        run_ms=None,
        cpu_ms=None,
    )
    return replace(record, logs=logs)


def _record(
    call: InFlight,
    *,
    attempt: int,
    vm_id: str,
    status: int,
    result: bytes,
    start_unix_ms: int,
    end_unix_ms: int,
    wait_ms: int | None,
    init_ms: int | None,
    run_ms: float | None,
    cpu_ms: float | None,
    timed_out: bool = False,
    prewarmed: bool = False,
    logs_missing: bool = False,
    evicted: bool = False,
    waits: bytes = b"",
) -> Record:
    """What the call itself says, and how it ended."""
    action = call.activation.action
    return Record(
        activation_id=call.activation.id,
        namespace=action.caller_namespace,
        name=action.name,
        version=action.version,
        subject=call.subject,
        attempt=attempt,
        start_unix_ms=start_unix_ms,
        end_unix_ms=end_unix_ms,
        status=status,
        result=result,
        logs=[],
        kind=action.kind,
        timeout_ms=round(action.timeout_s * 1000),
        memory_mb=action.memory_mb,
        logs_mb=action.logs_mb,
        concurrency=action.concurrency,
        wait_ms=wait_ms,
        init_ms=init_ms,
        run_ms=run_ms,
        cpu_ms=cpu_ms,
        timed_out=timed_out,
        prewarmed=prewarmed,
        logs_missing=logs_missing,
        evicted=evicted,
        vm_id=vm_id,
        vm_kind=call.vm_kind.value if vm_id and call.vm_kind else "",
        cause=call.cause,
        transaction_id=call.transaction_id,
        accepted_unix_ms=call.accepted_unix_ms,
        waits=waits,
        vm_price=call.vm_price if vm_id else None,
        vm_speed=call.vm_speed if vm_id else None,
        action_namespace=action.namespace if action.caller else "",
        binding=action.binding,
        caused_by=call.caused_by,
    )


def without_logs(written: Record) -> Record:
    """The same record as the controller writes it in place of a VM that died: its logs went with the VM."""
    return replace(written, logs=[LOGS_MISSING], logs_missing=True)
