"""One picture of a calibration: published curves and ours on top of each other, how far apart, and the shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fallow.report.plots import GRID, INK, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS, THEIRS, BAND = PALETTE[5], "#b6bbc4", PALETTE[4]
_SIZE_IN = (12.0, 8.4)
_DPI = 90
_COLUMNS = 3
_STEPS = "cores"  # the unit whose values are whole numbers: drawn as steps, on an even axis
_SHOWN = 0.3  # the largest relative difference that the axis shows

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One distribution: points (share of the samples below, value) of both sides, and their relative difference."""

    title: str
    unit: str
    basis: str  # where the published curve is from
    published: Points
    ours: Points
    differences: Points


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One number between 0 and 1."""

    title: str
    published: float
    ours: float
    bound: bool  # published is a least value


def write_calibration_plot(
    panels: Sequence[Panel], shares: Sequence[Share], allowed: Sequence[tuple[float, float, float]], path: Path
) -> None:
    """Writes a PNG. `allowed`: from which share below, up to which, what relative difference; drawn as bands."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "font.size": 9,
        "axes.edgecolor": "#9ca3af",
        "axes.labelcolor": INK,
        "text.color": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "legend.frameon": False,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=_SIZE_IN, dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        parts = figure.subfigures(-(-(len(panels) + 1) // _COLUMNS), _COLUMNS, squeeze=False).ravel().tolist()
        for panel, part in zip(panels, parts, strict=False):
            upper, lower = part.subplots(2, 1, height_ratios=(3, 1))
            _draw_curves(panel, upper)
            _draw_differences(panel, allowed, lower)
        _draw_shares(shares, parts[len(panels)].subplots())
        figure.savefig(path, metadata={"Software": None})


def _draw_curves(panel: Panel, axis: Axes) -> None:
    steps = panel.unit == _STEPS
    for points, width, colour, label in (
        (panel.published, 4.0, THEIRS, panel.basis),
        (panel.ours, 1.2, OURS, "ours"),
    ):
        shares, values = zip(*points, strict=True)
        axis.plot(values, shares, color=colour, linewidth=width, label=label, drawstyle="steps-post" if steps else None)
    if not steps:
        axis.set_xscale("log")
    axis.set_ylim(0, 1.02)
    axis.set_title(panel.title)
    axis.set_xlabel(panel.unit, labelpad=0)
    axis.set_ylabel("share below")
    axis.legend(loc="best")


def _draw_differences(panel: Panel, allowed: Sequence[tuple[float, float, float]], axis: Axes) -> None:
    for low, high, most in allowed:
        axis.fill_between([low, high], [-most] * 2, [most] * 2, color=BAND, alpha=0.3, linewidth=0)
    shares, differences = zip(*panel.differences, strict=True)
    axis.plot(shares, differences, color=OURS, linewidth=1.2)
    axis.set_ylim(-_SHOWN, _SHOWN)
    axis.set_yticks([-0.25, 0, 0.25], ["-25 %", "0", "+25 %"])
    axis.set_xlim(0, 1)
    axis.set_xlabel("share below; band: allowed", labelpad=0)
    axis.set_ylabel("difference")


def _draw_shares(shares: Sequence[Share], axis: Axes) -> None:
    for y, share in enumerate(reversed(shares)):
        marker = ">" if share.bound else "o"
        axis.plot(share.published, y, marker=marker, markersize=10, color=THEIRS, linestyle="none")
        axis.plot(share.ours, y, marker="o", markersize=3.5, color=OURS, linestyle="none")
    for label, marker, size, colour in (
        ("published", "o", 10, THEIRS),
        ("published: at least", ">", 10, THEIRS),
        ("ours", "o", 3.5, OURS),
    ):
        axis.plot([], [], marker=marker, markersize=size, color=colour, linestyle="none", label=label)
    axis.set_yticks(range(len(shares)), [share.title for share in reversed(shares)], fontsize=8)
    axis.set_xlim(0, 1.05)
    axis.set_ylim(-0.25 * len(shares) - 0.5, len(shares) - 0.5)  # the legend below them
    axis.set_title("shares")
    axis.legend(loc="lower left", fontsize=7)
