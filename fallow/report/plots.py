"""The plots of a report, as inline SVG. Matplotlib is imported only here and beside, and only when a plot is drawn.

Colours are Okabe and Ito's, told apart with any kind of colour vision; what matters is also told by shape.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fallow.core.names import natural_key
from fallow.report.run import CallRecord, Ending, RunData
from fallow.report.summary import PLACEMENTS, lives_of
from fallow.report.timeline import VmLife

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REGULAR_COLOUR = "#6b7280"
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
WARM, COLD, BAD = "#56B4E9", "#E69F00", "#B91C1C"
EVICTION, INK, GRID = "#D55E00", "#1f2937", "#e5e7eb"
MOST_LANES = 24
_MOST_VECTOR_POINTS = 3000  # more are drawn as an image within the SVG: a page of many megabytes is of no use
_WIDTH_IN = 9.6
_MOST_BARS = 60
_LEFT, _RIGHT = 0.105, 0.985  # the same in all plots over time, so that moments stand under each other
_TOP_IN, _BOTTOM_IN = 0.42, 0.52  # for the legend and the axis title


def draw_all(run: RunData, summary: Mapping[str, Any]) -> dict[str, str]:
    """Plot name -> SVG element, without any reference outside itself."""
    import matplotlib as mpl

    lives = lives_of(run)
    span_s = (run.ended_unix_ms - run.began_unix_ms) / 1e3
    style: dict[Any, Any] = {
        "font.family": "sans-serif",
        "font.sans-serif": ["Helvetica Neue", "Arial", "DejaVu Sans"],
        "font.size": 10,
        "svg.fonttype": "none",  # text stays text: smaller, sharper, can be searched
        "axes.edgecolor": "#9ca3af",
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "legend.frameon": False,
    }
    plots: dict[str, str] = {}
    figures: dict[str, Callable[[], Figure]] = {
        "cores": lambda: cores_figure(lives, span_s),
        "latency": lambda: latency_figure(run.calls, lives, span_s),
        "starts": lambda: starts_figure(run.calls, lives, span_s),
        "placements": lambda: placements_figure(summary["placements"]),
    }
    for name, figure_of in figures.items():
        with mpl.rc_context({**style, "svg.hashsalt": name}):
            plots[name] = _svg(figure_of(), name)
    return plots


def _svg(figure: Figure, name: str) -> str:
    """The bare element: no prologue, no namespaces (HTML needs none), ids that no other plot of the page has."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None}, transparent=True)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    return text.strip()


def _figure(height_in: float, rows: int = 1) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure as NewFigure  # not pyplot: no global state, no display

    figure = NewFigure(figsize=(_WIDTH_IN, height_in))
    figure.subplots_adjust(
        left=_LEFT, right=_RIGHT, top=1 - _TOP_IN / height_in, bottom=_BOTTOM_IN / height_in, hspace=0.22
    )
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)
    return figure, [row[0] for row in axes]


def lanes(lives: Sequence[VmLife]) -> dict[str, list[VmLife]]:
    """One lane a VM of the plan: h3, h3.2 and h3.3 are lives of one trace. Regular VMs stand first."""
    found: dict[str, list[VmLife]] = {}
    for life in lives:
        found.setdefault(life.vm.split(".")[0], []).append(life)
    return dict(sorted(found.items(), key=lambda lane: (lane[1][0].kind.evictable, natural_key(lane[0]))))


def _colours(names: Mapping[str, list[VmLife]]) -> dict[str, str]:
    harvest = [name for name, lives in names.items() if lives[0].kind.evictable]
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(harvest)}


# ---- cores


def cores_figure(lives: Sequence[VmLife], span_s: float) -> Figure:
    """A lane for each VM, all on one scale, and the sum on top."""
    by_lane = lanes(lives)
    colours = _colours(by_lane)
    shown = dict(list(by_lane.items())[:MOST_LANES])
    most = max((cores for life in lives for _, cores in life.steps), default=1.0)
    figure, axes = _figure(1.5 + 0.72 * len(shown), rows=1 + len(shown))
    _total_lane(axes[0], lives, span_s)
    for axis, (name, own) in zip(axes[1:], shown.items(), strict=True):
        colour = colours.get(name, REGULAR_COLOUR)
        for life in own:
            _life(axis, life, colour)
        axis.set_ylim(0, most * 1.12)
        axis.set_ylabel(name, rotation=0, ha="right", va="center", color=colour, fontweight="bold")
    axes[-1].set_xlabel("seconds since the replay began")
    axes[-1].set_xlim(0, span_s)
    figure.supylabel("cores of the VM (emulated)", fontsize=10, x=0.012)
    _cores_legend(figure, injected=any(life.injected for life in lives))
    return figure


