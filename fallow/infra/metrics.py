"""Prometheus metrics of this process, in a registry of its own. Names: `fallow_<part>_<what>_<unit>`."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

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


def counted(
    name: str, help_text: str, labels: Sequence[str], read: Callable[[], Mapping[tuple[str, ...], float]]
) -> None:
    """A counter that its owner keeps as plain numbers and that is read only when shown: for the path of every call.

    `read` gives the totals by label values. Told again under the same name, the latest `read` counts.
    """
    _read_when_shown(CounterMetricFamily, name, help_text, labels, read)


def watched(
    name: str, help_text: str, labels: Sequence[str], read: Callable[[], Mapping[tuple[str, ...], float]]
) -> None:
    """A gauge that is read only when shown; otherwise like `counted`."""
    _read_when_shown(GaugeMetricFamily, name, help_text, labels, read)


def _read_when_shown(
    family: type[CounterMetricFamily] | type[GaugeMetricFamily],
    name: str,
    help_text: str,
    labels: Sequence[str],
    read: Callable[[], Mapping[tuple[str, ...], float]],
) -> None:
    known = _kept.get(name)
    if known is None:
        _kept[name] = known = _Kept(family, name, help_text, tuple(labels))
        _registry.register(known)
    known.read = read


def histogram(name: str, help_text: str, buckets: Sequence[float] = SECONDS_BUCKETS) -> Histogram:
    """A histogram; asked for again under the same name, it is the same one. The usual buckets are seconds."""
    known = _histograms.get(name)
    if known is None:
        known = _histograms[name] = Histogram(name, help_text, tuple(buckets))
        _registry.register(known)
    return known


def render() -> bytes:
    """Everything in Prometheus' text format, to be sent with CONTENT_TYPE."""
    return generate_latest(_registry)


class Histogram(Collector):
    """A histogram without labels, cheap to observe: the client library's own takes ten times as long."""

    def __init__(self, name: str, help_text: str, bounds: tuple[float, ...]) -> None:
        self._name = name
        self._help_text = help_text
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)  # not cumulative; the last is what lies above all bounds
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def collect(self) -> Iterable[Metric]:
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        buckets = list(zip(names, map(float, accumulate(self._counts)), strict=True))
        yield HistogramMetricFamily(self._name, self._help_text, buckets=buckets, sum_value=self._sum)


class _Kept(Collector):
    def __init__(
        self,
        family: type[CounterMetricFamily] | type[GaugeMetricFamily],
        name: str,
        help_text: str,
        labels: tuple[str, ...],
    ) -> None:
        self._family = family
        self._name = name
        self._help_text = help_text
        self._labels = labels
        self.read: Callable[[], Mapping[tuple[str, ...], float]] = dict

    def collect(self) -> Iterable[Metric]:
        family = self._family(self._name, self._help_text, labels=self._labels)
        for values, total in self.read().items():
            family.add_metric(values, total)
        yield family


_kept: dict[str, _Kept] = {}
_histograms: dict[str, Histogram] = {}


def _once(kind: type[M], name: str, help_text: str, labels: Sequence[str]) -> M:
    known = _made.get(name)
    if known is None:
        known = _made[name] = kind(name, help_text, tuple(labels), registry=_registry)
    if not isinstance(known, kind) or known._labelnames != tuple(labels):
        raise ValueError(f"metric {name} exists as {type(known).__name__} with labels {known._labelnames}")
    return known
