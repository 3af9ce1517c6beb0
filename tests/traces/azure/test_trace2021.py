from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.traces.errors import TraceError
from fallow.traces.invocations import read_invocations

HEADER = "app,func,end_timestamp,duration\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "trace.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_call_starts_its_duration_before_its_end(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + "a,f,100.5,0.5\na,g,107,2\nb,f,131.5,1.5\n")
    trace = read_invocations(path, window_s=None, seed=1)
    assert [(c.at_s, c.duration_s, c.function) for c in trace.calls] == [(0.0, 0.5, 0), (5.0, 2.0, 1), (30.0, 1.5, 2)]
    assert [(f.name, f.app) for f in trace.functions] == [("f", "a"), ("g", "a"), ("f-2", "b")]
    assert trace.format == "azure2021"
    assert 30.0 < trace.window_s < 30.001
    assert any("256 MB" in note for note in trace.notes)


def test_the_window_begins_where_asked(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + "".join(f"a,f{i % 3},{i * 10 + 1},1\n" for i in range(20)))
    trace = read_invocations(path, start_s=45, window_s=30, seed=1)
    assert [c.at_s for c in trace.calls] == [5.0, 15.0, 25.0]
    assert trace.window_s == 30
    assert read_invocations(path, start_s=1000, window_s=30, seed=1).calls == ()


def test_columns_are_read_by_name_and_rows_sorted(tmp_path: Path) -> None:
    text = "duration,note,func,end_timestamp,app\r\n1,x,f,1,a\r\n9,x,f,19,a\r\n\r\n1,x,f,6,a"
    trace = read_invocations(write(tmp_path, text), window_s=100, seed=1)
    assert [c.at_s for c in trace.calls] == [0.0, 5.0, 10.0]


def test_names_are_fit_for_actions_and_unique(tmp_path: Path) -> None:
    functions = ["../etc/passwd", "ü", "", "e3cdb48830f6" + "a" * 52, "e3cdb48830f6" + "b" * 52, "a b", "a b", "a-b-2"]
    path = write(tmp_path, HEADER + "".join(f"a{i},{f},{i},0\n" for i, f in enumerate(functions)))
    names = [f.name for f in read_invocations(path, window_s=None, seed=1).functions]
    assert names == ["etc-passwd", "fn", "fn-2", "e3cdb48830f6", "e3cdb48830f6-2", "a-b", "a-b-2", "a-b-2-2"]


def test_the_cpu_share_of_a_function_does_not_depend_on_the_window(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + "".join(f"a,f{i % 7},{i * 10},0\n" for i in range(40)))
    whole = {f.name: f.cpu_share for f in read_invocations(path, window_s=None, seed=1).functions}
    late = {f.name: f.cpu_share for f in read_invocations(path, start_s=200, window_s=20, seed=1).functions}
    assert late == {name: whole[name] for name in late}
    other = {f.name: f.cpu_share for f in read_invocations(path, window_s=None, seed=2).functions}
    assert other != whole


def test_reading_ends_an_hour_after_the_window(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + "a,f,0,0\na,f,5000,0\na,f,broken,0\n")
    assert len(read_invocations(path, window_s=60, seed=1).calls) == 1
    with pytest.raises(TraceError, match=r"trace.csv:4: column 'end_timestamp': 'broken' is no number"):
        read_invocations(path, window_s=6000, seed=1)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (HEADER + "a,f,1,abc\n", "trace.csv:2: column 'duration': 'abc' is no number"),
        (HEADER + "a,f,1,1\na,f,2,-3\n", "trace.csv:3: column 'duration': '-3' is negative"),
        (HEADER + "a,f,nan,1\n", "trace.csv:2: column 'end_timestamp': 'nan' is not finite"),
        (HEADER + "a,f,1,\n", "trace.csv:2: column 'duration': '' is no number"),
        (HEADER + "a,f,1,1\na,f", "trace.csv:3: the line ends in column 'func': 'end_timestamp' is missing"),
        (HEADER + "a,f,1,1,1\n", "trace.csv:2: the line has 5 values, the header 4 columns"),
        (HEADER + '"a,f,1,1\n', "trace.csv:2: not CSV"),
        ("app,func,duration\n", "trace.csv:1: column 'end_timestamp' is missing to be the calls of the Azure 2021"),
        ("app,func,func,duration\n", "trace.csv:1: column 'func' stands twice"),
        ("a,b,c\n1,2,3\n", "trace.csv:1: unknown header 'a,b,c': expected app,func,end_timestamp,duration"),
        ("x" * 5000 + "\n", r"trace.csv:1: unknown header 'x{60}\.\.\.'"),
        ("", "trace.csv: the file is empty"),
        ("\0\0,\0\n", "trace.csv:1: not text but a binary file"),
    ],
)
def test_errors_name_file_line_and_column(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(TraceError, match=what):
        read_invocations(write(tmp_path, text), window_s=None, seed=1)


def test_binary_files_absent_files_and_folders_without_a_trace(tmp_path: Path) -> None:
    binary = tmp_path / "trace.csv"
    binary.write_bytes(HEADER.encode() + b"a,f,1,1\n\xff\xfe\x80")
    with pytest.raises(TraceError, match=r"trace.csv:\d: not text"):
        read_invocations(binary, window_s=None, seed=1)
    with pytest.raises(TraceError, match="no such file or folder"):
        read_invocations(tmp_path / "absent.csv", window_s=None, seed=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TraceError, match="holds no CSV file"):
        read_invocations(tmp_path / "empty", window_s=None, seed=1)


@given(cut=st.integers(1, 400))
@settings(max_examples=80, deadline=None)
def test_a_file_cut_anywhere_gives_the_calls_before_or_a_trace_error(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    whole = HEADER + "".join(f"app{i},func{i},{i}.25,0.125\n" for i in range(20))
    path = write(tmp_path_factory.mktemp("cut"), whole[:cut])
    complete = whole[:cut].count("\n") - 1
    try:
        trace = read_invocations(path, window_s=None, seed=1)
    except TraceError as e:
        told = str(e)
        assert told.startswith(f"{path}:{complete + 2}: ")  # the line that the cut went through
    else:
        assert complete <= len(trace.calls) <= complete + 1
