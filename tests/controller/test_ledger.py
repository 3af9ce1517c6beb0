"""The ledger's count of calls that run, by namespace."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller import ledger as ledger_module
from controller.ledger import InFlight, Ledger
from fallow.core.model import ActionSpec, Activation, ActivationId, VmId
from fallow.infra.clock import mono_s
from fallow.infra.records import Record

NAMESPACES = ("ann", "bob")


def in_flight(number: int, namespace: str, caused_by: str) -> InFlight:
    action = ActionSpec(namespace="whisk", name="x", version="0.0.1", revision="r", kind="python:3", caller=namespace)
    activation = Activation(
        id=ActivationId(f"{number:032x}"), action=action, blocking=False, payload_bytes=0, accepted_unix_ms=0,
        arrived_unix_ms=0,
    )  # fmt: skip
    return InFlight(
        activation=activation, action=b"", args=b"", subject="", transaction_id="", accepted_unix_ms=0,
        accepted_mono_s=0.0, caused_by=caused_by,
    )  # fmt: skip


class Counting(RuleBasedStateMachine):
    """Calls enter, are read, end and are forgotten in any order; time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        ledger_module.mono_s = lambda: self.now_s
        self.ledger = Ledger(max_calls=100, max_bytes=1 << 20)
        self.made = 0
        self.entering: dict[ActivationId, tuple[InFlight, float]] = {}
        self.opened: dict[ActivationId, InFlight] = {}

    def teardown(self) -> None:
        ledger_module.mono_s = mono_s

    def _new(self, namespace: str, caused_by: str) -> InFlight:
        self.made += 1
        return in_flight(self.made, namespace, caused_by)

    @rule(namespace=st.sampled_from(NAMESPACES), caused_by=st.sampled_from(["", "sequence"]))
    def enter(self, namespace: str, caused_by: str) -> None:
        call = self._new(namespace, caused_by)
        self.ledger.entering(call)
        self.entering[call.activation.id] = (call, self.now_s + ledger_module._ENTRY_S)

    @rule(namespace=st.sampled_from(NAMESPACES), caused_by=st.sampled_from(["", "sequence"]))
    def arrive(self, namespace: str, caused_by: str) -> None:
        call = self._new(namespace, caused_by)
        self.ledger.open(call)
        self.opened[call.activation.id] = call

    @precondition(lambda self: self.entering)
    @rule(data=st.data())
    def read(self, data: Any) -> None:
        activation_id = data.draw(st.sampled_from(sorted(self.entering)))
        call, _ = self.entering.pop(activation_id)
        self.ledger.open(call)
        self.opened[activation_id] = call

    @precondition(lambda self: self.entering)
    @rule(data=st.data())
    def fail(self, data: Any) -> None:
        activation_id = data.draw(st.sampled_from(sorted(self.entering)))
        del self.entering[activation_id]
        self.ledger.not_entering(activation_id)

    @precondition(lambda self: self.opened)
    @rule(data=st.data(), vm=st.booleans())
    def answer(self, data: Any, vm: bool) -> None:
        call = self.opened[data.draw(st.sampled_from(sorted(self.opened)))]
        call.vm_id = VmId("h1") if vm else None
        self.ledger.answered(call, RECORD, call.vm_id)

    @precondition(lambda self: self.opened)
    @rule(data=st.data())
    def close(self, data: Any) -> None:
        activation_id = data.draw(st.sampled_from(sorted(self.opened)))
        del self.opened[activation_id]
        self.ledger.close(activation_id)

    @rule(step_s=st.sampled_from([0.01, 0.05, 0.2]))
    def wait(self, step_s: float) -> None:
        self.now_s += step_s

    @invariant()
    def counts_what_runs(self) -> None:
        for namespace in NAMESPACES:
            running = [call for call in self.opened.values() if call.record is None]
            running += [call for call, until_s in self.entering.values() if self.now_s < until_s]
            ours = [c for c in running if c.activation.action.caller_namespace == namespace and not c.caused_by]
            assert self.ledger.running_of(namespace) == len(ours)
        assert len(list(self.ledger.under_way())) == sum(call.record is None for call in self.opened.values())


RECORD = Record(
    activation_id="", namespace="", name="", version="", subject="", attempt=1, start_unix_ms=0, end_unix_ms=0,
    status=0, result=b"{}", logs=[], kind="", timeout_ms=0, memory_mb=0, logs_mb=0, concurrency=1, wait_ms=None,
    init_ms=None, run_ms=None, cpu_ms=None,
)  # fmt: skip

TestCounting = Counting.TestCase
TestCounting.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
