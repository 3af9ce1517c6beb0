"""The plan of a service's VM: which life comes when."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.core.model import VmId
from fallow.infra.tasks import FatalError
from fallow.traces.vms import Life
from harvest_agent.plan import Plan, Stay, read_plan, steps_of
from harvest_agent.sources import Cue


def life(join_s: float, *steps: tuple[float, float], end_s: float | None = None) -> Life:
    return Life(vm_id=VmId("any"), join_s=join_s, steps=steps, end_s=end_s)


def plan(*lives: Life, repeat_s: float | None = None) -> Plan:
    return Plan(steps=steps_of(lives, repeat_s), repeat_s=repeat_s)


def stay(of: Plan, t_s: float, *, speedup: float = 1.0, notice_s: float = 5.0) -> Stay | None:
    return of.next_stay(t_s, speedup=speedup, notice_s=notice_s)


TWO = (life(10, (0, 4), (20, 2), end_s=60), life(90, (0, 6)))


def test_lives_follow_each_other() -> None:
    assert stay(plan(*TWO), 0) == Stay(join_s=10, cores=4, cues=[Cue(at_s=20, cores=2), Cue(at_s=55, evict_at_s=60)])
    second = stay(plan(*TWO), 70)
    assert second == Stay(join_s=90, cores=6, cues=[])
    assert stay(plan(life(0, (0, 4), end_s=60)), 60) is None


def test_a_life_is_joined_in_its_middle() -> None:
    assert stay(plan(*TWO), 40) == Stay(join_s=40, cores=2, cues=[Cue(at_s=25, evict_at_s=30)])


def test_a_speedup_divides_all_but_the_notice() -> None:
    found = stay(plan(*TWO), 0, speedup=10, notice_s=1)
    assert found is not None
    assert found.cues == [Cue(at_s=2, cores=2), Cue(at_s=5, evict_at_s=6)]


def test_an_end_nearer_than_the_notice_is_announced_at_once() -> None:
    found = stay(plan(life(0, (0, 4), end_s=60)), 58)
    assert found is not None
    assert found.cues == [Cue(at_s=0, evict_at_s=2)]


def test_the_plan_starts_over() -> None:
    rounds = plan(life(0, (0, 4), (20, 2), end_s=60), repeat_s=100)
    third = stay(rounds, 170)
    assert third == Stay(join_s=200, cores=4, cues=[Cue(at_s=20, cores=2), Cue(at_s=55, evict_at_s=60)])


def test_an_open_life_goes_on_with_the_next_round() -> None:
    rounds = plan(life(0, (0, 4), end_s=60), life(90, (0, 6)), repeat_s=100)
    assert stay(rounds, 70) == Stay(join_s=90, cores=6, cues=[Cue(at_s=10, cores=4), Cue(at_s=65, evict_at_s=70)])


def test_an_open_life_ends_with_its_round_where_the_next_begins_without_it() -> None:
    assert stay(plan(life(10, (0, 4)), repeat_s=50), 20) == Stay(join_s=20, cores=4, cues=[Cue(at_s=25, evict_at_s=30)])


def test_a_vm_that_is_never_evicted_changes_for_ever() -> None:
    found = stay(plan(life(0, (0, 4), (30, 2)), repeat_s=50), 0)
    assert found is not None
    assert list(itertools.islice(found.cues, 3)) == [
        Cue(at_s=30, cores=2),
        Cue(at_s=50, cores=4),
        Cue(at_s=80, cores=2),
    ]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Lives with whole seconds, so that times can be compared exactly."""
    free, lives = 0, []
    for _ in range(draw(st.integers(1, 3))):
        join = free + draw(st.integers(0, 9))
        ats = sorted(draw(st.sets(st.integers(1, 20), max_size=3)))
        steps = [(0.0, 1.0), *((float(at), float(draw(st.integers(1, 8)))) for at in ats)]
        free = join + (ats[-1] if ats else 0) + draw(st.integers(1, 9))
        lives.append(life(join, *steps, end_s=free - join))
    repeat = draw(st.none() | st.integers(free, free + 20))
    return plan(*lives, repeat_s=None if repeat is None else float(repeat))


@given(plans(), st.integers(0, 200))
def test_a_stay_says_what_the_plan_says_at_every_moment(given_plan: Plan, t: int) -> None:
    def cores_at(at_s: float) -> float:
        rounds = itertools.count() if given_plan.repeat_s else [0]
        cores = 0.0
        for number in rounds:
            for step_s, then in given_plan.steps:
                if number * (given_plan.repeat_s or 0) + step_s > at_s:
                    return cores
                cores = then
        return cores

    found = stay(given_plan, t, notice_s=0)
    if found is None:
        assert given_plan.repeat_s is None
        assert all(cores_at(at) == 0 for at in range(t, t + 100))
        return
    assert all(cores_at(at) == 0 for at in range(t, int(found.join_s)))
    cores, at = found.cores, found.join_s
    assert found.cues  # every life here ends
    for cue in found.cues:
        until = found.join_s + cue.at_s
        while at < until:
            assert cores_at(at) == cores
            at += 1
        cores = cue.cores if cue.cores is not None else cores
    assert cue.evict_at_s == at - found.join_s


def write(path: Path, raw: Any) -> Path:
    path.write_text(json.dumps(raw))
    return path


def test_a_file_says_what_the_vm_is_and_when(tmp_path: Path) -> None:
    raw = {
        "vm_id": "h2",
        "kind": "harvest",
        "cores": 4,
        "memory_mb": 512,
        "price": None,
        "lives": [one.to_json() for one in TWO],
        "repeat_s": None,
    }
    vm, found = read_plan(write(tmp_path / "h2.json", raw))
    assert vm == {"vm_id": "h2", "kind": "harvest", "cores": 4, "memory_mb": 512}
    assert found == plan(*TWO)
    assert read_plan(write(tmp_path / "r1.json", {"cores": 2})) == ({"cores": 2}, None)
    _, never = read_plan(write(tmp_path / "h9.json", {"lives": [], "repeat_s": 60}))
    assert never is not None
    assert never.next_stay(0.0, speedup=1.0, notice_s=30.0) is None


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        ([], "must be an object"),
        ({"live": []}, "unknown key 'live'"),
        ({"repeat_s": 0}, "repeat_s is 0"),
        ({"lives": 3}, "lives must be a list"),
        ({"lives": [{}]}, "not a VM's life"),
        ({"lives": [TWO[1].to_json(), TWO[0].to_json()]}, "begins before the one ahead of it ends"),
        ({"lives": [one.to_json() for one in TWO], "repeat_s": 80}, "last step is at 90 s"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, raw: Any, what: str) -> None:
    path = write(tmp_path / "h2.json", raw)
    with pytest.raises(FatalError, match=what) as error:
        read_plan(path)
    assert str(path) in str(error.value)
