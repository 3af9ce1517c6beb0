"""PoolState: what it answers to single stories, compared instruction by instruction."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from fallow.core.attempt_waits import AttemptWaits
from fallow.core.lifecycle import ContainerState
from fallow.core.model import ActionSpec, ActivationId, ContainerId, ControllerId, Resources, ReturnReason
from fallow.core.pool.events import (
    AbandonRun,
    CancelRequested,
    ContainerDestroyed,
    ContainerDied,
    ContainerStarted,
    ContainerStartFailed,
    DestroyContainer,
    FailUnstarted,
    NoticeChanged,
    PoolEvent,
    PoolInstruction,
    ReturnUnstarted,
    RunEnded,
    RunInContainer,
    RunRequested,
    StartContainer,
    Ticked,
    VmMeasured,
)
from fallow.core.pool.state import PoolLimits, PoolState

CONTROLLER = ControllerId("c1")


def limits(**changes: object) -> PoolLimits:
    values: dict[str, object] = {"queue_calls": 10, "queue_bytes": 1000, "keep_alive_s": 600.0, **changes}
    return PoolLimits(**values)  # type: ignore[arg-type]


class Story:
    """A pool on a VM of 4 cores and 1024 MB, told what happens; every step is validated."""

    def __init__(self, *, memory_mb: float = 1024, cores: float = 4, **changes: object) -> None:
        self.pool = PoolState(limits=limits(**changes))
        self.now_s = 0.0
        self.measure(cores=cores, memory_mb=memory_mb)

    def tell(self, event: PoolEvent) -> list[PoolInstruction]:
        out = self.pool.handle(event, self.now_s)
        self.pool.validate()
        return out

    def measure(
        self,
        *,
        cores: float = 4,
        memory_mb: float = 1024,
        cpu: float = 0,
        used_mb: float = 0,
        idle_mb: dict[int, float] | None = None,
    ) -> object:
        return self.tell(
            VmMeasured(
                capacity=Resources(cpu_cores=cores, memory_mb=memory_mb),
                used=Resources(cpu_cores=cpu, memory_mb=used_mb),
                idle_mb=tuple((ContainerId(i), mb) for i, mb in (idle_mb or {}).items()),
            )
        )

    def run(self, call: str, action: str = "a", *, mb: int = 256, ns: str = "guest", size: int = 0) -> object:
        spec = ActionSpec(namespace=ns, name=action, version="0.0.1", revision="1", kind="python:3", memory_mb=mb)
        return self.tell(
            RunRequested(
                controller_id=CONTROLLER,
                activation_id=ActivationId(call),
                attempt=1,
                action=spec,
                payload_bytes=size,
            )
        )

    def started(self, container: int) -> object:
        return self.tell(ContainerStarted(container_id=ContainerId(container)))

    def failed(self, container: int) -> object:
        return self.tell(ContainerStartFailed(container_id=ContainerId(container), error="no fork"))

    def ended(self, container: int, call: str, *, keep: bool = True) -> object:
        return self.tell(RunEnded(container_id=ContainerId(container), activation_id=ActivationId(call), keep=keep))

    def destroyed(self, container: int) -> object:
        return self.tell(ContainerDestroyed(container_id=ContainerId(container)))

    def cancel(self, call: str) -> object:
        return self.tell(CancelRequested(activation_id=ActivationId(call), attempt=1))

    def tick(self, after_s: float) -> object:
        self.now_s += after_s
        return self.tell(Ticked())

    def runs(self, *calls: tuple[str, int], action: str = "a", mb: int = 256, ns: str = "guest") -> None:
        """Have calls run in the new containers numbered beside them."""
        for call, container in calls:
            assert self.run(call, action, mb=mb, ns=ns) == [start(container, mb)]
            assert self.started(container) == [go(container, call, init=True)]


def start(container: int, mb: int = 256, *, prewarm: bool = False) -> StartContainer:
    return StartContainer(
        container_id=ContainerId(container), kind="python:3", memory_mb=mb, cap_cores=1.0, prewarm=prewarm
    )


def go(container: int, call: str, *, init: bool = False, prewarmed: bool = False) -> RunInContainer:
    return RunInContainer(
        container_id=ContainerId(container),
        activation_id=ActivationId(call),
        attempt=1,
        init=init,
        prewarmed=prewarmed,
    )


def destroy(container: int, reason: str = "its memory is needed") -> DestroyContainer:
    return DestroyContainer(container_id=ContainerId(container), reason=reason)


def back(call: str, reason: ReturnReason) -> ReturnUnstarted:
    return ReturnUnstarted(controller_id=CONTROLLER, activation_id=ActivationId(call), attempt=1, reason=reason)


def test_the_first_call_starts_a_container_the_second_finds_it_warm() -> None:
    story = Story()
    assert story.run("x1") == [start(1)]
    assert (story.pool.queued, story.pool.running) == (1, 0)
    assert story.started(1) == [go(1, "x1", init=True)]
    assert (story.pool.queued, story.pool.running) == (0, 1)
    assert story.ended(1, "x1") == []
    assert story.pool.warm == 1
    assert story.run("x2") == [go(1, "x2")]
    assert story.pool.holds() == [(CONTROLLER, "x2", 1)]


def test_the_most_recently_used_container_is_taken_first() -> None:
    story = Story()
    story.runs(("x1", 1), ("x2", 2))
    story.ended(2, "x2")
    story.now_s = 1.0
    story.ended(1, "x1")
    assert story.run("x3") == [go(1, "x3")]
    assert story.run("x4") == [go(2, "x4")]


def test_containers_are_not_shared_over_namespaces_or_revisions() -> None:
    story = Story()
    story.runs(("x1", 1))
    story.ended(1, "x1")
    assert story.run("x2", ns="other") == [start(2)]
    assert story.run("x3", "b") == [start(3)]


def test_a_prewarmed_container_needs_kind_and_memory() -> None:
    story = Story(prewarm=(("python:3", 256, 1),))
    assert story.tick(0.25) == [start(1, prewarm=True)]
    assert story.tick(0.25) == []
    assert story.started(1) == []
    assert story.run("x1", mb=128) == [start(2, 128)]
    assert story.run("x2") == [go(1, "x2", init=True, prewarmed=True)]
    assert story.tick(0.25) == [start(3, prewarm=True)]


def test_a_call_takes_a_container_that_starts_ahead_of_time() -> None:
    story = Story(prewarm=(("python:3", 256, 1),))
    assert story.tick(0.25) == [start(1, prewarm=True)]
    assert story.run("x1") == []
    assert story.started(1) == [go(1, "x1", init=True)]


def test_the_stock_does_not_age_out_but_what_is_above_it_does() -> None:
    story = Story(prewarm=(("python:3", 256, 1),), keep_alive_s=10.0)
    story.tick(0.25)
    story.started(1)
    story.runs(("x1", 2), mb=128)
    story.ended(2, "x1")
    assert story.tick(5) == []
    assert story.tick(6) == [destroy(2, "idle for long")]
    assert [c.state for c in story.pool.containers()] == [ContainerState.PREWARMED, ContainerState.DESTROYING]


def test_the_oldest_idle_make_room_and_the_start_waits_until_they_are_gone() -> None:
    story = Story()
    story.runs(("x1", 1), mb=512)
    story.runs(("x2", 2), action="b")
    story.runs(("x3", 3), action="c")
    story.ended(2, "x2")
    story.ended(3, "x3")
    assert story.run("x4", "d", mb=512) == [destroy(2), destroy(3)]
    assert story.destroyed(2) == []
    assert story.destroyed(3) == [start(4, 512)]
    assert story.pool.reserved_mb == 1024


def test_no_more_is_destroyed_while_what_was_destroyed_is_on_its_way_out() -> None:
    story = Story()
    story.runs(("x1", 1), mb=512)
    story.runs(("x2", 2), action="b")
    story.runs(("x3", 3), action="c")
    story.ended(2, "x2")
    story.ended(3, "x3")
    assert story.run("x4", "d") == [destroy(2)]
    assert story.tick(0.25) == []
    assert story.tick(1.0) == []
    assert story.destroyed(2) == [start(4)]
    assert story.pool.warm == 1


def test_an_idle_container_counts_what_it_has_resident() -> None:
    story = Story(memory_mb=512)
    story.runs(("x1", 1), ("x2", 2))
    story.ended(1, "x1")
    assert story.run("y1", "b") == [destroy(1)], "not measured yet: it holds its limit"
    story.destroyed(1)
    story.started(3)
    story.ended(3, "y1")
    story.ended(2, "x2")
    assert story.measure(memory_mb=512, idle_mb={2: 20, 3: 30}) == []
    assert story.pool.reserved_mb == 50
    assert story.run("z1", "c") == [start(4)], "both stay warm beside it"
    assert (story.pool.warm, story.pool.active_mb, story.pool.reserved_mb) == (2, 256, 306)


def test_a_call_that_wakes_a_container_needs_the_rest_of_its_limit() -> None:
    story = Story(memory_mb=512)
    story.runs(("x1", 1))
    story.runs(("y1", 2), action="b")
    story.ended(1, "x1")
    story.ended(2, "y1")
    story.measure(memory_mb=512, idle_mb={1: 20, 2: 30})
    story.runs(("z1", 3), action="c")
    assert story.run("x2") == [destroy(2)], "236 MB more for it; 206 are free"
    assert story.destroyed(2) == [go(1, "x2")]
    assert story.run("x3", "b") == []
    assert story.ended(3, "z1") == [destroy(3)]
    assert story.destroyed(3) == [start(4)]


def test_what_a_container_held_before_is_what_it_holds_until_measured_again() -> None:
    story = Story(memory_mb=512)
    story.runs(("x1", 1))
    story.ended(1, "x1")
    story.measure(memory_mb=512, idle_mb={1: 20})
    story.run("x2")
    assert story.pool.reserved_mb == 256
    story.ended(1, "x2")
    assert story.pool.reserved_mb == 20
    story.measure(memory_mb=512, idle_mb={1: 90, 7: 10})
    assert story.pool.reserved_mb == 90


def test_the_only_container_wakes_whatever_the_numbers_say() -> None:
    story = Story(memory_mb=512)
    story.runs(("x1", 1))
    story.ended(1, "x1")
    story.measure(memory_mb=200, idle_mb={1: 20})
    assert story.run("x2") == [go(1, "x2")]


def test_what_was_measured_of_calls_that_are_gone_keeps_nobody_waiting() -> None:
    story = Story()
    story.runs(("x1", 1))
    story.measure(used_mb=1000, cpu=4)
    story.ended(1, "x1", keep=False)
    assert story.run("x2", "b") == [start(2)]


def test_nothing_is_destroyed_for_a_call_that_would_not_fit_even_so() -> None:
    story = Story()
    story.runs(("x1", 1), mb=512)
    story.runs(("x2", 2), action="b")
    story.ended(2, "x2")
    assert story.run("x3", "c", mb=1024) == []
    assert story.run("x4", "b") == [go(2, "x4")], "what fits overtakes"


def test_memory_that_becomes_free_is_kept_for_the_oldest_after_a_second() -> None:
    story = Story()
    story.runs(("x1", 1), mb=512)
    story.runs(("x2", 2), action="b")
    story.run("big", "c", mb=1024)
    story.tick(1.0)
    assert story.run("x3", "b") == []
    assert story.ended(2, "x2") == [destroy(2)], "kept for big, although x3 could have run there"
    assert story.destroyed(2) == []
    assert story.ended(1, "x1") == [destroy(1)]
    assert story.destroyed(1) == [start(3, 1024)]


def test_namespaces_take_turns() -> None:
    story = Story(memory_mb=256)
    story.runs(("x0", 1))
    for call, ns in (("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b")):
        assert story.run(call, ns=ns) == []
    order = []
    running, container = "x0", 1
    for _ in range(4):
        story.ended(container, running, keep=False)
        story.destroyed(container)
        container += 1
        [begun] = cast(list[RunInContainer], story.started(container))
        running = begun.activation_id
        order.append(running)
    assert order == ["a1", "b1", "a2", "a3"]


def test_cpu_closes_the_gate_and_opens_it_when_the_calls_are_gone() -> None:
    story = Story(cores=2)
    story.runs(("x1", 1), ("x2", 2))
    story.measure(cores=2, cpu=1.9)
    assert story.run("x3") == []
    assert story.pool.queued == 1
    assert story.ended(1, "x1") == [go(1, "x3")], "one call of cap 1 runs: less than 0.9 x 2 whatever the samples say"


def test_measured_memory_counts_where_it_is_more_than_the_limits() -> None:
    story = Story()
    story.runs(("x1", 1))
    story.measure(used_mb=900)
    assert story.run("x2", "b") == []
    for _ in range(4):
        assert story.measure(used_mb=200) == []
    assert story.measure(used_mb=200) == [start(2)], "the high sample is older than five seconds"


def test_idle_containers_that_use_more_than_their_limits_go_one_by_one() -> None:
    story = Story()
    story.runs(("x1", 1), ("x2", 2))
    story.runs(("x3", 3), action="b", mb=128)
    story.ended(1, "x1")
    story.ended(2, "x2")
    story.measure(used_mb=1000)
    reason = "more memory is used than was reserved"
    assert story.run("x4", "c", mb=128) == [destroy(1, reason)]
    assert story.destroyed(1) == []
    assert story.measure(used_mb=900) == [destroy(2, reason)]


def test_a_call_alone_runs_on_a_vm_that_shrank_below_its_need() -> None:
    story = Story(memory_mb=128, cores=0)
    assert story.run("x1", mb=512) == [start(1, 512)]
    assert story.run("x2", "b", mb=512) == []
    story.started(1)
    assert story.ended(1, "x1") == [destroy(1)]
    assert story.destroyed(1) == [start(2, 512)]


def test_a_shrink_kills_nothing_that_runs_but_idle_containers_go() -> None:
    story = Story()
    story.runs(("x1", 1), ("x2", 2), ("x3", 3))
    story.ended(3, "x3")
    assert story.measure(memory_mb=300) == [destroy(3, "the VM has less memory now")]
    assert story.pool.running == 2


def test_starts_at_once_are_bounded() -> None:
    story = Story(max_starts=2)
    assert [story.run(f"x{n}") for n in (1, 2, 3)] == [[start(1)], [start(2)], []]
    assert story.started(1) == [go(1, "x1", init=True), start(3)]


def test_the_queue_is_bounded_in_calls_and_bytes() -> None:
    story = Story(memory_mb=256, queue_calls=2, queue_bytes=100)
    story.runs(("x1", 1))
    assert story.run("x2", size=60) == []
    assert not story.pool.full
    assert story.run("x3", size=41) == [back("x3", ReturnReason.FULL)]
    assert story.run("x4", size=40) == []
    assert story.pool.full
    assert story.run("x5") == [back("x5", ReturnReason.FULL)]
    assert len(story.pool.holds()) == 3


def test_a_full_queue_does_not_keep_a_call_from_a_container_nobody_else_can_use() -> None:
    story = Story(queue_calls=1)
    story.runs(("x1", 1), mb=512)
    story.runs(("x2", 2), action="b")
    story.ended(2, "x2")
    assert story.run("big", "c", mb=1024) == []
    assert story.pool.full
    assert story.run("x3", "b") == [go(2, "x3")]


def test_a_call_that_waited_too_long_is_given_back() -> None:
    story = Story(memory_mb=256)
    story.runs(("x1", 1))
    story.run("x2", "b")
    assert story.tick(29.9) == []
    waited = AttemptWaits(memory_s=30.0)
    assert story.tick(0.1) == [replace(back("x2", ReturnReason.WAITED), waited=waited)]


def test_a_notice_returns_what_has_not_started_and_lets_the_rest_run() -> None:
    story = Story(memory_mb=512)
    story.runs(("x1", 1))
    story.run("x2")
    story.run("x3")
    out = story.tell(NoticeChanged(left_s=30.0))
    assert out == [
        back("x2", ReturnReason.DRAINING),
        back("x3", ReturnReason.DRAINING),
        destroy(2, "the VM is to be evicted"),
    ]
    assert story.run("x4") == [back("x4", ReturnReason.DRAINING)]
    assert story.started(2) == [], "it crossed the order to destroy it"
    assert story.ended(1, "x1") == []
    assert story.tell(NoticeChanged(left_s=None)) == []
    assert story.run("x5") == [go(1, "x5")]


def test_cancelling() -> None:
    story = Story(memory_mb=512)
    story.runs(("x1", 1))
    story.run("x2")
    story.run("x3", "b")
    assert story.cancel("x3") == []
    assert story.cancel("x3") == [], "unknown by now"
    assert story.cancel("x1") == [
        AbandonRun(container_id=ContainerId(1), activation_id=ActivationId("x1"), attempt=1),
        destroy(1, "its call was cancelled"),
    ]
    assert story.ended(1, "x1", keep=False) == []
    assert story.cancel("x2") == []
    assert story.pool.holds() == []
    assert story.run("x4", "c") == [], "takes over the container that started for x2"
    assert story.started(2) == [go(2, "x4", init=True)]


def test_a_request_sent_twice_is_one_call() -> None:
    story = Story()
    story.runs(("x1", 1))
    assert story.run("x1") == []
    assert story.pool.running == 1


def test_a_failed_start_is_tried_once_more() -> None:
    story = Story()
    assert story.run("x1") == [start(1)]
    assert story.failed(1) == [start(2)]
    assert story.failed(2) == [
        FailUnstarted(controller_id=CONTROLLER, activation_id=ActivationId("x1"), attempt=1, error="no fork")
    ]
    assert story.pool.holds() == []
    assert story.pool.reserved_mb == 0


def test_a_start_that_fails_by_the_actions_fault_is_not_tried_again() -> None:
    story = Story()
    story.run("x1")
    text = "Failed to pull container image 'x'."
    failed = ContainerStartFailed(container_id=ContainerId(1), error="no such image", developer_error=text)
    assert story.tell(failed) == [
        FailUnstarted(
            controller_id=CONTROLLER,
            activation_id=ActivationId("x1"),
            attempt=1,
            error="no such image",
            developer_error=text,
        )
    ]
    assert story.pool.reserved_mb == 0


NO_IMAGE = "Failed to pull container image 'x'."


def no_image(container: int) -> ContainerStartFailed:
    return ContainerStartFailed(container_id=ContainerId(container), error="none", developer_error=NO_IMAGE)


def refused(call: str) -> FailUnstarted:
    return FailUnstarted(
        controller_id=CONTROLLER,
        activation_id=ActivationId(call),
        attempt=1,
        error="none",
        developer_error=NO_IMAGE,
    )


def test_calls_that_wait_for_a_container_that_cannot_be_start_none() -> None:
    story = Story(max_starts=1)
    story.run("x1")
    assert story.run("x2") == []
    assert story.run("other", mb=128) == []
    failed = cast(list[PoolInstruction], story.tell(no_image(1)))
    told = [replace(i, waited=None) if isinstance(i, FailUnstarted) else i for i in failed]
    assert told == [refused("x2"), refused("x1"), start(2, 128)], "another container may well start"
    assert [activation for _, activation, _ in story.pool.holds()] == ["other"]


def test_a_call_stays_that_a_container_of_its_action_may_serve() -> None:
    story = Story(max_starts=1)
    story.runs(("x1", 1))
    assert story.run("x2") == [start(2)]
    assert story.run("x3") == []
    failed = cast(list[PoolInstruction], story.tell(no_image(2)))
    assert [i.activation_id for i in failed if isinstance(i, FailUnstarted)] == ["x2"]
    assert [activation for _, activation, _ in story.pool.holds()] == ["x1", "x3"]


def test_a_blackbox_is_started_with_its_image_and_has_no_stock_of_another() -> None:
    story = Story()

    def blackbox(call: str, name: str, image: str) -> object:
        spec = ActionSpec(
            namespace="guest", name=name, version="0.0.1", revision="1", kind="blackbox", image=image, memory_mb=256
        )
        return story.tell(
            RunRequested(
                controller_id=CONTROLLER, activation_id=ActivationId(call), attempt=1, action=spec, payload_bytes=0
            )
        )

    assert blackbox("x1", "a", "one/image") == [replace(start(1), kind="blackbox:one/image")]
    story.cancel("x1")  # its container starts on, for whoever wants one of its image
    assert blackbox("x2", "b", "two/image") == [replace(start(2), kind="blackbox:two/image")]
    assert blackbox("x3", "c", "one/image") == []


def test_a_failed_start_ahead_of_time_is_not_repeated_at_once() -> None:
    story = Story(prewarm=(("python:3", 256, 1),))
    story.tick(0.25)
    story.failed(1)
    assert story.tick(4.0) == []
    assert story.tick(2.0) == [start(2, prewarm=True)]


def test_an_idle_container_that_died_is_forgotten() -> None:
    story = Story()
    story.runs(("x1", 1))
    story.ended(1, "x1")
    assert story.tell(ContainerDied(container_id=ContainerId(1))) == []
    assert story.pool.containers() == []
    assert story.run("x2") == [start(2)]


def test_a_call_whose_container_starts_takes_a_warm_one_that_comes_free() -> None:
    story = Story()
    story.runs(("x1", 1))
    assert story.run("x2") == [start(2)]
    assert story.ended(1, "x1") == [go(1, "x2")]
    assert story.started(2) == []
    assert story.run("x3", "b") == [go(2, "x3", init=True, prewarmed=True)]


def test_an_end_that_names_another_call_is_a_broken_contract() -> None:
    story = Story()
    story.runs(("x1", 1))
    with pytest.raises(ValueError, match="does not run x9"):
        story.ended(1, "x9")


def test_active_memory_leaves_out_idle_and_destroyed_containers() -> None:
    story = Story()
    story.runs(("x1", 1), ("x2", 2), ("x3", 3))
    story.ended(1, "x1")
    story.ended(2, "x2", keep=False)
    assert (story.pool.reserved_mb, story.pool.active_mb) == (768, 256)


def test_a_queued_call_takes_a_prewarmed_container_while_no_other_may_start() -> None:
    story = Story(cores=1, max_starts=1, prewarm=(("python:3", 256, 1),))
    assert story.tick(0.25) == [start(1, prewarm=True)]
    story.started(1)
    story.runs(("x1", 2), action="b", mb=128)
    story.ended(2, "x1")
    assert story.run("x2", "c", mb=512) == [start(3, 512)]
    story.cancel("x2")  # its container starts all the same
    assert story.run("x3", "b", mb=128) == [go(2, "x3")]
    story.measure(cores=1, cpu=1)
    assert story.run("x4", "d", mb=128) == []
    assert story.run("x5") == []
    assert story.ended(2, "x3") == [go(1, "x5", init=True, prewarmed=True)]
    assert story.pool.queued == 1


def test_the_oldest_call_waits_for_memory_although_one_that_overtook_it_filled_the_cpu() -> None:
    story = Story(cores=2)
    story.runs(("x1", 1), action="b")
    story.ended(1, "x1")
    story.runs(("x2", 2), ns="other")
    story.runs(("x3", 3), action="c")
    story.measure(cores=2, cpu=2)
    assert story.run("x4", "d", ns="other") == []  # its namespace has the first turn
    assert story.run("old", "e", mb=512) == []
    story.now_s = 0.5
    assert story.run("x5", ns="other") == []
    story.cancel("x4")
    story.now_s = 1.5
    assert story.ended(2, "x2") == [destroy(1), replace(go(2, "x5"), waited=AttemptWaits(cpu_s=1.0))]
    story.now_s = 3.5
    assert story.destroyed(1) == []
    story.now_s = 4.0
    assert story.ended(3, "x3") == [start(4, 512)]
    assert story.started(4) == [replace(go(4, "old", init=True), waited=AttemptWaits(cpu_s=2.0, memory_s=2.0))]
