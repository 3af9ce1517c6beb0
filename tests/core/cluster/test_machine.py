"""Drives ClusterState through everything that can happen, against a model of the world around it.

The model plays invokers, store and clients. Teardown lets every VM be well and answers everything; then nothing may be
left and every call must have ended exactly once.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import fallow.core.policies  # noqa: F401 - registers the policies
from fallow.core.attempt_waits import AttemptWaits
from fallow.core.cluster.events import (
    AcceptOutcome,
    ActivationArrived,
    ActivationMadeDurable,
    AttemptCompleted,
    AttemptFinished,
    AttemptReturned,
    CancelAttempt,
    ClusterEvent,
    ClusterInstruction,
    Conclude,
    ControllersChanged,
    DeclareLost,
    DiscardOutcome,
    Dispatch,
    FenceRaised,
    FenceRefused,
    Forget,
    RaiseFence,
    Refuse,
    Ticked,
    VmDisconnected,
    VmJoined,
    VmReported,
)
from fallow.core.cluster.state import ClusterLimits, ClusterState
from fallow.core.eviction import make_strategy
from fallow.core.lifecycle import VmState
from fallow.core.model import (
    ActionKey,
    ActionSpec,
    Activation,
    ActivationId,
    Decision,
    Outcome,
    Resources,
    ReturnReason,
    Status,
    VmId,
    VmInfo,
    VmKind,
    VmReport,
)
from fallow.core.policies.base import ClusterView, Policy, Sample, make_policy, policies
from fallow.core.why.cost import attempt_costs
from fallow.core.why.story import StepKind, Story

LIMITS = ClusterLimits(
    waiting_calls=4,
    max_wait_s=6.0,
    no_vm_wait_s=2.0,
    max_queue_wait_s=6.0,
    start_limit_s=4.0,
    deadline_margin_s=2.0,
    why_kept=20,
)
TIMEOUT_S = 1.0
OVERDUE_S = 6.0 + 4.0 + 2 * TIMEOUT_S + 2.0
KINDS = {"r1": VmKind.REGULAR, "h1": VmKind.HARVEST, "h2": VmKind.HARVEST, "s1": VmKind.SPOT}
GRACE_S = 3.0
LONG_S = 5.0  # what a long call runs
FORBIDDING = ("no-failures", "bounded:90")  # long calls on regular VMs only
OK = Outcome(
    status=Status.SUCCESS,
    wait_s=0.3,
    run_s=0.1,
    cpu_s=0.05,
    waits=AttemptWaits(cpu_s=0.1, shrink_s=0.05, start_s=0.1),
)
ALL_VMS = st.sampled_from([VmId(name) for name in KINDS])
Held = tuple[ActivationId, int]


class Blind:
    """Takes the first VM it believes usable and looks at no view: the worst policy the brain has to cope with."""

    name = "blind"

    def __init__(self) -> None:
        self.usable: dict[VmId, tuple[VmKind, bool]] = {}

    def vm_joined(self, vm_id: VmId, kind: VmKind, now_s: float) -> None:
        assert vm_id not in self.usable, "joined twice"
        self.usable[vm_id] = (kind, True)

    def vm_usable(self, vm_id: VmId, usable: bool, now_s: float) -> None:
        self.usable[vm_id] = (self.usable[vm_id][0], usable)

    def vm_left(self, vm_id: VmId, now_s: float) -> None:
        del self.usable[vm_id]

    def arrived(self, action: ActionKey, now_s: float) -> None:
        pass

    def completed(self, action: ActionKey, sample: Sample, now_s: float) -> None:
        pass

    def place(self, call: Activation, kind: VmKind, view: ClusterView, now_s: float) -> Decision:
        for vm_id, (its_kind, usable) in self.usable.items():
            if usable and its_kind is kind:
                assert vm_id in view.vm_ids(kind)
                return Decision(vm_id=vm_id, fits=True, reason="the first", cpu_cores=0.3, memory_mb=77.7)
        return Decision(vm_id=None, fits=False, reason="none")


@dataclass
class World:
    """One VM as it really is."""

    id: VmId
    kind: VmKind
    runtimes: tuple[str, ...] = ("python:3",)
    incarnation: int = 1
    joined: bool = False
    linked: bool = False  # as both sides know it
    frozen: bool = False
    cores: float = 4.0
    full: bool = False
    healthy: bool = True
    evict_at_s: float | None = None
    seen: int = 0
    running: dict[Held, bool] = field(default_factory=dict)  # -> finished, logs still to come
    told: VmReport | None = None

    def report(self, now_s: float) -> VmReport:
        return VmReport(
            capacity=Resources(cpu_cores=self.cores, memory_mb=4096),
            used=Resources(cpu_cores=0.1 * len(self.running), memory_mb=100.0 * len(self.running)),
            running=len(self.running),
            full=self.full,
            healthy=self.healthy,
            notice_left_s=None if self.evict_at_s is None else max(0.0, self.evict_at_s - now_s),
            seen=self.seen,
        )


class ClusterMachine(RuleBasedStateMachine):
    """Rules are what may happen; `feed` checks every instruction against the model."""

    policy = "mws"
    strategy = "prefer-regular"

    @initialize(seed=st.integers(0, 2**32))
    def start(self, seed: int) -> None:
        self.pick = random.Random(seed)
        self.now_s = 100.0
        self.cluster = ClusterState(
            policy=self.new_policy(random.Random(seed)), strategy=make_strategy(self.strategy, GRACE_S), limits=LIMITS
        )
        self.vms = {VmId(name): World(id=VmId(name), kind=kind) for name, kind in KINDS.items()}
        self.vms[VmId("s1")].runtimes = ("python:3", "nodejs:20")
        self.calls: dict[ActivationId, Activation] = {}
        self.durable: set[ActivationId] = set()
        self.ended: dict[ActivationId, ClusterInstruction] = {}
        self.arrived_s: dict[ActivationId, float] = {}
        self.ended_s: dict[ActivationId, float] = {}
        self.fence: dict[ActivationId, int] = {}  # as the store has it
        self.asked: dict[ActivationId, RaiseFence] = {}
        self.granted: set[Held] = set()
        self.latest: dict[ActivationId, tuple[VmId, int]] = {}
        self.booked: dict[VmId, dict[Held, float | None]] = {vm_id: {} for vm_id in self.vms}  # -> finished when
        self.history: list[tuple[VmId, ActivationId, int]] = []
        self.lasted: dict[ActivationId, float] = {}
        self.long_apps: set[tuple[str, str]] = set()  # those that had a call of LONG_S
        self.join(VmId("h1"))
        self.join(VmId("r1"))

    def new_policy(self, dice: random.Random) -> Policy:
        return make_policy(self.policy, dice)

    # -- feeding and checking

    def feed(self, event: ClusterEvent) -> list[ClusterInstruction]:
        out = self.cluster.handle(event, self.now_s)
        for instruction in out:
            self.check(instruction)
        return out

    def check(self, instruction: ClusterInstruction) -> None:
        match instruction:
            case Dispatch():
                self.check_dispatch(instruction)
            case RaiseFence(activation_id=call_id):
                assert call_id not in self.asked, "two fences asked at once"
                assert call_id not in self.ended
                self.asked[call_id] = instruction
                self.unbook(call_id)
            case CancelAttempt(vm_id=vm_id, activation_id=call_id, attempt=attempt):
                assert self.vms[vm_id].linked, "cancelled over a closed link"
                self.vms[vm_id].running.pop((call_id, attempt), None)
                self.booked[vm_id].pop((call_id, attempt), None)
            case AcceptOutcome(vm_id=vm_id, activation_id=call_id, attempt=attempt):
                assert self.latest[call_id] == (vm_id, attempt), "accepted an attempt that is not the present one"
                self.end(call_id, instruction)
            case DiscardOutcome():
                pass
            case Conclude(activation_id=call_id, fence=fence):
                assert fence >= self.fence.get(call_id, 0), "its record would be fenced off"
                self.end(call_id, instruction)
            case Refuse(activation_id=call_id):
                assert call_id not in self.durable, "an accepted call was refused"
                assert self.latest.get(call_id, ("", 1))[1] == 1, "a call that was started was refused"
                self.end(call_id, instruction)
            case Forget(activation_id=call_id):
                self.end(call_id, instruction)
            case DeclareLost(vm_id=vm_id, keep_link=keep_link):
                self.vms[vm_id].linked = keep_link
                self.booked[vm_id].clear()

    def check_dispatch(self, order: Dispatch) -> None:
        vm, held = self.vms[order.vm_id], (order.activation_id, order.attempt)
        call = self.calls[order.activation_id]
        assert order.activation_id not in self.ended, "started after its end"
        assert vm.linked, "dispatched to a VM that is not connected"
        assert vm.told is not None
        assert vm.told.notice_left_s is None, "dispatched to a draining VM"
        assert vm.told.healthy, "dispatched to an unhealthy VM"
        assert not vm.told.full, "dispatched to a full VM"
        assert call.action.kind in vm.runtimes, "dispatched to a VM without the runtime"
        self.check_kind(order.long, call.action, vm)
        assert 1 <= order.attempt <= LIMITS.max_attempts
        assert order.attempt >= self.latest.get(call.id, ("", 0))[1], "an older attempt was started again"
        first = order.attempt == 1 and call.id not in self.durable
        assert first or self.fence.get(call.id, 0) == order.attempt, "started without its fence"
        assert not any(h[0] == call.id for booked in self.booked.values() for h in booked), "on two VMs at once"
        if not call.action.idempotent:
            assert order.attempt == 1, "a call that is not idempotent was started twice"
        self.latest[call.id] = (vm.id, order.attempt)
        self.booked[vm.id][held] = None
        self.history.append((vm.id, call.id, order.attempt))
        if not vm.frozen:
            vm.running[held] = False
            vm.seen = order.seq

    def check_kind(self, long: bool, action: ActionSpec, vm: World) -> None:
        assert action.long in (None, long), "what an action declares counts"
        if action.long is None and self.strategy != "bounded:90":  # there a long app may become a short one again
            assert long or action.app_key not in self.long_apps, "a long call of the app was forgotten"
        if long and self.strategy in FORBIDDING:
            assert vm.kind is VmKind.REGULAR, "a long call on a VM that can be evicted"

    def end(self, call_id: ActivationId, how: ClusterInstruction) -> None:
        assert call_id not in self.ended, f"ended twice: {self.ended[call_id]} and {how}"
        self.ended[call_id] = how
        self.ended_s[call_id] = self.now_s
        if not isinstance(how, AcceptOutcome):
            self.unbook(call_id)

    def unbook(self, call_id: ActivationId) -> None:
        for booked in self.booked.values():
            for held in [h for h in booked if h[0] == call_id]:
                del booked[held]

    # -- arrivals

    @rule(
        durable=st.booleans(),
        attempts=st.sampled_from([0, 0, 0, 1, 2, 3]),
        idempotent=st.sampled_from([True, True, False]),
        long=st.sampled_from([True, False, None, None]),
        runtime=st.sampled_from(["python:3", "python:3", "python:3", "nodejs:20", "ruby:1"]),
        who=st.integers(0, 2),
        burst=st.sampled_from([1, 1, 3, 6]),
    )
    def arrive(
        self, durable: bool, attempts: int, idempotent: bool, long: bool | None, runtime: str, who: int, burst: int
    ) -> None:
        for _ in range(burst):
            self.arrive_one(durable, attempts, idempotent, long, runtime, who)

    def arrive_one(
        self, durable: bool, attempts: int, idempotent: bool, long: bool | None, runtime: str, who: int
    ) -> None:
        spec = ActionSpec(
            namespace=f"n{who % 2}",
            name=f"a{who}{idempotent}{long}{runtime}",
            version="0.0.1",
            revision="1",
            kind=runtime,
            timeout_s=TIMEOUT_S,
            idempotent=idempotent,
            long=long,
        )
        call = Activation(
            id=ActivationId(f"c{len(self.calls)}"),
            action=spec,
            blocking=not durable,
            durable=durable,
            attempts=attempts if durable else 0,
            payload_bytes=10,
        )
        self.calls[call.id] = call
        self.arrived_s[call.id] = self.now_s
        if durable:
            self.durable.add(call.id)
            self.fence[call.id] = attempts
        self.feed(ActivationArrived(activation=call))

    @precondition(lambda self: self.calls)
    @rule(at=st.integers(0, 1000))
    def made_durable(self, at: int) -> None:
        call_id = list(self.calls)[at % len(self.calls)]
        if call_id in self.durable or call_id in self.ended:
            return
        running = self.cluster.running_attempt(call_id)
        if running and not self.fence.get(call_id):
            self.fence[call_id] = running
        self.durable.add(call_id)
        self.feed(ActivationMadeDurable(activation_id=call_id, running_attempt=running))
        assert not self.feed(ActivationArrived(activation=replace(self.calls[call_id], durable=True)))

    # -- the store

    @precondition(lambda self: self.asked)
    @rule(at=st.integers(0, 1000), how=st.sampled_from(["grant", "grant", "grant", "recorded", "superseded"]))
    def answer_fence(self, at: int, how: str) -> None:
        call_id = list(self.asked)[at % len(self.asked)]
        asked = self.asked.pop(call_id)
        if how == "recorded":
            self.feed(FenceRefused(activation_id=call_id, attempt=asked.attempt, recorded=True))
        elif how == "superseded" or self.fence.get(call_id, 0) != asked.expect:
            self.feed(FenceRefused(activation_id=call_id, attempt=asked.attempt, recorded=False))
        else:
            self.fence[call_id] = asked.attempt
            self.feed(FenceRaised(activation_id=call_id, attempt=asked.attempt))
            assert not self.feed(FenceRaised(activation_id=call_id, attempt=asked.attempt)), "a doubled answer acted"

    # -- what runs

    def running(self) -> list[tuple[World, Held]]:
        return [(vm, held) for vm in self.vms.values() if vm.linked and not vm.frozen for held in vm.running]

    @precondition(lambda self: self.running())
    @rule(
        at=st.integers(0, 1000),
        how=st.sampled_from(["both", "finish", "complete", "evicted"]),
        run_s=st.sampled_from([0.1, 0.1, LONG_S]),
    )
    def progress(self, at: int, how: str, run_s: float) -> None:
        all_running = self.running()
        vm, held = all_running[at % len(all_running)]
        if how != "complete" and not vm.running[held]:
            self.finish(vm, held, replace(OK, evicted=how == "evicted", run_s=run_s))
        if how != "finish" and held in vm.running:
            self.complete(vm, held)

    def finish(self, vm: World, held: Held, outcome: Outcome) -> None:
        current = held in self.booked[vm.id]
        event = AttemptFinished(vm_id=vm.id, activation_id=held[0], attempt=held[1], outcome=outcome)
        vm.running[held] = True
        out = self.feed(event)
        verdict = AcceptOutcome if current and not outcome.evicted else DiscardOutcome
        fields = {"vm_id": vm.id, "activation_id": held[0], "attempt": held[1]}
        assert [i for i in out if isinstance(i, AcceptOutcome | DiscardOutcome)] == [verdict(**fields)]
        if outcome.evicted:
            self.booked[vm.id].pop(held, None)
        elif current:
            self.booked[vm.id][held] = self.now_s
            self.lasted[held[0]] = outcome.run_s
        again = self.feed(event)
        assert [i for i in again if isinstance(i, AcceptOutcome | DiscardOutcome)] == [DiscardOutcome(**fields)]

    def complete(self, vm: World, held: Held) -> None:
        answered = self.booked[vm.id].pop(held, None) is not None
        del vm.running[held]
        event = AttemptCompleted(vm_id=vm.id, activation_id=held[0], attempt=held[1])
        self.feed(event)
        if answered and self.lasted[held[0]] > GRACE_S:
            self.long_apps.add(self.calls[held[0]].action.app_key)

    @precondition(lambda self: self.running())
    @rule(at=st.integers(0, 1000), reason=st.sampled_from(list(ReturnReason)))
    def give_back(self, at: int, reason: ReturnReason) -> None:
        all_running = self.running()
        vm, held = all_running[at % len(all_running)]
        if vm.running[held]:
            return
        self.booked[vm.id].pop(held, None)
        del vm.running[held]
        out = self.feed(
            AttemptReturned(
                vm_id=vm.id, activation_id=held[0], attempt=held[1], reason=reason, waits=AttemptWaits(memory_s=0.2)
            )
        )
        assert not [i for i in out if isinstance(i, Dispatch) and (i.vm_id, i.activation_id) == (vm.id, held[0])]

    @precondition(lambda self: self.history)
    @rule(at=st.integers(0, 1000), what=st.sampled_from(["finish", "complete", "return"]))
    def stale(self, at: int, what: str) -> None:
        vm_id, call_id, attempt = self.history[at % len(self.history)]
        if (call_id, attempt) in self.booked[vm_id]:
            return  # it would be no stale message
        fields = {"vm_id": vm_id, "activation_id": call_id, "attempt": attempt}
        if what == "finish":
            assert self.feed(AttemptFinished(**fields, outcome=OK)) == [DiscardOutcome(**fields)]
        elif what == "complete":
            assert self.feed(AttemptCompleted(**fields)) == []
        else:
            assert self.feed(AttemptReturned(**fields, reason=ReturnReason.FULL)) == []

    # -- VMs

    def info(self, vm: World) -> VmInfo:
        return VmInfo(id=vm.id, incarnation=str(vm.incarnation), kind=vm.kind, runtimes=vm.runtimes)

    def join(self, vm_id: VmId) -> None:
        vm = self.vms[vm_id]
        vm.joined = vm.linked = True
        vm.told = vm.report(self.now_s)
        held = set(vm.running)
        for gone in [h for h in self.booked[vm_id] if h not in held]:
            del self.booked[vm_id][gone]
        self.feed(VmJoined(vm=self.info(vm), report=vm.told, holds=tuple(vm.running)))
        for left in vm.running:
            known = self.calls[left[0]].id not in self.ended
            assert not known or left in self.booked[vm_id], "a held attempt that is not wanted was not cancelled"

    @rule(
        vm_id=st.sampled_from([VmId(n) for n in KINDS]),
        forget=st.booleans(),
        anew=st.sampled_from([False, False, True]),
    )
    def dial(self, vm_id: VmId, forget: bool, anew: bool) -> None:
        vm = self.vms[vm_id]
        if vm.frozen:
            return
        if anew and vm.joined:
            vm.incarnation += 1
            vm.seen = 0
            vm.running.clear()
        elif forget and vm.running:
            vm.running.pop(next(iter(vm.running)))
        self.join(vm_id)

    def linked_vm(self, at: int) -> World | None:
        linked = [vm for vm in self.vms.values() if vm.linked and not vm.frozen]
        return linked[at % len(linked)] if linked else None

    @rule(
        at=st.integers(0, 1000),
        cores=st.sampled_from([0.0, 0.5, 2.0, 8.0]),
        full=st.booleans(),
        healthy=st.sampled_from([True, True, False]),
    )
    def change(self, at: int, cores: float, full: bool, healthy: bool) -> None:
        vm = self.linked_vm(at)
        if vm is not None:
            vm.cores, vm.full, vm.healthy = cores, full, healthy
            self.report(vm)

    @rule(at=st.integers(0, 1000), notice_s=st.sampled_from([None, 0.0, 1.0, 1.0, 3.0]))
    def notice(self, at: int, notice_s: float | None) -> None:
        vm = self.linked_vm(at)
        if vm is not None and vm.kind.evictable:
            vm.evict_at_s = None if notice_s is None else self.now_s + notice_s
            self.report(vm)

    def report(self, vm: World) -> None:
        vm.told = vm.report(self.now_s)
        self.feed(VmReported(vm_id=vm.id, report=vm.told))

    @rule(at=st.integers(0, 1000))
    def disconnect(self, at: int) -> None:
        vm = self.linked_vm(at)
        if vm is not None:
            vm.linked = False
            self.feed(VmDisconnected(vm_id=vm.id))
            self.feed(VmReported(vm_id=vm.id, report=vm.report(self.now_s)))  # read from the old link: too late

    @rule(vm_id=ALL_VMS, frozen=st.booleans())
    def freeze(self, vm_id: VmId, frozen: bool) -> None:
        self.vms[vm_id].frozen = frozen

    @rule(live=st.integers(0, 3))
    def controllers_change(self, live: int) -> None:
        self.feed(ControllersChanged(live=live))

    @rule(quarters=st.sampled_from([1, 4, 12, 30]))
    def time_passes(self, quarters: int) -> None:
        for n in range(quarters):
            self.now_s += 0.25
            if n % 4 == 0:
                for vm in self.vms.values():
                    if vm.linked and not vm.frozen:
                        self.report(vm)
            self.feed(Ticked())
        for status in self.cluster.vms(self.now_s):
            silent = status.heard_ago_s > LIMITS.lost_after_s + 0.5
            assert not silent or status.state is VmState.LOST, f"{status.info.id} is silent and not lost"

    # -- invariants

    @rule()
    def this_process_stalls(self) -> None:
        """Nothing was read for eight seconds: no reason to call anybody lost."""
        self.feed(Ticked())
        linked = self.linked_ids()
        self.now_s += 8.0
        for vm in self.vms.values():
            if vm.evict_at_s is not None:
                vm.evict_at_s += 8.0
        self.feed(Ticked())
        assert self.linked_ids() == linked

    def linked_ids(self) -> list[VmId]:
        return [status.info.id for status in self.cluster.vms(self.now_s) if status.connected]

    @invariant()
    def consistent(self) -> None:
        self.cluster.validate()
        assert self.cluster.in_flight == len(self.unfinished()) + self.collecting()
        for status in self.cluster.vms(self.now_s):
            booked = self.booked[status.info.id].values()
            freed = sum(1 for at_s in booked if at_s is not None)  # overdue ones may be freed without a word
            assert len(booked) - freed <= status.in_flight <= len(booked), f"{status.info.id}: bookings differ"

    def unfinished(self) -> list[ActivationId]:
        return [call_id for call_id in self.calls if call_id not in self.ended]

    def collecting(self) -> int:
        unfinished = set(self.unfinished())
        on_vms = sum(status.in_flight for status in self.cluster.vms(self.now_s))
        waiting_for_result = sum(1 for b in self.booked.values() for held in b if held[0] in unfinished)
        return on_vms - waiting_for_result

    @invariant()
    def everybody_has_a_story(self) -> None:
        for call_id in self.unfinished():
            story = self.cluster.why(call_id, self.now_s)
            assert story is not None
            assert not story.ended
            self.check_sums(story, self.now_s - self.arrived_s[call_id])
        for call_id in list(self.ended)[-3:]:
            story = self.cluster.why(call_id, self.now_s)
            if story is not None:
                assert story.ended
                self.check_sums(story, self.ended_s[call_id] - self.arrived_s[call_id])

    def check_sums(self, story: Story, span_s: float) -> None:
        """The waits by cause are the time from arrival to answer, or to now: no more, no less, none negative."""
        assert all(part_s > 0 for part_s in story.spent.by_cause.values())
        assert story.spent.total_s == pytest.approx(span_s, abs=1e-9)
        if not story.left_out:
            costs = attempt_costs(story)
            assert [cost.wasted for cost in costs] == [
                step.what is StepKind.CUT_OFF
                for step in story.steps
                if step.what in (StepKind.CUT_OFF, StepKind.FINISHED)
            ] + [False] * on_vm(story)

    def teardown(self) -> None:
        if not hasattr(self, "cluster"):
            return
        for vm in self.vms.values():
            vm.frozen, vm.full, vm.healthy, vm.cores, vm.evict_at_s = False, False, True, 8.0, None
            self.join(vm.id)
        for _ in range(200):
            if not self.cluster.in_flight:
                break
            while self.asked:
                self.answer_fence(0, "grant")
            for vm, held in self.running():
                if held not in vm.running:
                    continue
                if not vm.running[held]:
                    self.finish(vm, held, OK)
                self.complete(vm, held)
            self.waits_for_a_new_vm()
            self.time_passes(4)
            self.consistent()
        assert not self.cluster.in_flight, f"left: {[self.cluster.why(c) for c in self.unfinished()]}"
        assert set(self.ended) == set(self.calls)
        assert not self.cluster.waiting
        assert all(status.in_flight == 0 for status in self.cluster.vms(self.now_s))

    def waits_for_a_new_vm(self) -> None:
        """Durable calls that every VM refused for good, or whose runtime nobody offers, rightly wait for a new VM."""
        fresh = VmId("r9")
        if fresh not in self.vms:
            runtimes = ("python:3", "nodejs:20", "ruby:1")
            self.vms[fresh] = World(id=fresh, kind=VmKind.REGULAR, runtimes=runtimes, cores=8.0)
            self.booked[fresh] = {}
            self.join(fresh)


def on_vm(story: Story) -> bool:
    """Does its last dispatch still run?"""
    ends = (StepKind.CUT_OFF, StepKind.FINISHED, StepKind.RETURNED)
    moves = [step.what for step in story.steps if step.what in (*ends, StepKind.PLACED)]
    return bool(moves) and moves[-1] is StepKind.PLACED


class BlindMachine(ClusterMachine):
    def new_policy(self, dice: random.Random) -> Policy:
        return Blind()


STRATEGIES = ("prefer-regular", "no-failures", "bounded:90", "live-and-let-die")
MACHINES: dict[str, type[ClusterMachine]] = {"blind": BlindMachine} | {
    f"{policy} {strategy}": type("Machine", (ClusterMachine,), {"policy": policy, "strategy": strategy})
    for policy in sorted(policies())
    for strategy in STRATEGIES
}


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES.keys())
def test_any_history_ends_well(machine: type[ClusterMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
