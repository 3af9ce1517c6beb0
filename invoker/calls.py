"""One dispatched call on this VM, and what is said and recorded of it when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from fallow.core.model import ActionSpec, Outcome, ReturnReason
from fallow.core.pool.waits import CoresSeen
from fallow.infra.codec import encode_waits
from fallow.infra.messages import Result, Run
from fallow.infra.records import Record
from invoker.outcome import Ending

CallKey = tuple[str, int]  # activation id, attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class VmFacts:
    """What records say of the VM, how its cores compare with real ones, and what is measured of it."""

    vm_id: str
    vm_kind: str
    price: float = 1.0
    speed: float = 1.0
    core_scale: Callable[[], float]  # real cores per core of the VM, now
    refusal: Callable[[], ReturnReason | None]  # why no new call may start here now
    throttled_s: Callable[[], float | None]  # for how long the CPU quota held its processes back so far; None = unknown
    throttled_note: Callable[[], str]  # why that is unknown, in words


@dataclass(slots=True, eq=False)
class Call:
    """Mutable, private to the executor. `result` is set once the attempt's outcome is decided."""

    controller_id: str
    run: Run
    spec: ActionSpec
    received_mono_s: float
    task: asyncio.Task[None] | None = None
    result: Result | None = None
    abandoned: bool = False
    spent_real_s: Callable[[], float | None] | None = None  # real CPU seconds of the attempt so far; None = not begun
    cores: CoresSeen | None = None  # None = the VM's cores have not changed since it came

    @property
    def key(self) -> CallKey:
        return (self.run.activation_id, self.run.attempt)


def make_result(
    call: Call, ending: Ending, outcome: Outcome, *, start_unix_ms: int, end_unix_ms: int, completed: bool
) -> Result:
    """The message that lets the API answer."""
    return Result(
        activation_id=call.run.activation_id,
        attempt=call.run.attempt,
        status=ending.status.value,
        result=ending.result,
        start_unix_ms=start_unix_ms,
        end_unix_ms=end_unix_ms,
        wait_s=outcome.wait_s,
        init_s=outcome.init_s,
        run_s=outcome.run_s,
        cpu_s=outcome.cpu_s,
        prewarmed=outcome.prewarmed,
        timed_out=ending.timed_out,
        completed=completed,
        waits=encode_waits(outcome.waits) if outcome.waits is not None else b"",
    )


def make_record(call: Call, result: Result, logs: list[str], vm: VmFacts) -> Record:
    """The final record. Its wait counts from the moment the API accepted the call."""
    run, spec = call.run, call.spec
    return Record(
        activation_id=run.activation_id,
        namespace=spec.caller_namespace,
        name=spec.name,
        version=spec.version,
        subject=run.subject,
        attempt=run.attempt,
        start_unix_ms=result.start_unix_ms,
        end_unix_ms=result.end_unix_ms,
        status=result.status,
        result=result.result,
        logs=logs,
        kind=spec.kind,
        timeout_ms=round(spec.timeout_s * 1000),
        memory_mb=spec.memory_mb,
        logs_mb=spec.logs_mb,
        concurrency=spec.concurrency,
        wait_ms=max(0, result.start_unix_ms - run.accepted_unix_ms),
        init_ms=None if result.init_s is None else max(1, round(result.init_s * 1000)),
        run_ms=result.run_s * 1000,
        cpu_ms=None if result.cpu_s is None else result.cpu_s * 1000,
        timed_out=result.timed_out,
        prewarmed=result.prewarmed,
        vm_id=vm.vm_id,
        vm_kind=vm.vm_kind,
        cause=run.cause,
        transaction_id=run.transaction_id,
        accepted_unix_ms=run.accepted_unix_ms,
        waits=result.waits,
        vm_price=vm.price,
        vm_speed=vm.speed,
        action_namespace=spec.namespace if spec.caller else "",
        binding=spec.binding,
        caused_by=run.caused_by,
    )
