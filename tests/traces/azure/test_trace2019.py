from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from fallow.traces.azure import trace2019 as azure2019
from fallow.traces.errors import TraceError
from fallow.traces.invocations import read_invocations

PERCENTILES = ",".join(f"percentile_Average_{p}" for p in (0, 1, 25, 50, 75, 99, 100))
DURATIONS_HEADER = f"HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum,{PERCENTILES}"
MEMORY_HEADER = "HashFunction,HashOwner,HashApp,SampleCount,AverageAllocatedMb,AverageAllocatedMb_pct1"


def durations_row(function: str, values: str = "10,20,30,40,50,60,70", app: str = "a") -> str:
    return f"o,{app},{function},40,9,10,70,{values}"


def write(
    folder: Path,
    invocations: Sequence[str],
    durations: Sequence[str] = (),
    memory: Sequence[str] | None = (),
    *,
    minutes: Sequence[int] = (480, 481, 482),
    day: str = "",
) -> Path:
    header = "HashOwner,HashApp,HashFunction,Trigger," + ",".join(map(str, minutes))
    files = {"invocations": (header, invocations), "durations": (DURATIONS_HEADER, durations)}
    if memory is not None:
        files["memory"] = (MEMORY_HEADER, memory)
    for name, (first, rows) in files.items():
        (folder / f"{name}{day}.csv").write_text("\n".join([first, *rows]) + "\n", encoding="utf-8")
    return folder


