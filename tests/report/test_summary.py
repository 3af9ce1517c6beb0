from __future__ import annotations

from dataclasses import replace

import pytest

from fallow.report.run import RunData
from fallow.report.summary import quantile, summarise

REQUIRED = {
    "invocations", "succeeded", "failed", "lost", "cold_starts", "prewarmed", "success_rate", "latency_ms", "evictions",
    "injected", "evicted_with_loss", "replaced", "harvested_core_s", "cost", "placements", "strategy", "policy",
    "actions", "offered_cores", "available_cores", "cpu_enforced", "seed", "core_scale", "speedup", "vm_speedup",
    "thinned", "cut", "rules", "cut_off", "retries",
}  # fmt: skip


def test_has_every_field_of_the_report(run: RunData) -> None:
    assert set(summarise(run)) >= REQUIRED


def test_every_call_ends_in_one_way(run: RunData) -> None:
    s = summarise(run)
    assert (s["invocations"], s["succeeded"], s["failed"], s["lost"]) == (94, 89, 4, 1)
    assert (s["refused"], s["unanswered"]) == (2, 1)
    assert s["success_rate"] == 89 / 94


def test_cold_starts_are_records_with_an_init_time(run: RunData) -> None:
    s = summarise(run)
    assert (s["cold_starts"], s["prewarmed"], s["warm_starts"]) == (2, 1, 88)
    assert s["cold_start_share"] == 2 / 90
    assert s["init_ms"] == {"p50": 7.0, "p95": 9.0, "p99": 9.0}


def test_latency_counts_from_the_due_moment(run: RunData) -> None:
    """90 records at 10, 20, .. 900 ms; the 1 ms that each was sent late is part of it."""
    s = summarise(run)
    assert s["latency_ms"] == {"p50": 450.0, "p95": 860.0, "p99": 900.0}
    assert s["late_ms"]["p50"] == 1.0
    assert s["wait_ms"] == {"p50": 1.0, "p95": 1.0, "p99": 1.0}


def test_vm_figures_come_from_the_diary(run: RunData) -> None:
    """h1: 50 s x 8 + 50 s x 2; h2: 60 s x 10; h2.2: 10 s x 1; the regular VM is not harvested."""
    s = summarise(run)
    assert s["harvested_core_s"] == 500 + 600 + 10
    assert (s["evictions"], s["injected"], s["injections_asked"]) == (1, 1, 1)
    assert (s["vms"], s["notices"], s["resizes"]) == (4, 2, 1)
    assert s["harvested_used_core_s"] == pytest.approx(89 * 0.002)  # the call on r1 apart


def test_cost_at_the_discount_typical(run: RunData) -> None:
    """h1: 50 s x 1.8 + 50 s x 0.6; h2: 60 s x 2.2; h2.2: 10 s x 0.3; r1: 100 s x 4."""
    cost = summarise(run)["cost"]
    assert cost["harvest"] == pytest.approx((90 + 30 + 132 + 3) / 3600, abs=1e-6)
    assert cost["regular"] == pytest.approx(1110 / 3600, abs=1e-6)
    assert cost["regular_vms"] == pytest.approx(400 / 3600, abs=1e-6)
    assert cost["saved_share"] == pytest.approx(1 - 255 / 1110)
    assert (cost["unit"], cost["discount"]) == ("regular core-hours", "Typical")


def test_what_the_controller_counted(run: RunData) -> None:
    s = summarise(run)
    assert (s["replaced"], s["evicted_with_loss"]) == (2, 1)
    assert s["placements"] == {"short_harvest": 80, "short_regular": 5, "long_harvest": 3, "long_regular": 4}


def test_what_became_of_the_calls_that_evictions_cut_off(run: RunData) -> None:
    assert summarise(run)["cut_off"] == {
        "calls": 9,
        "succeeded": 4,
        "failed": 3,
        "not_idempotent": 2,
        "out_of_attempts": 1,
        "own_error": 1,
        "other": 1,
    }
    quiet = replace(run, counters={**run.counters, "decisions": {}})
    assert set(summarise(quiet)["cut_off"].values()) == {0}


def test_errors_are_listed_most_frequent_first(run: RunData) -> None:
    assert [e["count"] for e in summarise(run)["errors"]] == [2, 1, 1, 1]
    assert summarise(run)["errors"][0]["error"] == "HTTP 429: too busy"


def test_the_share_thinned_is_of_all_calls(run: RunData) -> None:
    assert summarise(run)["thinned_share"] == 6 / 100


def test_nothing_was_sent(run: RunData) -> None:
    s = summarise(replace(run, calls=()))
    assert (s["invocations"], s["success_rate"], s["cold_start_share"]) == (0, None, None)
    assert s["latency_ms"] == {"p50": None, "p95": None, "p99": None}


@pytest.mark.parametrize(
    ("values", "q", "expected"),
    [
        ([], 0.5, None),
        ([3.0], 0.99, 3.0),
        ([4.0, 1.0, 3.0, 2.0], 0.5, 2.0),
        ([1.0, 2.0], 0.0, 1.0),
        ([1.0, 2.0], 1.0, 2.0),
    ],
)
def test_quantile_is_a_measured_value(values: list[float], q: float, expected: float | None) -> None:
    assert quantile(values, q) == expected
