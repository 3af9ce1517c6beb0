"""Plots of reproduced figures: ours as lines, the published points beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from fallow.report.simulation_plot import COLOURS

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
    def log_x(self) -> bool: ...
    @property
    def log_y(self) -> bool: ...


def write_reproduction_plot(title: str, panels: Sequence[PanelLike], path: Path) -> None:
    """A PNG. Curves of one name have one colour: a line is ours, crosses are published."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4 * len(panels), 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        names = list(dict.fromkeys([*panel.ours, *panel.paper]))
        colour = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
        for name, points in panel.ours.items():
            few = len(points) <= 40
            axes.plot(*_columns(points), marker="o" if few else None, ms=4, color=colour[name], label=f"{name}, ours")
        for name, points in panel.paper.items():
            axes.plot(*_columns(points), ls=":", marker="x", color=colour[name], label=f"{name}, published")
        if panel.log_x:
            axes.set_xscale("log")
        if panel.log_y:
            axes.set_yscale("log")
        axes.set_title(panel.title)
        axes.set_xlabel(panel.x)
        axes.set_ylabel(panel.y)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=130)


def _columns(points: Points) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
