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


def test_the_same_name_is_the_same_metric() -> None:
    first = metrics.counter("fallow_test_same", "Same", ["a"])
    assert metrics.counter("fallow_test_same", "Same", ["a"]) is first
    with pytest.raises(ValueError, match="fallow_test_same exists as Counter"):
        metrics.gauge("fallow_test_same", "Same", ["a"])
    with pytest.raises(ValueError, match="fallow_test_same exists"):
        metrics.counter("fallow_test_same", "Same", ["b"])
