"""What is measured of the benchmark functions, on a real cluster, and what is written of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fallow.traces.benchmarks.profiles import BENCHMARKS
from loadtest.cluster import BenchError, cluster
from loadtest.functions_bench import BEGIN, END, README, Row, Table, main, markdown, measure, profile_text, rewritten

ROW = Row(
    name="pyaes",
    arguments={},
    memory_mb=256,
    cpu_ms=120.4,
    run_ms=121.0,
    cold_cpu_ms=130.0,
    init_ms=5.0,
    cold_ms=138.6,
    warm_ms=123.2,
    peak_mb=13.7,
)
SMALL = replace(ROW, arguments={"length": 10}, cpu_ms=24.9, cold_cpu_ms=31.0)
TABLE = Table(rows=(ROW, SMALL), empty_mb=8.6, conditions="2026-01-02, 2 cores")


def test_both_tables_are_written() -> None:
    lines = markdown(TABLE).splitlines()
    assert "| pyaes | 0.120 s | 0.121 s | 14 MB (256) | 139 ms | 123 ms |" in lines
    assert '| pyaes | `{"length": 10}` | 0.025 s | 0.121 s | 14 MB (256) | 139 ms | 123 ms |' in lines
    assert any("2026-01-02, 2 cores" in line for line in lines)
    assert "9 MB, most of them shared" in " ".join(lines)


def test_only_what_stands_between_the_markers_is_rewritten() -> None:
    before = f"head\n{BEGIN}\nold \\1\n{END}\ntail\n"
    assert rewritten(before, "new \\1\n") == f"head\n{BEGIN}\nnew \\1\n{END}\ntail\n"
    for broken in ("nothing", before + before, f"{BEGIN} alone"):
        with pytest.raises(BenchError, match="once each"):
            rewritten(broken, "new")


def test_the_readme_has_a_row_for_every_function_and_its_markers() -> None:
    measured = README.read_text().partition(BEGIN)[2].partition(END)[0]
    for benchmark in BENCHMARKS:
        assert measured.count(f"| {benchmark.name} |") == 2
        assert f"`{json.dumps(benchmark.arguments)}`" in measured, "measured with the arguments of today's demo"


def test_the_profile_holds_the_demos_arguments_alone() -> None:
    document = json.loads(profile_text(TABLE))
    assert document == {
        "conditions": "2026-01-02, 2 cores",
        "functions": {
            "pyaes": {"arguments": {"length": 10}, "cpu_ms": 24.9, "cold_cpu_ms": 31.0, "peak_mb": 13.7},
        },
    }


def test_half_a_table_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--write", "--only", "pyaes"])
    assert "--write needs all functions" in capsys.readouterr().err


@pytest.mark.system
def test_all_nine_run_in_real_containers_within_their_limits() -> None:
    said: list[str] = []
    with cluster() as api:
        table = measure(api, BENCHMARKS, cold=1, warm=1, said=said.append)
    assert len(table.rows) == 18
    assert said == [f"{benchmark.name} measured" for benchmark in BENCHMARKS]
    for row in table.rows:
        assert row.cpu_ms > 0
        assert 0 < row.run_ms <= row.warm_ms
        assert 0 < row.init_ms <= row.cold_ms
        assert table.empty_mb * 0.9 < row.peak_mb < row.memory_mb
