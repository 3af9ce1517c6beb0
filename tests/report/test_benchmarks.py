from __future__ import annotations

from dataclasses import replace

from fallow.report.benchmarks import benchmark_figures, benchmark_row, benchmark_section
from fallow.report.html import page
from fallow.report.plots import draw_all
from fallow.report.run import RunData
from fallow.report.summary import summarise
from fallow.report.text import text_report


def with_benchmarks(run: RunData) -> RunData:
    """The calls 10 to 13 are of pyaes, one of them cold, one failed; 94 is of float_op, and was lost."""
    calls = list(run.calls)
    for number, run_ms in ((10, 40.0), (11, 10.0), (12, 30.0), (13, 20.0)):
        calls[number] = replace(calls[number], action="bench_pyaes", run_ms=run_ms)
    calls[11] = replace(calls[11], init_ms=5.0)
    calls[13] = replace(calls[13], status=calls[5].status)
    calls[-1] = replace(calls[-1], action="bench_float_op")
    names = {"bench_pyaes": "pyaes", "bench_float_op": "float_op", "bench_linpack": "linpack"}
    return replace(run, calls=tuple(calls), header=replace(run.header, benchmarks=names))


def test_figures_of_each_function_and_of_all(run: RunData) -> None:
    assert benchmark_figures(with_benchmarks(run))["benchmarks"] == {
        "calls": 5,
        "succeeded": 3,
        "cold": 1,
        "cold_share": 0.25,
        "run_p50_ms": 20.0,  # of 10, 20, 30, 40: nearest rank
        "share": 5 / 94,
        "functions": [
            {"name": "float_op", "calls": 1, "succeeded": 0, "cold": 0, "cold_share": None, "run_p50_ms": None},
            {"name": "pyaes", "calls": 4, "succeeded": 3, "cold": 1, "cold_share": 0.25, "run_p50_ms": 20.0},
        ],
    }


def test_one_line_in_the_text_and_a_table_in_the_page(run: RunData) -> None:
    mixed = with_benchmarks(run)
    summary = summarise(mixed)
    (line,) = [line for line in text_report(summary).splitlines() if line.startswith("benchmarks")]
    assert line == "benchmarks     5 calls (5.3 %) of 2 functions, 3 succeeded, 25.0 % cold, median run 20 ms"
    html = page(summary, draw_all(mixed, summary))
    assert "<h2>Benchmark functions</h2>" in html
    assert "<tr><th>pyaes</th><td>4</td><td>3</td><td>1 (25.0 %)</td><td>20 ms</td></tr>" in html
    assert "<tr><th>all</th><td>5</td>" in html


def test_nothing_is_said_where_there_were_none(run: RunData) -> None:
    summary = summarise(run)
    assert summary["benchmarks"]["calls"] == 0
    assert benchmark_row(summary) == []
    assert benchmark_section(summary) == ""
    assert "Benchmark functions" not in page(summary, draw_all(run, summary))
