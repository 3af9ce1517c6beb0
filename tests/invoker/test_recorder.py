"""Records are kept until the store has taken them, and told about once they stand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from fallow.core.model import ActionSpec, Outcome, Status
from fallow.infra.messages import Run
from fallow.infra.records import Record
from fallow.infra.store import StoreError, StoreUnavailable, WriteVerdict
from invoker import outcome, recorder
from invoker.calls import Call, VmFacts, make_record, make_result
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
        vm = VmFacts(
            vm_id="r1",
            vm_kind="regular",
            core_scale=lambda: 1.0,
            refusal=lambda: None,
            throttled_s=lambda: None,
            throttled_note=lambda: "",
        )
        return make_record(call, result, [], vm)

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
        ("c1", Settled(attempts=[("a", 1)], standing=["a"], fenced=[])),
        (
            "c2",
            Settled(attempts=[("b", 2)], standing=[], fenced=[("b", 2)]),
        ),  # fenced: another attempt writes b's record
    ]
    assert made.fenced == 1
    task.cancel()


class PickyStore:
    """Refuses every batch that holds a record of `poison`; everything, while it is `closed`."""

    def __init__(self, poison: str) -> None:
        self.poison = poison
        self.closed = False
        self.refusals = 0
        self.written: list[str] = []

    async def write_records(self, records: Sequence[Record]) -> list[WriteVerdict]:
        ids = [r.activation_id for r in records]
        if self.closed or self.poison in ids:
            self.refusals += 1
            raise StoreError("refused")
        self.written += ids
        return [WriteVerdict.WRITTEN] * len(ids)


async def test_a_record_that_can_never_be_written_holds_up_no_other(
    make_ended: Callable[[str, int], Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "RETRY_S", 0.0)
    store = PickyStore("b")
    told: list[tuple[str, Settled]] = []
    made = Recorder(store=store, on_settled=lambda c, s: told.append((c, s)))
    for name in "abc":
        made.add("c1", make_ended(name, 1))
    task = asyncio.ensure_future(made.run())
    await made.flushed()
    assert store.written == ["a", "c"]
    assert made.dropped == 1
    assert [s.standing for _, s in told] == [["a"], ["c"], []], "nobody is told that b stands"
    assert told[-1] == ("c1", Settled(attempts=[("b", 1)], standing=[], fenced=[]))
    assert not made.full
    task.cancel()


async def test_a_store_that_refuses_everything_loses_nothing(
    make_ended: Callable[[str, int], Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "RETRY_S", 0.0)
    store = PickyStore("")
    store.closed = True
    made = Recorder(store=store, on_settled=lambda c, s: None)
    for name in "abc":
        made.add("c1", make_ended(name, 1))
    task = asyncio.ensure_future(made.run())
    while store.refusals < 50:
        await asyncio.sleep(0)
    store.closed = False
    await made.flushed()
    assert sorted(store.written) == ["a", "b", "c"]
    assert made.dropped == 0
    task.cancel()
