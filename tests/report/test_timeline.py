from __future__ import annotations

import pytest

from fallow.report.run import RunData
from fallow.report.summary import lives_of
from fallow.report.timeline import Notice, vm_lives


def test_lives_are_cut_to_the_run(run: RunData) -> None:
    lives = {life.vm: life for life in lives_of(run)}
    assert list(lives) == ["r1", "h1", "h2", "h2.2"]
    assert lives["h1"].steps == ((0.0, 8.0), (50.0, 2.0))  # the last value before the run began stands at its start
    assert lives["h1"].end_s == 100.0  # gone later
    assert not lives["h1"].evicted
    assert lives["h2"].pieces() == [(20.0, 80.0, 10.0)]
    assert lives["h2"].injected


def test_a_withdrawn_notice_ends_there(run: RunData) -> None:
    lives = {life.vm: life for life in lives_of(run)}
    assert lives["h1"].notices == (Notice(at_s=60.0, until_s=61.0, by="operator"),)
    assert lives["h2"].notices == (Notice(at_s=77.0, until_s=80.0, by="operator"),)


def test_a_vm_that_crashed_ends_without_an_eviction() -> None:
    events = [
        {"t_unix_ms": 1000, "vm": "h1", "kind": "harvest", "event": "joined", "cores": 4.0},
        {"t_unix_ms": 3000, "vm": "h1", "kind": "harvest", "event": "gone", "by": "crash", "code": -9},
    ]
    (life,) = vm_lives(events, began_unix_ms=0, ended_unix_ms=10_000)
    assert (life.core_s, life.evicted, life.end_s) == (8.0, False, 3.0)


def test_a_vm_of_another_time_is_left_out() -> None:
    events = [
        {"t_unix_ms": 0, "vm": "h1", "kind": "harvest", "event": "joined", "cores": 4.0},
        {"t_unix_ms": 500, "vm": "h1", "kind": "harvest", "event": "gone"},
        {"t_unix_ms": 9000, "vm": "h2", "kind": "harvest", "event": "joined", "cores": 4.0},
    ]
    assert vm_lives(events, began_unix_ms=1000, ended_unix_ms=5000) == []


def test_a_line_that_lacks_something_is_named() -> None:
    with pytest.raises(ValueError, match="lacks 'cores'"):
        vm_lives(
            [{"t_unix_ms": 0, "vm": "h1", "kind": "harvest", "event": "joined"}], began_unix_ms=0, ended_unix_ms=1000
        )
