"""Figures as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LATE_MS = 100.0  # a replay that sends later than that at p95 measures its own machine too


def millis(value: float | None) -> str:
    """Milliseconds in the unit that keeps three digits; a dash where nothing was measured."""
    if value is None:
        return "–"
    if value < 1:
        return f"{value:.2f} ms"
    if value < 10:
        return f"{value:.1f} ms"
    return f"{value:.0f} ms" if value < 1000 else f"{value / 1e3:.2f} s"


def share(value: float | None, digits: int = 1) -> str:
    """As per cent; never rounded up to 100 where something is missing."""
    if value is None:
        return "–"
    text = f"{100 * value:.{digits}f} %"
    return f"> {100 - 10**-digits:.{digits}f} %" if value < 1 and text.startswith("100") else text


def cut_off_words(cut_off: Mapping[str, int]) -> str:
    """What became of the calls that evictions cut off: what went well, then what did not and why."""
    calls = cut_off["calls"]
    if not calls:
        return "no running call"
    reasons = (("not_idempotent", "not idempotent"), ("out_of_attempts", "out of attempts"))
    why = ", ".join(f"{cut_off[key]} {words}" for key, words in reasons if cut_off[key])
    text = f"{calls} running call{'s' if calls > 1 else ''}, {cut_off['unforeseen']} taken for short: "
    text += f"{cut_off['succeeded']} succeeded elsewhere, "
    text += f"{cut_off['failed']} failed for good" + (f" ({why})" if why else "")
    if cut_off["own_error"]:
        text += f", {cut_off['own_error']} ended elsewhere in an error of the function"
    if cut_off["other"]:
        text += f", {cut_off['other']} not over yet"
    return text


def _vm_times(s: Mapping[str, Any]) -> str:
    if s["vm_speedup"] is None:
        return ""
    return f" (notice {s['notice_s']:g} s), VM changes {s['vm_speedup']:.4g} x"


def scale_lines(summary: Mapping[str, Any]) -> list[str]:
    """What a reader must know before any figure: time and core scale, and whether CPU was enforced."""
    s = summary
    lines = [
        f"time: {s['speedup']:g} x faster than the trace{_vm_times(s)}; platform times are real",
        f"cores: 1 emulated core = {s['core_scale']:.4g} real cores; "
        f"{s['offered_cores']:.2f} offered of {s['available_cores']:.1f} available on average",
        f"traces: invocations {s['invocation_source']}, VMs {s['vm_source']}; "
        f"policy {s['policy']}, strategy {s['strategy']}, seed {s['seed']}, containers {s['runtime']}",
    ]
    late_ms = s["late_ms"]["p95"]
    if late_ms is not None and late_ms > LATE_MS:
        lines.append(f"this machine was too busy to send on time (p95 {millis(late_ms)} late): latencies include that")
    if s["history"]:
        lines.append("the strategy knew beforehand which apps of the trace are long")
    if not s["retries"]:
        lines.append("retries were off: a call that an eviction cuts off fails for good")
    if not s["cpu_enforced"]:
        lines.append(f"CPU is not enforced: {s['cpu_note']}")
    return lines
