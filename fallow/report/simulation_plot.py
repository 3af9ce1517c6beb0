"""A plot of what policies made of one simulated workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

QUANTILES = ("p50", "p95", "p99")
LOG_FROM = 20  # times between the shortest and the longest, from which on the axis is logarithmic
COLOURS = ("#0072b2", "#e69f00", "#d55e00", "#009e73", "#cc79a7", "#56b4e9")


def write_simulation_plot(summaries: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Latency quantiles and cold-start share, a bar a policy."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    latency, cold = figure.subplots(1, 2, width_ratios=(2, 1))
    width = 0.8 / max(1, len(summaries))
    for i, summary in enumerate(summaries):
        places = [q + (i - (len(summaries) - 1) / 2) * width for q in range(len(QUANTILES))]
        values = [(summary["latency_ms"][q] or 0) / 1e3 for q in QUANTILES]
        colour = COLOURS[i % len(COLOURS)]
        latency.bar(places, values, width * 0.9, label=summary["policy"], color=colour)
        cold.bar(i, 100 * (summary["cold_start_share"] or 0), 0.8, color=colour)
    shown = [summary["latency_ms"][q] for summary in summaries for q in QUANTILES if summary["latency_ms"][q]]
    if shown and max(shown) > LOG_FROM * min(shown):
        latency.set_yscale("log")
    latency.set_xticks(range(len(QUANTILES)), [q.upper() for q in QUANTILES])
    latency.set_ylabel("latency, s")
    latency.legend(frameon=False)
    latency.set_title(f"{summaries[0]['invocation_source']}, cluster {Path(str(summaries[0]['cluster'])).name}")
    cold.set_xticks(range(len(summaries)), [summary["policy"] for summary in summaries])
    cold.set_ylabel("cold starts, %")
    for axes in (latency, cold):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
    figure.savefig(path, dpi=130)