def _total_lane(axis: Axes, lives: Sequence[VmLife], span_s: float) -> None:
    changes: dict[float, float] = {0.0: 0.0, span_s: 0.0}
    for life in lives:
        for since, to, cores in life.pieces():
            changes[since] = changes.get(since, 0.0) + cores
            changes[to] = changes.get(to, 0.0) - (cores if to < span_s else 0.0)
    times = sorted(changes)
    total, sums = 0.0, []
    for t in times:
        total += changes[t]
        sums.append(total)
    axis.fill_between(times, sums, step="post", color=INK, alpha=0.10, linewidth=0)
    axis.step(times, sums, where="post", color=INK, linewidth=1.4)
    axis.set_ylim(0, max(sums, default=1.0) * 1.15 or 1.0)
    axis.set_ylabel("all", rotation=0, ha="right", va="center", fontweight="bold")


def _life(axis: Axes, life: VmLife, colour: str) -> None:
    times = [*(t for t, _ in life.steps), life.end_s]
    cores = [*(c for _, c in life.steps), life.steps[-1][1]]
    axis.fill_between(times, cores, step="post", color=colour, alpha=0.30, linewidth=0)
    axis.step(times, cores, where="post", color=colour, linewidth=1.8)
    for notice in life.notices:
        axis.axvspan(
            notice.at_s,
            min(notice.until_s, life.end_s),
            facecolor=EVICTION,
            alpha=0.16,
            hatch="////",
            edgecolor=EVICTION,
            linewidth=0,
        )
    if life.evicted:
        axis.plot([life.end_s], [life.steps[-1][1] / 2], **_cross(injected=life.injected), clip_on=False, zorder=5)


def _cross(*, injected: bool) -> dict[str, Any]:
    """An eviction; one that the run injected has a ring."""
    if injected:
        return {
            "marker": "X",
            "color": EVICTION,
            "markersize": 10,
            "markeredgecolor": INK,
            "markeredgewidth": 1.2,
            "linestyle": "none",
        }
    return {"marker": "x", "color": EVICTION, "markersize": 8, "markeredgewidth": 2.4, "linestyle": "none"}


def _cores_legend(figure: Figure, *, injected: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Patch(facecolor=EVICTION, alpha=0.3, hatch="////", label="notice: drains"),
        Line2D([], [], label="evicted by its trace", **_cross(injected=False)),
    ]
    if injected:
        handles.append(Line2D([], [], label="evicted, injected", **_cross(injected=True)))
    _legend(figure, handles)


def _legend(figure: Figure, handles: Sequence[Any]) -> None:
    top = max(axis.get_position().y1 for axis in figure.axes)
    figure.legend(
        handles=list(handles), loc="lower left", bbox_to_anchor=(_LEFT - 0.015, top), ncols=5, handletextpad=0.5
    )


# ---- calls


