"""Prometheus metrics of this process, in a registry of its own. Names: `fallow_<part>_<what>_<unit>`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics import MetricWrapperBase

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

M = TypeVar("M", bound=MetricWrapperBase)

disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the number of series
_registry = CollectorRegistry()
ProcessCollector(registry=_registry)
_made: dict[str, MetricWrapperBase] = {}


def counter(name: str, help_text: str, labels: Sequence[str] = ()) -> Counter:
    """A counter; asked for again under the same name, it is the same one. It is shown with the suffix `_total`."""
    return _once(Counter, name, help_text, labels)


def gauge(name: str, help_text: str, labels: Sequence[str] = ()) -> Gauge:
    """A gauge; asked for again under the same name, it is the same one."""
    return _once(Gauge, name, help_text, labels)


def histogram(
    name: str, help_text: str, labels: Sequence[str] = (), buckets: Sequence[float] = SECONDS_BUCKETS
) -> Histogram:
    """A histogram; asked for again under the same name, it is the same one. The usual buckets are seconds."""
    return _once(Histogram, name, help_text, labels, buckets=tuple(buckets))


def render() -> bytes:
    """Everything in Prometheus' text format, to be sent with CONTENT_TYPE."""
    return generate_latest(_registry)


def _once(kind: type[M], name: str, help_text: str, labels: Sequence[str], **more: Any) -> M:
    known = _made.get(name)
    if known is None:
        known = _made[name] = kind(name, help_text, tuple(labels), registry=_registry, **more)
    if not isinstance(known, kind) or known._labelnames != tuple(labels):
        raise ValueError(f"metric {name} exists as {type(known).__name__} with labels {known._labelnames}")
    return known
