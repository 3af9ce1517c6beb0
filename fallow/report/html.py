"""report.html, one file that needs nothing else, and report.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from fallow.report.benchmarks import benchmark_section
from fallow.report.plots import draw_all
from fallow.report.run import RunData
from fallow.report.words import cut_off_words, millis, scale_lines, share

_TEMPLATE = Path(__file__).with_name("report.html")
_LATENCIES = {
    "latency_ms": "latency, from the due moment",
    "wait_ms": "wait for a VM and a container",
    "init_ms": "init (cold starts)",
    "run_ms": "run",
    "late_ms": "sent later than due",
}
_PLOTS = {
    "cores": (
        "Cores of each VM",
        "A harvest VM grows and shrinks with its host. From the notice on it takes no new calls.",
    ),
    "latency": ("Latency", "One mark a call, at the moment it was due. Logarithmic."),
    "starts": ("Cold and warm starts", "By the moment the calls were due."),
    "placements": ("Placements", "Where the strategy sent short and long calls."),
}


def write_report(run: RunData, summary: Mapping[str, Any], out: Path) -> tuple[Path, Path]:
    """Writes both files into the folder `out`, which it makes. Returns (report.html, report.json)."""
    out.mkdir(parents=True, exist_ok=True)
    html_path, json_path = out / "report.html", out / "report.json"
    json_path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    html_path.write_text(page(summary, draw_all(run, summary)), encoding="utf-8")
    return html_path, json_path


def page(summary: Mapping[str, Any], plots: Mapping[str, str]) -> str:
    """The whole page. `plots` are SVG elements by name; all other text is escaped."""
    parts = {
        "TITLE": escape(f"{summary['invocations']} invocations on harvest VMs"),
        "CONDITIONS": _items(scale_lines(summary)),
        "RULES": _rules(summary["rules"]),
        "CARDS": "".join(_card(*card) for card in _cards(summary)),
        "TABLE": _latency_table(summary),
        "FACTS": _facts(summary),
        "BENCHMARKS": benchmark_section(summary),
        "ERRORS": _errors(summary["errors"]),
        "PLOTS": "".join(_plot(name, plots[name]) for name in _PLOTS),
        "WORDS": "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in summary["definitions"].items()),
        "METHOD": escape(summary["quantile_method"]),
    }
    text = _TEMPLATE.read_text(encoding="utf-8")
    head, *rest = text.split("{{")  # one pass, so that nothing inserted is looked at again
    filled = (parts[name] + after for name, after in (piece.split("}}", 1) for piece in rest))
    return head + "".join(filled)


def _cards(s: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(figure, what it is, note) of what is looked for first."""
    latency, cost = s["latency_ms"], s["cost"]
    without = max(0, s["evictions"] - s["evicted_with_loss"])
    return [
        (share(s["success_rate"], 2), "succeeded", f"{s['failed']} failed, {s['lost']} lost of {s['invocations']}"),
        (share(s["cold_start_share"]), "cold starts", f"{s['cold_starts']} cold, {s['prewarmed']} of them prewarmed"),
        (millis(latency["p50"]), "median latency", f"p95 {millis(latency['p95'])}, p99 {millis(latency['p99'])}"),
        (
            f"{s['evictions']}",
            "evictions",
            f"{s['injected']} injected; {s['evicted_with_loss']} with loss, {without} without; "
            f"{s['cut_off']['calls']} calls cut off, {s['cut_off']['failed']} of them failed for good",
        ),
        (f"{s['replaced']}", "re-placed", "invocations placed more than once"),
        (
            share(cost["saved_share"]),
            "saved",
            f"{cost['harvest']:.3f} instead of {cost['regular']:.3f} {cost['unit']}, discount {cost['discount']}",
        ),
    ]


def _card(figure: str, what: str, note: str) -> str:
    return (
        f'<div class="card"><div class="what">{escape(what)}</div><div class="figure">{escape(figure)}</div>'
        f'<div class="note">{escape(note)}</div></div>'
    )


def _latency_table(s: Mapping[str, Any]) -> str:
    quantiles = ("p50", "p95", "p99")
    head = "".join(f"<th>{q}</th>" for q in quantiles)
    rows = "".join(
        f"<tr><th>{escape(title)}</th>" + "".join(f"<td>{millis(s[key][q])}</td>" for q in quantiles) + "</tr>"
        for key, title in _LATENCIES.items()
    )
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _facts(s: Mapping[str, Any]) -> str:
    facts = {
        "invocations": f"{s['invocations']} in {s['duration_s']:g} s of sending; the run took {s['took_s']:.1f} s",
        "actions": f"{s['actions']}",
        "refused, unanswered": f"{s['refused']}, {s['unanswered']} (both among the failed)",
        "VMs": f"{s['vms']}, resized {s['resizes']} times, {s['notices']} notices",
        "cut off by evictions": cut_off_words(s["cut_off"]),
        "harvested": f"{s['harvested_core_s']:.0f} core-seconds, {s['harvested_used_core_s']:.0f} of them used",
        "regular VMs": f"{s['cost']['regular_vms']:.3f} {s['cost']['unit']} more, at full price",
        "load": f"{s['offered_cores']:.2f} cores offered of {s['available_cores']:.1f} available on average",
        "left out by the rules": f"{s['thinned']} calls thinned ({share(s['thinned_share'])}), {s['cut']} cut short",
        "policy, strategy, seed": f"{s['policy']}, {s['strategy']}, {s['seed']}",
        "containers": s["runtime"],
        "CPU": "enforced by cgroup quotas" if s["cpu_enforced"] else f"not enforced: {s['cpu_note']}",
    }
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items())
    return f'<table class="facts"><tbody>{rows}</tbody></table>'


def _errors(errors: Sequence[Mapping[str, Any]]) -> str:
    if not errors:
        return ""
    items = _items([f"{e['count']} × {e['error']}" for e in errors])
    return f'<section><h2>What went wrong</h2><ul class="errors">{items}</ul></section>'


def _rules(rules: Sequence[str]) -> str:
    if not rules:
        return ""
    head = f"<summary>The trace was fitted to this cluster by {len(rules)} rules</summary>"
    return f"<details open>{head}<ul>{_items(rules)}</ul></details>"


def _items(lines: Sequence[str]) -> str:
    return "".join(f"<li>{escape(line)}</li>" for line in lines)


def _plot(name: str, svg: str) -> str:
    title, note = _PLOTS[name]
    return (
        f'<section id="{name}"><h2>{escape(title)}</h2><p class="note">{escape(note)}</p>'
        f'<div class="plot">{svg}</div></section>'
    )
