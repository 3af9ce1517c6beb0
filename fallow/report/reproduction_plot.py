"""Plots of reproduced figures: ours as lines, the published points, and what was simulated where ours are live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from fallow.report.simulation_plot import COLOURS

WITHIN = 6  # curves whose names find room among them; more stand beside

Points = Sequence[tuple[float, float]]


class PanelLike(Protocol):
    """What is plotted of a panel."""

    @property
    def title(self) -> str: ...
    @property
    def x(self) -> str: ...
    @property
    def y(self) -> str: ...
    @property
    def ours(self) -> Mapping[str, Points]: ...
    @property
    def paper(self) -> Mapping[str, Points]: ...
    @property
    def simulated(self) -> Mapping[str, Points]: ...
    @property
    def source(self) -> str: ...
    @property
    def labels(self) -> Sequence[str]: ...
    @property
    def log_y(self) -> bool: ...


def write_reproduction_plot(title: str, panels: Sequence[PanelLike], path: Path) -> None:
    """A PNG. What has one name has one colour: dots and lines are ours, crosses are published, squares
    were simulated beside what is live."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4 * len(panels), 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        names = list(dict.fromkeys([*panel.ours, *panel.simulated, *panel.paper]))
        colour = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
        for name, points in panel.ours.items():
            few, line = len(points) <= 40, "none" if panel.labels else "-"
            label = f"{name}, {panel.source}" if panel.paper else name
            axes.plot(*_columns(points), ls=line, marker="o" if few else None, ms=5, color=colour[name], label=label)
        for name, points in panel.simulated.items():
            look = {"marker": "s", "ms": 8, "mfc": "none", "color": colour[name]}
            axes.plot(*_columns(points), ls="--", label=f"{name}, simulated", **look)
        for name, points in panel.paper.items():
            line, label = "none" if panel.labels else ":", name if name == "published" else f"{name}, published"
            axes.plot(*_columns(points), ls=line, marker="x", ms=7, color=colour[name], label=label)
        if panel.labels:
            axes.set_xticks(range(len(panel.labels)), panel.labels)
            axes.set_xlim(-0.5, len(panel.labels) - 0.5)
            axes.set_ylim(bottom=0)
        if panel.log_y:
            axes.set_yscale("log")
        axes.set_title(panel.title)
        axes.set_xlabel(panel.x)
        axes.set_ylabel(panel.y)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        labels = axes.get_legend_handles_labels()[1]
        beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)} if len(labels) > WITHIN else {}
        axes.legend(frameon=False, fontsize="small", **beside)
    figure.savefig(path, dpi=130)


def _columns(points: Points) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
