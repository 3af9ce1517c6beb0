"""What became of the calls that ran real benchmark functions."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from fallow.report.run import CallRecord, Ending, RunData
from fallow.report.words import millis, share


def benchmark_figures(run: RunData) -> dict[str, Any]:
    """`calls`, their share of all calls, cold share and median run (nearest rank), in all and of each function."""
    of_function: dict[str, list[CallRecord]] = {}
    for call in run.calls:
        name = run.header.benchmarks.get(call.action)
        if name is not None:
            of_function.setdefault(name, []).append(call)
    every = [call for calls in of_function.values() for call in calls]
    return {
        "benchmarks": {
            **_figures(every),
            "share": len(every) / len(run.calls) if run.calls else None,
            "functions": [{"name": name, **_figures(of_function[name])} for name in sorted(of_function)],
        }
    }


def _figures(calls: Sequence[CallRecord]) -> dict[str, Any]:
    recorded = [call for call in calls if call.ending is Ending.RECORDED]
    cold = sum(call.cold for call in recorded)
    runs_ms = [call.run_ms for call in recorded if call.run_ms is not None]
    return {
        "calls": len(calls),
        "succeeded": sum(call.succeeded for call in calls),
        "cold": cold,
        "cold_share": cold / len(recorded) if recorded else None,
        "run_p50_ms": round(statistics.median_low(runs_ms), 3) if runs_ms else None,
    }


def benchmark_row(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The line of the text report; none where there were no such calls."""
    b = summary["benchmarks"]
    if not b["calls"]:
        return []
    text = (
        f"{b['calls']} calls ({share(b['share'])}) of {len(b['functions'])} functions, {b['succeeded']} succeeded, "
        f"{share(b['cold_share'])} cold, median run {millis(b['run_p50_ms'])}"
    )
    return [("benchmarks", text)]


def benchmark_section(summary: Mapping[str, Any]) -> str:
    """The section of report.html; nothing where there were no such calls."""
    b = summary["benchmarks"]
    if not b["calls"]:
        return ""
    rows = "".join(
        f"<tr><th>{escape(f['name'])}</th><td>{f['calls']}</td><td>{f['succeeded']}</td>"
        f"<td>{f['cold']} ({share(f['cold_share'])})</td><td>{millis(f['run_p50_ms'])}</td></tr>"
        for f in (*b["functions"], {**b, "name": "all"})
    )
    heads = "".join(f"<th>{head}</th>" for head in ("", "calls", "succeeded", "cold", "median run"))
    return (
        '<section id="benchmarks"><h2>Benchmark functions</h2><p class="note">Calls that do real work, with libraries; '
        "a run is as long as its VM's cores make it.</p>"
        f'<div style="overflow-x:auto"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        "</section>"
    )
