"""Records are kept until the store has taken them, and told about once they stand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from fallow.core.model import ActionSpec, Outcome, Status
from fallow.infra.messages import Run
from fallow.infra.records import Record
from fallow.infra.store import StoreUnavailable, WriteVerdict
from invoker import outcome, recorder
from invoker.calls import Call, make_record, make_result
from invoker.recorder import Recorder, Settled


class FlakyStore:
    """Away for the first `failures` writes; fences every attempt above 1."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.written: list[str] = []

    async def write_records(self, records: Sequence[Record]) -> list[WriteVerdict]:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("away")
        self.written += [r.activation_id for r in records]
        return [WriteVerdict.FENCED if r.attempt > 1 else WriteVerdict.WRITTEN for r in records]


@pytest.fixture
def make_ended(make_spec: Callable[..., ActionSpec], make_run: Callable[..., Run]) -> Callable[[str, int], Record]:
    def make(activation_id: str, attempt: int) -> Record:
        spec = make_spec()
        run = make_run(spec, activation_id, attempt=attempt)
        call = Call(controller_id="c1", run=run, spec=spec, received_mono_s=0.0)
        ending = outcome.error(Status.WHISK_ERROR, "x")
        measured = outcome_of(ending)
        result = make_result(call, ending, measured, start_unix_ms=1, end_unix_ms=2, completed=True)
        return make_record(call, result, [], vm_id="r1", vm_kind="regular")

    return make


def outcome_of(ending: outcome.Ending) -> Outcome:

    return Outcome(status=ending.status)


async def test_kept_while_the_store_is_away(
    make_ended: Callable[[str, int], Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "RETRY_S", 0.0)
    store = FlakyStore(failures=3)
    told: list[tuple[str, Settled]] = []
    made = Recorder(store=store, on_settled=lambda c, s: told.append((c, s)), max_records=2)
    made.add("c1", make_ended("a", 1))
    assert not made.full
    made.add("c2", make_ended("b", 2))
    assert made.full
    task = asyncio.ensure_future(made.run())
    await made.flushed()
    assert store.written == ["a", "b"]
    assert not made.full
    assert told == [
        ("c1", Settled(attempts=[("a", 1)], standing=["a"])),
        ("c2", Settled(attempts=[("b", 2)], standing=[])),  # fenced: another attempt writes b's record
    ]
    assert made.fenced == 1
    task.cancel()
