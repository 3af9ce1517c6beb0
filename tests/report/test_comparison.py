"""The table of several runs, from summaries cut down to what it reads."""

from __future__ import annotations

from typing import Any

from fallow.report.comparison import Spread, columns, conditions, document, markdown, plain, rows
from fallow.report.run import RunData
from fallow.report.summary import summarise


def summary(policy: str, seed: int, *, strategy: str = "prefer-regular", **changes: Any) -> dict[str, Any]:
    """100 calls, all well, half of them cold."""
    quantiles = {"p50": 10.0, "p95": 100.0, "p99": 1000.0}
    return {
        "policy": policy,
        "strategy": strategy,
        "seed": seed,
        "invocations": 100,
        "succeeded": 100,
        "failed": 0,
        "lost": 0,
        "cold_starts": 50,
        "warm_starts": 50,
        "evictions": 2,
        "cut_off": {"calls": 1, "unforeseen": 1, "failed": 0},
        "replaced": 1,
        "placements": {"short_harvest": 70, "short_regular": 1, "long_harvest": 20, "long_regular": 10},
        "latency_ms": quantiles,
        "wait_ms": {"p50": 1.0, "p95": 2.0, "p99": 3.0},
        "late_ms": {"p50": 0.5, "p95": 0.6, "p99": 0.7},
        "duration_s": 60.0,
        "speedup": 10.0,
        "notice_s": 3.0,
        "core_scale": 0.1,
        "invocation_source": "generated",
        "vm_source": "generated",
        "retries": True,
        "history": False,
        "cpu_enforced": True,
    } | changes


def test_counts_are_summed_shares_pooled_and_times_averaged() -> None:
    (column,) = columns(
        [
            summary("mws", 2, invocations=300, succeeded=297, failed=3, cold_starts=30, warm_starts=270),
            summary("mws", 1, latency_ms={"p50": 20.0, "p95": 0.0, "p99": 4000.0}),
        ]
    )
    assert (column.policy, column.strategy, column.seeds) == ("mws", "prefer-regular", (1, 2))
    assert column.counts == {
        "invocations": 400,
        "succeeded": 397,
        "failed": 3,
        "lost": 0,
        "evictions": 4,
        "cut_off": 2,
        "cut_off_unforeseen": 2,
        "cut_off_failed": 0,
        "replaced": 2,
        "long_on_evictable": 40,
        "long_on_regular": 20,
    }
    assert column.success == Spread(value=397 / 400, low=297 / 300, high=1.0)
    assert column.cold_starts == Spread(value=80 / 400, low=0.1, high=0.5)
    assert column.times_ms["latency_p50_ms"] == Spread(value=15.0, low=10.0, high=20.0)
    assert column.times_ms["latency_p99_ms"] == Spread(value=2500.0, low=1000.0, high=4000.0)


def test_columns_stand_in_the_order_of_their_first_runs() -> None:
    runs = [summary("hash", 1), summary("mws", 1), summary("mws", 2), summary("hash", 2)]
    assert [(c.policy, c.seeds) for c in columns(runs)] == [("hash", (1, 2)), ("mws", (1, 2))]


def test_what_no_run_measured_stays_unknown() -> None:
    nothing = {"p50": None, "p95": None, "p99": None}
    (column,) = columns(
        [summary("mws", 1, invocations=0, succeeded=0, cold_starts=0, warm_starts=0, latency_ms=nothing)]
    )
    unknown = Spread(value=None, low=None, high=None)
    assert (column.success, column.cold_starts, column.times_ms["latency_p50_ms"]) == (unknown, unknown, unknown)
    assert rows([column])[3] == ["succeeded", "–"]


def test_the_table_as_text() -> None:
    found = columns(
        [
            summary("mws", 1),
            summary("mws", 2, cold_starts=10, warm_starts=90),
            summary("hash", 1, succeeded=98, failed=2, cut_off={"calls": 3, "unforeseen": 2, "failed": 2}),
            summary("hash", 2),
        ]
    )
    assert rows(found) == [
        ["", "mws", "hash"],
        ["seeds", "1, 2", "1, 2"],
        ["invocations", "200", "200"],
        ["succeeded", "100.00 %", "99.00 % (98.00 % – 100.00 %)"],
        ["failed, lost", "0, 0", "2, 0"],
        ["cold starts", "30.0 % (10.0 % – 50.0 %)", "50.0 %"],
        ["latency p50", "10 ms", "10 ms"],
        ["latency p99", "1.00 s", "1.00 s"],
        ["wait p99", "3.0 ms", "3.0 ms"],
        ["sent late p95", "0.60 ms", "0.60 ms"],
        ["evictions", "4", "4"],
        ["calls cut off", "2, 2 taken for short", "4, 3 taken for short"],
        ["failed for good", "0", "2"],
        ["re-placed", "2", "2"],
        ["long placements", "40 harvest, 20 regular", "40 harvest, 20 regular"],
    ]
    text = plain(rows(found)).splitlines()
    assert text[0] == "                 mws                       hash"
    assert text[2] == "invocations      200                       200"
    assert all(line == line.rstrip() for line in text)
    table = markdown(rows(found)).splitlines()
    assert table[:3] == ["|  | mws | hash |", "| --- | --- | --- |", "| seeds | 1, 2 | 1, 2 |"]
    assert {line.count("|") for line in table} == {4}


def test_titles_say_what_differs() -> None:
    policies = [summary("mws", 1), summary("jsq", 1)]
    strategies = [summary("mws", 1), summary("mws", 1, strategy="bounded:99")]
    both = [*policies, summary("mws", 1, strategy="bounded:99")]
    assert rows(columns(policies))[0] == ["", "mws", "jsq"]
    assert rows(columns(strategies))[0] == ["", "prefer-regular", "bounded:99"]
    assert rows(columns(both))[0] == ["", "mws, prefer-regular", "jsq, prefer-regular", "mws, bounded:99"]


def test_conditions_tell_what_a_reader_must_know() -> None:
    usual = conditions([summary("mws", 1), summary("jsq", 1)])
    assert usual[0] == (
        "60 s of sending a run, 10 x faster than the trace (notice 3 s); 1 emulated core = 0.1 real cores"
    )
    assert usual[1] == "policy mws, jsq; strategy prefer-regular; invocations generated, VMs generated"
    odd = conditions(
        [summary("mws", 1, retries=False, history=True), summary("jsq", 1, cpu_enforced=False), summary("mws", 2)]
    )
    assert odd[len(usual) :] == [
        "the strategies knew beforehand which apps of the trace are long",
        "retries were off: a call that an eviction cuts off fails for good",
        "CPU was not enforced: cores steer placement only",
        "not every variant has run with every seed: the columns are not to be compared",
    ]


def test_real_summaries_have_all_that_is_read(run: RunData) -> None:
    compared = document([summarise(run)])
    (variant,) = compared["variants"]
    assert (variant["policy"], variant["seeds"], variant["invocations"], variant["cut_off"]) == ("mws", [1], 94, 9)
    assert variant["latency_p50_ms"] == {"value": 450.0, "low": 450.0, "high": 450.0}
    assert variant["cold_start_share"]["value"] == 2 / 90
    assert len(compared["conditions"]) == 4
