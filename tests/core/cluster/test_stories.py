"""What the brain remembers of a call for `why`."""

from __future__ import annotations

from dataclasses import replace

from fallow.core.cluster.events import (
    AttemptCompleted,
)
from fallow.core.model import (
    ActivationId,
    Resources,
    ReturnReason,
    VmKind,
)
from fallow.core.why.placement import PassedOver, Placement
from fallow.core.why.story import CoresChange, StepKind
from support.rig import C1, ECHO, H1, H2, R1, REPORT, Rig


def placements(rig: Rig, call_id: ActivationId = C1) -> list[Placement]:
    story = rig.state.why(call_id)
    assert story is not None
    return [step.detail for step in story.steps if isinstance(step.detail, Placement)]


def test_the_story_of_a_moved_call() -> None:
    rig = Rig("h1", "r1")
    rig.arrive()
    rig.report("h1", replace(REPORT, notice_left_s=1.0, seen=1))
    rig.wait(1.5, "r1")
    rig.raised(2)
    rig.finish("r1", 2)
    rig.complete("r1", 2)
    story = rig.state.why(C1)
    assert story is not None
    assert [(step.what, step.attempt, step.vm_id) for step in story.steps] == [
        (StepKind.PLACED, 1, H1),
        (StepKind.NOTICE, 1, H1),
        (StepKind.CUT_OFF, 1, H1),
        (StepKind.FENCE_ASKED, 2, None),
        (StepKind.FENCE_RAISED, 2, None),
        (StepKind.PLACED, 2, R1),
        (StepKind.FINISHED, 2, R1),
    ]
    assert story.ended
    placement = story.steps[0].detail
    assert isinstance(placement, Placement)
    assert placement.considered[0].vm_id == H1
    assert rig.state.why(ActivationId("other")) is None


def test_a_placement_tells_what_it_passed_over() -> None:
    rig = Rig("h1", "h2", "r1")
    rig.arrive("c0")
    assert placements(rig, ActivationId("c0"))[0].passed_over == ()
    rig.report("h1", replace(REPORT, notice_left_s=30.0))
    rig.report("h2", replace(REPORT, full=True))
    rig.arrive()
    (placement,) = placements(rig)
    assert [(one.vm_id, one.why) for one in placement.passed_over] == [
        (H1, "is draining: its eviction is announced"),
        (H2, "has a full queue"),
    ]
    assert (placement.info.id, placement.asked, placement.long) == (R1, (VmKind.REGULAR,), False)
    rig.report("h1")
    rig.report("h2", replace(REPORT, healthy=False, health_note="records wait for the store"))
    rig.arrive("c2", replace(ECHO, kind="nodejs:20"))
    story = rig.state.why(ActivationId("c2"))
    assert story is not None
    assert [(one.vm_id, one.why) for one in story.steps[0].detail or () if isinstance(one, PassedOver)] == [
        (H2, "is not healthy: records wait for the store"),
        (H1, "does not offer nodejs:20"),
        (R1, "does not offer nodejs:20"),
    ]


def test_a_vm_with_too_little_memory_is_told_as_passed_over() -> None:
    rig = Rig("h1", "r1")
    small = replace(REPORT, capacity=Resources(cpu_cores=8, memory_mb=512))
    large = replace(ECHO, name="large", memory_mb=1024)
    rig.report("h1", small)
    rig.arrive("c1", large)
    (placement,) = placements(rig)
    assert [(one.vm_id, one.why) for one in placement.passed_over] == [(H1, "has 512 MB, less than the action's limit")]
    rig.arrive("c2")
    assert placements(rig, ActivationId("c2"))[0].passed_over == ()
    rig.report("h1")
    rig.arrive("c3", large)
    assert placements(rig, ActivationId("c3"))[0].passed_over == ()


def test_a_vm_that_gave_the_call_back_is_told_as_hidden() -> None:
    rig = Rig("h1", "r1")
    rig.arrive()
    rig.give_back("h1", ReturnReason.WAITED)
    _, second = placements(rig)
    assert [(one.vm_id, one.why) for one in second.passed_over] == [
        (H1, "gave this call back and has not reported since")
    ]
    assert second.asked == (VmKind.HARVEST, VmKind.REGULAR)


def test_a_shrink_is_in_the_story_of_what_runs_there() -> None:
    rig = Rig("h1")
    rig.arrive()
    rig.now_s += 2.0
    rig.report("h1", replace(REPORT, capacity=Resources(cpu_cores=2, memory_mb=16384), seen=1))
    rig.report("h1", replace(REPORT, capacity=Resources(cpu_cores=2, memory_mb=16384), seen=1))
    story = rig.state.why(C1)
    assert story is not None
    assert [(step.after_s, step.detail) for step in story.steps if step.what is StepKind.CORES] == [
        (2.0, CoresChange(before=8, after=2))
    ]


def test_what_a_cut_off_attempt_had_used_comes_with_the_reports() -> None:
    rig = Rig("h1", "r1")
    rig.arrive()
    rig.report("h1", replace(REPORT, notice_left_s=1.0, seen=1, used_by=((C1, 1, 0.25),)))
    rig.wait(1.5, "r1")
    story = rig.state.why(C1)
    assert story is not None
    assert [(use.attempt, use.vm_id, use.cpu_s) for use in story.cut_off_use] == [(1, H1, 0.25)]
    rig.feed(AttemptCompleted(vm_id=H1, activation_id=C1, attempt=1, cpu_s=0.5))
    story = rig.state.why(C1)
    assert story is not None
    assert [use.cpu_s for use in story.cut_off_use] == [0.5]