def latency_figure(calls: Sequence[CallRecord], lives: Sequence[VmLife], span_s: float) -> Figure:
    """Each call at the moment it was due."""
    figure, (axis,) = _figure(3.7)
    recorded = [call for call in calls if call.ending is Ending.RECORDED]
    groups = (
        ("warm start", [c for c in recorded if not c.cold and c.succeeded], WARM, "o", 10),
        ("cold start", [c for c in recorded if c.cold and c.succeeded], COLD, "^", 18),
        ("error record", [c for c in recorded if not c.succeeded], BAD, "x", 34),
    )
    handles: list[Any] = []
    for label, group, colour, marker, size in groups:
        if not group:
            continue
        handles.append(
            axis.scatter(
                [c.intended_s for c in group],
                [max(0.1, c.latency_ms or 0.0) for c in group],
                s=size,
                c=colour,
                marker=marker,
                alpha=0.75,
                linewidths=1.6 if marker == "x" else 0,
                label=f"{label} ({len(group)})",
                rasterized=len(calls) > _MOST_VECTOR_POINTS,
            )
        )
    without = [c for c in calls if c.ending is not Ending.RECORDED]
    if without:  # at the foot of the plot: they have no latency
        handles += axis.plot(
            [c.intended_s for c in without],
            [0.02] * len(without),
            transform=axis.get_xaxis_transform(),
            marker="v",
            color=BAD,
            linestyle="none",
            label=f"no record ({len(without)})",
        )
    _millis_axis(axis, [c.latency_ms or 0.0 for c in recorded])
    axis.set_ylabel("latency from the due moment")
    _time_axis(axis, lives, span_s, handles)
    _legend(figure, handles)
    return figure


def _millis_axis(axis: Axes, values_ms: Sequence[float]) -> None:
    """Whole decades, so that a narrow spread looks narrow."""
    from matplotlib.ticker import NullFormatter

    low, high = max(0.1, min(values_ms, default=1.0)), max(0.2, max(values_ms, default=1.0))
    axis.set_yscale("log")
    axis.set_ylim(10 ** math.floor(math.log10(low)) * 0.8, 10 ** math.ceil(math.log10(high)) * 1.25)
    axis.yaxis.set_major_formatter(_millis_ticks)
    axis.yaxis.set_minor_formatter(NullFormatter())


def _millis_ticks(value: float, _position: float) -> str:
    return f"{value:g} ms" if value < 1000 else f"{value / 1000:g} s"


def starts_figure(calls: Sequence[CallRecord], lives: Sequence[VmLife], span_s: float) -> Figure:
    """Started calls a second by the moment they were due, warm under cold."""
    figure, (axis,) = _figure(2.6)
    recorded = [call for call in calls if call.ending is Ending.RECORDED]
    last_s = max((c.intended_s for c in calls), default=0.0)
    width_s = max(1, math.ceil(last_s / _MOST_BARS))
    bins = int(last_s / width_s) + 1
    warm, cold = [0.0] * bins, [0.0] * bins
    for call in recorded:
        (cold if call.cold else warm)[int(call.intended_s / width_s)] += 1 / width_s
    at = [i * width_s for i in range(bins)]
    bars: dict[str, Any] = {"width": width_s * 0.92, "align": "edge", "linewidth": 0}
    handles: list[Any] = [
        axis.bar(at, warm, color=WARM, label="warm starts", **bars),
        axis.bar(at, cold, bottom=warm, color=COLD, label="cold starts", **bars),
    ]
    axis.set_ylabel("calls a second")
    _time_axis(axis, lives, span_s, handles)
    _legend(figure, handles)
    return figure


def _time_axis(axis: Axes, lives: Sequence[VmLife], span_s: float, handles: list[Any]) -> None:
    axis.set_xlabel("seconds since the replay began")
    axis.set_xlim(0, span_s)
    line: Any = None
    for life in lives:
        if life.evicted:
            line = axis.axvline(life.end_s, color=EVICTION, linestyle=(0, (4, 3)), linewidth=1.2, zorder=0.5)
    if line is not None:
        line.set_label("a VM is evicted")
        handles.append(line)


def placements_figure(placements: Mapping[str, int]) -> Figure:
    """How many dispatches went where, retries counted again."""
    figure, (axis,) = _figure(2.1)
    figure.subplots_adjust(left=0.2, top=0.97)
    names = [*PLACEMENTS, *(name for name in placements if name not in PLACEMENTS)]
    colours = [REGULAR_COLOUR if name.endswith("regular") else PALETTE[0] for name in names]
    titles = [f"{name.partition('_')[0]} calls on {name.partition('_')[2]} VMs" for name in names]
    bars = axis.barh(titles, [placements[name] for name in names], color=colours, height=0.62)
    axis.bar_label(bars, padding=4)
    axis.invert_yaxis()
    axis.grid(visible=False, axis="y")
    axis.margins(x=0.1)
    axis.set_xlabel("placements (a call that moved counts again)")
    return figure
