"""The report for a terminal: at most 40 lines of 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from fallow.report.benchmarks import benchmark_row
from fallow.report.words import cut_off_words, millis, scale_lines, share

WIDTH = 100
NAME_WIDTH = 15  # of a row
_MOST_RULES = 6
_MOST_ERRORS = 3
_QUANTILES = ("p50", "p95", "p99")
_LATENCIES = {
    "latency_ms": "latency",
    "wait_ms": "  wait",
    "init_ms": "  init (cold)",
    "run_ms": "  run",
    "late_ms": "sent late",
}


def text_report(summary: Mapping[str, Any]) -> str:
    """Plain text, without colours or a trailing newline."""
    lines = [*_head(summary), "", *_calls(summary), "", *_latency(summary), "", *_vms(summary)]
    return "\n".join(line.rstrip() for line in lines)


def calls_report(summary: Mapping[str, Any]) -> str:
    """Of the calls alone (summarise_calls), likewise."""
    lines = [*_head(summary), "", *_calls(summary), "", *_latency(summary)]
    return "\n".join(line.rstrip() for line in lines)


def _head(s: Mapping[str, Any]) -> list[str]:
    lines = [f"Fallow: {s['invocations']} invocations of {s['actions']} actions in {s['took_s']:.0f} s"]
    for line in scale_lines(s):
        lines += _wrapped(line, "  ", most=2)
    rules = s["rules"]
    for rule in rules[:_MOST_RULES]:
        lines += _wrapped(f"rule: {rule}", "  ", most=1)
    if len(rules) > _MOST_RULES:
        lines.append(f"  and {len(rules) - _MOST_RULES} more rules in the report")
    return lines


def _calls(s: Mapping[str, Any]) -> list[str]:
    rows = [
        ("succeeded", f"{s['succeeded']} of {s['invocations']} ({share(s['success_rate'], 2)})"),
        ("failed, lost", f"{s['failed']} ({s['refused']} refused, {s['unanswered']} unanswered), {s['lost']} lost"),
        ("cold starts", f"{s['cold_starts']} ({share(s['cold_start_share'])}), {s['prewarmed']} of them prewarmed"),
    ]
    errors = [(f"  {e['count']} x", e["error"][: WIDTH - 22]) for e in s["errors"][:_MOST_ERRORS]]
    return [_row(name, value) for name, value in rows + benchmark_row(s) + errors]


def _latency(s: Mapping[str, Any]) -> list[str]:
    head = _row("", "".join(f"{q:>12}" for q in _QUANTILES))
    return [head] + [
        _row(title, "".join(f"{millis(s[key][q]):>12}" for q in _QUANTILES)) for key, title in _LATENCIES.items()
    ]


def _vms(s: Mapping[str, Any]) -> list[str]:
    cost, placed = s["cost"], s["placements"]
    loss = s["evicted_with_loss"]
    without = max(0, s["evictions"] - loss)
    evictions = f"{s['evictions']} ({s['injected']} injected): {loss} with loss, {without} without"
    cut_off = textwrap.wrap(cut_off_words(s["cut_off"]), WIDTH - NAME_WIDTH, max_lines=3, placeholder=" ...")
    rows = [
        ("evictions", evictions),
        *zip(("  cut off", "", ""), cut_off, strict=False),
        ("re-placed", f"{s['replaced']} invocations; VM resizes {s['resizes']}"),
        ("placements", ", ".join(f"{name.replace('_', ' on ')} {count}" for name, count in placed.items())),
        ("harvested", f"{s['harvested_core_s']:.0f} core-seconds, {s['harvested_used_core_s']:.0f} of them used"),
        (
            "cost",
            f"{cost['harvest']:.3f} instead of {cost['regular']:.3f} {cost['unit']} "
            f"(discount {cost['discount']}: {share(cost['saved_share'])} saved)",
        ),
    ]
    return [_row(name, value) for name, value in rows]


def _row(name: str, value: str) -> str:
    return f"{name:<{NAME_WIDTH}}{value}"[:WIDTH]


def _wrapped(text: str, indent: str, *, most: int) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent * 2,
        max_lines=most,
        placeholder=" ...",
        break_on_hyphens=False,
    )
