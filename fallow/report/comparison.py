"""Several runs of the same workload side by side: pure functions from their summaries to one table.

A column is one variant (policy and strategy), a cell sums up its runs, one a seed. Counts are added up over the seeds,
shares are taken of those sums. A quantile of all calls together cannot be had from summaries, so times are the mean of
the runs' own. Of shares and times the lowest and the highest run are told, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fallow.report.words import millis, share

Summary = Mapping[str, Any]  # of fallow.report.summary.summarise, or read back from report.json
Variant = tuple[str, str]  # (policy, strategy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One figure over the runs of a variant; all None where no run measured it."""

    value: float | None
    low: float | None
    high: float | None

    def text(self, words: Callable[[float | None], str]) -> str:
        """The value, and behind it the range unless all runs gave the same."""
        if self.low == self.high:
            return words(self.value)
        return f"{words(self.value)} ({words(self.low)} – {words(self.high)})"

    def document(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """All runs of one variant."""

    policy: str
    strategy: str
    seeds: tuple[int, ...]
    counts: Mapping[str, int]  # by _COUNTS, summed up over the seeds
    success: Spread  # shares of 1
    cold_starts: Spread
    times_ms: Mapping[str, Spread]  # by _TIMES


_COUNTS: dict[str, Callable[[Summary], int]] = {
    "invocations": lambda s: s["invocations"],
    "succeeded": lambda s: s["succeeded"],
    "failed": lambda s: s["failed"],
    "lost": lambda s: s["lost"],
    "evictions": lambda s: s["evictions"],
    "cut_off": lambda s: s["cut_off"]["calls"],
    "cut_off_unforeseen": lambda s: s["cut_off"]["unforeseen"],
    "cut_off_failed": lambda s: s["cut_off"]["failed"],
    "replaced": lambda s: s["replaced"],
    "long_on_evictable": lambda s: s["placements"]["long_harvest"] + s["placements"].get("long_spot", 0),
    "long_on_regular": lambda s: s["placements"]["long_regular"],
}
_TIMES = {
    "latency_p50_ms": ("latency_ms", "p50"),
    "latency_p99_ms": ("latency_ms", "p99"),
    "wait_p99_ms": ("wait_ms", "p99"),
    "late_p95_ms": ("late_ms", "p95"),
}


def columns(summaries: Iterable[Summary]) -> list[Column]:
    """One column a variant, in the order in which the variants first appear; seeds in ascending order."""
    runs: dict[Variant, list[Summary]] = {}
    for summary in summaries:
        runs.setdefault((summary["policy"], summary["strategy"]), []).append(summary)
    return [_column(variant, sorted(own, key=lambda s: int(s["seed"]))) for variant, own in runs.items()]


def _column(variant: Variant, runs: Sequence[Summary]) -> Column:
    policy, strategy = variant
    return Column(
        policy=policy,
        strategy=strategy,
        seeds=tuple(int(s["seed"]) for s in runs),
        counts={name: sum(read(s) for s in runs) for name, read in _COUNTS.items()},
        success=_pooled((s["succeeded"], s["invocations"]) for s in runs),
        cold_starts=_pooled((s["cold_starts"], s["cold_starts"] + s["warm_starts"]) for s in runs),
        times_ms={name: _mean(s[of][quantile] for s in runs) for name, (of, quantile) in _TIMES.items()},
    )


def _pooled(shares: Iterable[tuple[int, int]]) -> Spread:
    """Of (part, whole) pairs: the share of the sums, and the range of the single shares."""
    pairs = [(part, whole) for part, whole in shares if whole]
    if not pairs:
        return Spread(value=None, low=None, high=None)
    single = [part / whole for part, whole in pairs]
    value = sum(part for part, _ in pairs) / sum(whole for _, whole in pairs)
    return Spread(value=value, low=min(single), high=max(single))


def _mean(values: Iterable[float | None]) -> Spread:
    known = [value for value in values if value is not None]
    if not known:
        return Spread(value=None, low=None, high=None)
    return Spread(value=sum(known) / len(known), low=min(known), high=max(known))


# -- as people read it


def rows(found: Sequence[Column]) -> list[list[str]]:
    """The table as text, its head first: one row a figure, one column a variant."""
    lines: dict[str, Callable[[Column], str]] = {
        "seeds": lambda c: ", ".join(map(str, c.seeds)),
        "invocations": lambda c: str(c.counts["invocations"]),
        "succeeded": lambda c: c.success.text(lambda v: share(v, 2)),
        "failed, lost": lambda c: f"{c.counts['failed']}, {c.counts['lost']}",
        "cold starts": lambda c: c.cold_starts.text(share),
        "latency p50": lambda c: c.times_ms["latency_p50_ms"].text(millis),
        "latency p99": lambda c: c.times_ms["latency_p99_ms"].text(millis),
        "wait p99": lambda c: c.times_ms["wait_p99_ms"].text(millis),
        "sent late p95": lambda c: c.times_ms["late_p95_ms"].text(millis),
        "evictions": lambda c: str(c.counts["evictions"]),
        "calls cut off": lambda c: f"{c.counts['cut_off']}, {c.counts['cut_off_unforeseen']} taken for short",
        "failed for good": lambda c: str(c.counts["cut_off_failed"]),
        "re-placed": lambda c: str(c.counts["replaced"]),
        "long placements": lambda c: f"{c.counts['long_on_evictable']} harvest, {c.counts['long_on_regular']} regular",
    }
    head = ["", *_titles(found)]
    return [head] + [[name, *(read(column) for column in found)] for name, read in lines.items()]


def _titles(found: Sequence[Column]) -> list[str]:
    """What tells the columns apart."""
    policies, strategies = {c.policy for c in found}, {c.strategy for c in found}
    if len(strategies) == 1:
        return [c.policy for c in found]
    if len(policies) == 1:
        return [c.strategy for c in found]
    return [f"{c.policy}, {c.strategy}" for c in found]


def plain(table: Sequence[Sequence[str]]) -> str:
    """Columns side by side for a terminal."""
    widths = [max(len(row[at]) for row in table) for at in range(len(table[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
    )


def markdown(table: Sequence[Sequence[str]]) -> str:
    """A Markdown table to paste."""
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in table]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body))


def conditions(summaries: Sequence[Summary]) -> list[str]:
    """How the runs were made, and what the table means by its figures; one sentence a line."""
    first, found = summaries[0], columns(summaries)
    strategies = ", ".join(dict.fromkeys(c.strategy for c in found))
    policies = ", ".join(dict.fromkeys(c.policy for c in found))
    lines = [
        f"{first['duration_s']:g} s of sending a run, {first['speedup']:g} x faster than the trace "
        f"(notice {first['notice_s']:g} s); 1 emulated core = {first['core_scale']:.4g} real cores",
        f"policy {policies}; strategy {strategies}; invocations {first['invocation_source']}, VMs {first['vm_source']}",
        "per seed every variant had the same invocations, VM traces and moments of injected evictions",
        "counts are sums over the seeds, shares are taken of the sums, times are the mean of the seeds' quantiles; "
        "in brackets the lowest and the highest seed",
    ]
    if first.get("runtime", "process") != "process":  # reports of earlier versions do not say
        lines.append(f"containers were {first['runtime']}'s")
    if first["history"]:
        lines.append("the strategies knew beforehand which apps of the trace are long")
    if not first["retries"]:
        lines.append("retries were off: a call that an eviction cuts off fails for good")
    if not all(s["cpu_enforced"] for s in summaries):
        lines.append("CPU was not enforced: cores steer placement only")
    if len({c.seeds for c in found}) > 1:
        lines.append("not every variant has run with every seed: the columns are not to be compared")
    return lines


def document(summaries: Sequence[Summary]) -> dict[str, Any]:
    """The comparison as JSON: units are in the names."""
    return {
        "conditions": conditions(summaries),
        "variants": [
            {
                "policy": column.policy,
                "strategy": column.strategy,
                "seeds": list(column.seeds),
                **column.counts,
                "success_rate": column.success.document(),
                "cold_start_share": column.cold_starts.document(),
                **{name: spread.document() for name, spread in column.times_ms.items()},
            }
            for column in columns(summaries)
        ],
    }
