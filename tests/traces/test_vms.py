from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.core.model import VmId
from fallow.traces.vms import Life, TraceError, VmTrace, lives, read_vm_trace, read_vm_traces


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_every_file_in_natural_order(tmp_path: Path) -> None:
    write(tmp_path / "10.txt", "0\t60")
    write(tmp_path / "2.txt", "\n0          24\n\n  330   12.5 \n")
    write(tmp_path / "1.txt", "0 26\r\n599 14\r\n")
    traces = read_vm_traces(tmp_path)
    assert [t.name for t in traces] == ["1", "2", "10"]
    assert traces[0].steps == ((0.0, 26.0), (599.0, 14.0))
    assert traces[1].steps == ((0.0, 24.0), (330.0, 12.5))


def test_the_later_of_two_lines_of_one_moment_counts(tmp_path: Path) -> None:
    assert read_vm_trace(write(tmp_path / "a.txt", "0 4\n5 6\n5 7\n")).steps == ((0.0, 4.0), (5.0, 7.0))


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("0 4\n330", "2:4", "cores are missing"),
        ("0 4\n330 ", "2:5", "cores are missing"),
        ("0 4 5\n", "1:5", "one value too many"),
        ("0 4\nx 5\n", "2:1", "'x' is not a number"),
        ("0 4\n7  five\n", "2:4", "'five' is not a number"),
        ("0 nan\n", "1:3", "not a finite number"),
        ("0 -4\n", "1:3", "negative"),
        ("-1 4\n", "1:1", "negative"),
        ("0 4\n\n9 5\n  8 6\n", "4:3", "time goes backwards, from 9 to 8"),
        ("\n \n", "1:1", "empty"),
    ],
)
def test_an_error_names_file_line_and_column(tmp_path: Path, text: str, where: str, what: str) -> None:
    path = write(tmp_path / "h.txt", text)
    with pytest.raises(TraceError) as error:
        read_vm_trace(path)
    assert str(error.value).startswith(f"{path}:{where}:")
    assert what in str(error.value)


def test_errors_of_the_whole(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="holds no"):
        read_vm_traces(tmp_path)
    with pytest.raises(TraceError, match="no such file"):
        read_vm_traces(tmp_path / "nowhere")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe0 4")
    with pytest.raises(TraceError, match="cannot be read as text"):
        read_vm_traces(tmp_path / "b.txt")


def test_lives_are_cut_at_evictions() -> None:
    trace = VmTrace(name="h3", steps=((5, 4), (20, 8), (50, 0), (60, 0), (80, 2), (90, 0), (100, 6)))
    assert lives(trace) == [
        Life(vm_id=VmId("h3"), join_s=5, steps=((0, 4), (15, 8)), end_s=45),
        Life(vm_id=VmId("h3.2"), join_s=80, steps=((0, 2),), end_s=10),
        Life(vm_id=VmId("h3.3"), join_s=100, steps=((0, 6),), end_s=None),
    ]


def test_a_vm_that_never_has_a_core_has_no_life() -> None:
    assert lives(VmTrace(name="h1", steps=((0, 0), (9, 0)))) == []
    assert lives(VmTrace(name="7", steps=((0, 0), (9, 3))), vm_id="h1") == [
        Life(vm_id=VmId("h1"), join_s=9, steps=((0, 3),), end_s=None)
    ]


@given(st.lists(st.tuples(st.integers(1, 50), st.sampled_from([0, 0, 1, 4, 8])), min_size=1, max_size=30))
def test_lives_say_what_the_trace_says_at_every_moment(gaps: list[tuple[int, int]]) -> None:
    steps, at = [], 0
    for gap, cores in gaps:
        at += gap
        steps.append((float(at), float(cores)))
    found = lives(VmTrace(name="h1", steps=tuple(steps)))
    for moment in range(at + 2):
        expected = next((c for t, c in reversed(steps) if t <= moment), 0.0)
        assert sum(cores_of(life, moment) for life in found) == expected
    for life in found:
        assert Life.from_json(life.to_json()) == life


def cores_of(life: Life, moment: float) -> float:
    since = moment - life.join_s
    if since < 0 or (life.end_s is not None and since >= life.end_s):
        return 0.0
    return next(c for t, c in reversed(life.steps) if t <= since)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": []},
        {"steps": [[1, 4]]},
        {"steps": [[0, 4], [9, 2], [5, 2]]},
        {"steps": [[0, 0]]},
        {"steps": "no"},
        {"join_s": "soon"},
        {"join_s": -1},
        {"end_s": 3},
        {"end_s": float("inf")},
    ],
)
def test_a_life_that_contradicts_itself_is_refused(change: dict[str, object]) -> None:
    good: dict[str, object] = {"vm_id": "h1", "join_s": 0, "steps": [[0, 4], [5, 2]], "end_s": 9}
    Life.from_json(good)
    with pytest.raises(ValueError, match="life"):
        Life.from_json({**good, **change})


def test_core_seconds_count_the_part_of_a_life_within_the_span() -> None:
    life = Life(vm_id=VmId("h1"), join_s=10, steps=((0, 4), (20, 2)), end_s=50)
    assert life.core_seconds(5) == 0
    assert life.core_seconds(20) == 40
    assert life.core_seconds(40) == 4 * 20 + 2 * 10
    assert life.core_seconds(1000) == 4 * 20 + 2 * 30
    assert life.without_end().core_seconds(1000) == 4 * 20 + 2 * 970
