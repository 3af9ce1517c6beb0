"""Metrics as Prometheus reads them."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fallow.infra import metrics


def sample(name: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(metrics.render().decode()):
        for found in family.samples:
            if found.name == name and found.labels == labels:
                return found.value
    return None


def test_what_was_counted_is_rendered() -> None:
    counter = metrics.counter("fallow_test_calls", "Calls", ["status"])
    counter.labels("success").inc()
    counter.labels("success").inc(2)
    metrics.gauge("fallow_test_cores", "Cores").set(1.5)
    seconds = metrics.histogram("fallow_test_wait_seconds", "Waits")
    seconds.observe(0.02)
    assert sample("fallow_test_calls_total", status="success") == 3.0
    assert sample("fallow_test_cores") == 1.5
    assert sample("fallow_test_wait_seconds_bucket", le="0.01") == 0.0
    assert sample("fallow_test_wait_seconds_bucket", le="0.025") == 1.0
    assert b"_created" not in metrics.render()
    assert sample("process_open_fds") is not None


def test_a_histogram_counts_a_value_on_a_bound_below_it_and_one_above_all_only_in_the_total() -> None:
    seconds = metrics.histogram("fallow_test_bound_seconds", "Bounds", (0.5, 1.0))
    for value in (0.5, 1.0, 7.0):
        seconds.observe(value)
    assert metrics.histogram("fallow_test_bound_seconds", "Bounds", (0.5, 1.0)) is seconds
    assert sample("fallow_test_bound_seconds_bucket", le="0.5") == 1.0
    assert sample("fallow_test_bound_seconds_bucket", le="1.0") == 2.0
    assert sample("fallow_test_bound_seconds_bucket", le="+Inf") == 3.0
    assert sample("fallow_test_bound_seconds_count") == 3.0
    assert sample("fallow_test_bound_seconds_sum") == 8.5


def test_what_its_owner_counts_is_read_when_it_is_shown() -> None:
    calls = {("short",): 1}
    metrics.counted("fallow_test_kept", "Kept", ("length",), lambda: {("short",): 99})
    metrics.counted("fallow_test_kept", "Kept", ("length",), lambda: calls)
    calls["short",] += 1
    assert sample("fallow_test_kept_total", length="short") == 2.0


def test_the_same_name_is_the_same_metric() -> None:
    first = metrics.counter("fallow_test_same", "Same", ["a"])
    assert metrics.counter("fallow_test_same", "Same", ["a"]) is first
    with pytest.raises(ValueError, match="fallow_test_same exists as Counter"):
        metrics.gauge("fallow_test_same", "Same", ["a"])
    with pytest.raises(ValueError, match="fallow_test_same exists"):
        metrics.counter("fallow_test_same", "Same", ["b"])
