"""Figures 1, 2, 3 and 6: what Harvest VMs and invocations are like, and the generated ones held against it."""

from __future__ import annotations

from fallow.traces.generated.calibration import Calibration, Curve, Row, calibrate
from simulator.paper import curve
from simulator.reproduce.frame import Claim, Context, Made, Panel

TITLES = {
    "fig1": ("figure 1", "lifetime of Harvest VMs"),
    "fig2": ("figure 2", "time between changes of their cores"),
    "fig3": ("figure 3", "size of such changes"),
    "fig6": ("figure 6", "duration of invocations"),
}
_made: dict[int, Calibration] = {}


def make(name: str, context: Context) -> Made:
    """One of TITLES."""
    basis, title = TITLES[name]
    if context.seed not in _made:
        _made[context.seed] = calibrate(context.seed)
    calibration = _made[context.seed]
    return Made(
        name=name,
        title=f"Figure {name[3:]}: {title}",
        claims=[_claim(name, row) for row in calibration.rows if row.basis == basis],
        panels=[_panel(name, found) for found in calibration.curves if found.basis == basis],
        conditions=("the generated traces, drawn by seed; `fallow calibrate` shows all that was published of them",),
    )


def _claim(name: str, row: Row) -> Claim:
    unit = f" {row.unit}" if row.unit else ""
    return Claim(
        name=name,
        claim=f"{row.name} {row.quantile}{unit}".replace("  ", " "),
        paper=row.published,
        ours=row.ours,
        tolerance=f"{row.tolerance:.0%}" if row.rule == "within" else row.rule,
        holds=row.holds,
    )


_POINTS = {
    "fig1": ("fig1_harvest_vm_lifetime_s", 86_400.0),
    "fig2": ("fig2_harvest_cpu_change_interval_s", 1.0),
    "fig6": ("fig6_fsmall_invocation_duration_s", 1.0),
}


def _panel(name: str, found: Curve) -> Panel:
    published = found.published
    if name in _POINTS:
        file, unit_s = _POINTS[name]
        published = tuple((pct / 100, value / unit_s) for pct, value in curve(file, "percentile", "value_seconds"))
    return Panel(
        title=found.name,
        x="share below",
        y=found.unit,
        ours={"generated": found.ours},
        paper={"published": published},
        log_y=name != "fig3",
    )