def test_counts_become_calls_in_their_minutes(tmp_path: Path) -> None:
    write(tmp_path, ["o,a,f,http,3,0,2", "o,b,g,timer,0,4,0"], [durations_row("f"), durations_row("g", app="b")])
    trace = read_invocations(tmp_path, window_s=None, seed=1)
    assert trace.format == "azure2019"
    assert trace.window_s == 180
    of = {f.name: [c for c in trace.calls if c.function == i] for i, f in enumerate(trace.functions)}
    assert [int(c.at_s // 60) for c in of["f"]] == [0, 0, 0, 2, 2]
    timer = [c.at_s for c in of["g"]]
    assert [b - a for a, b in itertools.pairwise(timer)] == pytest.approx([15.0, 15.0, 15.0])
    assert all(60 <= at_s < 120 for at_s in timer)
    assert all(0.010 <= c.duration_s <= 0.070 for c in trace.calls)
    arrivals = [c.at_s for c in trace.calls]
    assert arrivals == sorted(arrivals)
    assert trace == read_invocations(tmp_path / "invocations.csv", window_s=None, seed=1)
    assert trace != read_invocations(tmp_path, window_s=None, seed=2)


def test_durations_follow_the_percentiles(tmp_path: Path) -> None:
    write(tmp_path, ["o,a,f,http,4000,0,0"], [durations_row("f", "0,0,100,200,400,1000,9000")])
    durations = sorted(c.duration_s for c in read_invocations(tmp_path, window_s=None, seed=1).calls)
    assert durations[1000] == pytest.approx(0.1, rel=0.15)
    assert durations[2000] == pytest.approx(0.2, rel=0.15)
    assert durations[3000] == pytest.approx(0.4, rel=0.15)
    assert 1.0 < durations[-1] <= 9.0


def test_a_window_keeps_its_part_and_the_same_calls(tmp_path: Path) -> None:
    write(tmp_path, ["o,a,f,timer,2,2,2"], [durations_row("f")])
    whole = [c.at_s for c in read_invocations(tmp_path, window_s=None, seed=1).calls]
    part = read_invocations(tmp_path, start_s=45, window_s=90, seed=1)
    assert [c.at_s + 45 for c in part.calls] == pytest.approx([t for t in whole if 45 <= t < 135])
    assert part.window_s == 90
    assert read_invocations(tmp_path, start_s=120, window_s=600, seed=1).window_s == 60
    assert read_invocations(tmp_path, start_s=5000, window_s=600, seed=1).calls == ()


def test_column_order_does_not_matter(tmp_path: Path) -> None:
    write(tmp_path, ["o,a,f,http,1,0,0"], [durations_row("f")], minutes=(481, 482, 480))
    (call,) = read_invocations(tmp_path, window_s=None, seed=1).calls
    assert 60 <= call.at_s < 120


def test_memory_is_the_apps_within_what_an_action_may_have(tmp_path: Path) -> None:
    write(
        tmp_path,
        [f"o,{app},f{app},http,1,0,0" for app in "abcd"],
        [durations_row(f"f{app}", app=app) for app in "abcd"],
        ["x,o,a,9,300.2,1", "x,o,b,9,9.5,1", "x,o,c,9,5000,1"],
    )
    trace = read_invocations(tmp_path, window_s=None, seed=1)
    assert [f.memory_mb for f in trace.functions] == [301, 128, 2048, 256]
    assert any("1 functions without memory use have 256 MB" in note for note in trace.notes)
    assert any("memory of 2 functions" in note for note in trace.notes)


def test_functions_without_durations_are_left_out_and_said(tmp_path: Path) -> None:
    write(tmp_path, ["o,a,f,http,1,0,0", "o,a,g,http,5,0,2"], [durations_row("f")], memory=None)
    trace = read_invocations(tmp_path, window_s=None, seed=1)
    assert [f.name for f in trace.functions] == ["f"]
    assert any("1 functions (7 calls) have no durations" in note for note in trace.notes)


def test_two_rows_of_one_function_are_one_function(tmp_path: Path) -> None:
    write(tmp_path, ["o,a,f,http,1,0,0", "o,a,f,queue,0,2,0"], [durations_row("f")])
    trace = read_invocations(tmp_path, window_s=None, seed=1)
    assert len(trace.functions) == 1
    assert len(trace.calls) == 3


def test_too_many_calls_leave_whole_functions_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure2019, "MAX_CALLS", 25)
    write(tmp_path, [f"o,a,f{i},http,10,0,0" for i in range(5)], [durations_row(f"f{i}") for i in range(5)])
    trace = read_invocations(tmp_path, window_s=None, seed=1)
    assert len(trace.functions) == 2
    assert len(trace.calls) == 20
    assert any("3 functions drawn by seed were left out" in note for note in trace.notes)


def test_several_days_are_told_apart_by_their_names(tmp_path: Path) -> None:
    for day in (".d01", ".d02"):
        write(tmp_path, ["o,a,f,http,1,0,0"], [durations_row("f")], day=day)
    with pytest.raises(TraceError, match=r"holds 2 invocation traces .*: name one of the files"):
        read_invocations(tmp_path, window_s=None, seed=1)
    assert len(read_invocations(tmp_path / "invocations.d02.csv", window_s=None, seed=1).calls) == 1


@pytest.mark.parametrize(
    ("invocations", "durations", "memory", "what"),
    [
        (["o,a,f,http,1,x,0"], [], [], "invocations.csv:2: column '481': 'x' is no number"),
        (["o,a,f,http,1,-1,0"], [], [], "invocations.csv:2: column '481': '-1' is negative"),
        (["o,a,f,http,1,1.5,0"], [], [], "invocations.csv:2: column '481': '1.5' is no whole number"),
        (["o,a,f,http,1"], [], [], "invocations.csv:2: the line ends in column '480': '481' is missing"),
        (["o,a,f,http,1,0,0"], [durations_row("f", "1,1,1,1,1,x,1")], [], "durations.csv:2: column 'percentile_Ave"),
        (["o,a,f,http,1,0,0"], [durations_row("f", "5,1,1,1,1,1,1")], [], "'1' is below the percentile before it"),
        (["o,a,f,http,1,0,0"], [durations_row("f")], ["x,o,a,9,much,1"], "memory.csv:2: column 'AverageAllocatedMb'"),
    ],
)
def test_errors_name_file_line_and_column(
    tmp_path: Path, invocations: list[str], durations: list[str], memory: list[str], what: str
) -> None:
    with pytest.raises(TraceError, match=what):
        read_invocations(write(tmp_path, invocations, durations, memory), window_s=None, seed=1)


def test_minutes_must_be_minutes_of_a_day(tmp_path: Path) -> None:
    write(tmp_path, [], minutes=(1440, 1441))
    with pytest.raises(TraceError, match="1 to 1440: found 1441"):
        read_invocations(tmp_path, window_s=None, seed=1)
    (tmp_path / "invocations.csv").write_text("HashOwner,HashApp,HashFunction,Trigger\n")
    with pytest.raises(TraceError, match="there is none"):
        read_invocations(tmp_path, window_s=None, seed=1)


def test_the_other_files_of_the_trace_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path, ["o,a,f,http,1,0,0"], [durations_row("f")])
    for name in ("durations", "memory"):
        with pytest.raises(TraceError, match=rf"these are the {name} of the Azure 2019 trace: give"):
            read_invocations(tmp_path / f"{name}.csv", window_s=None, seed=1)
    (tmp_path / "durations.csv").unlink()
    with pytest.raises(TraceError, match="no file with the durations"):
        read_invocations(tmp_path, window_s=None, seed=1)
