"""`fallow reproduce fig13 --live`: cold starts over the request rate, live, beside simulated and published points.

Rates and compression are what two real cores carry. At 5 calls/s, 15 times faster, JSQ keeps 1.3 of them busy: 75
calls and 37 cold starts a second, and 0.5 cores of the functions' own. At 9.7, the next published rate that JSQ and
MWS share, both kept two cores busy all the time and sent late: the figure would be one of the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from fallow.report.words import LATE_MS
from fallow_cli.live_point import STRETCH_S, LivePoint, Setting, Side, run_point
from fallow_cli.machine import real_cores
from simulator.clusters import NORMAL
from simulator.paper import curve
from simulator.reproduce.frame import Claim, Context, Curve, Made, Panel, order
from simulator.reproduce.load import COLD, DURATION_S, POLICIES, QUICK_DURATION_S

NAME = "fig13_live"
RATES, QUICK_RATES = (1.0, 2.5, 5.0), (5.0,)
SPEEDUP = 15.0  # the 20 published minutes in 80 s
CORE_SCALE = 0.02  # 7 ms of real CPU a call: below half of it what a start costs would weigh as much as the call
# Live and simulated are given the same calls; what tells them apart is the order of what happens within milliseconds,
# and the CPU that runtimes and throttled VMs take beside the calls. Two standard errors of a share of 40 % among 1,200
# calls, the fewest of a point, are 2.8 points; the largest difference seen while this was made, 3.4.
TOLERANCE_POINTS = 5.0
SAME_SIMULATED = "it does not hold simulated either, with the same compression"
BUSY_SHARE = 0.9  # of this machine's cores, from which on the machine counts as the limit
FULL_SHARE = 0.95  # ... for STRETCH_S alone: a mean hides that it was full for a while


def live_fig13(context: Context) -> Made:
    """Runs every point, one after the other, rate by rate. Raises CliError where one cannot be had."""
    began_s = time.monotonic()
    window_s = QUICK_DURATION_S if context.quick else DURATION_S
    policies = dict.fromkeys((*POLICIES, *context.policies))
    settings = [
        Setting(
            policy=policy, rate_per_s=rate, window_s=window_s, speedup=SPEEDUP, core_scale=CORE_SCALE, seed=context.seed
        )
        for rate in (QUICK_RATES if context.quick else RATES)
        for policy in policies
    ]
    points: list[LivePoint] = []
    for number, setting in enumerate(settings, 1):
        context.tell(f"point {number} of {len(settings)}: {setting.policy} at {setting.rate_per_s:g}/s")
        points.append(run_point(setting))
    return made(points, window_s=window_s, took_s=time.monotonic() - began_s, cores=real_cores())


def made(points: Sequence[LivePoint], *, window_s: float, took_s: float, cores: int) -> Made:
    """The figure of these points; `cores` are this machine's."""
    cold, p99 = _published("fig13_cold_start_pct", "cold_pct"), _published("fig12_p99_latency_s", "p99_s")
    return Made(
        name=NAME,
        title="Figure 13, live: cold starts over the request rate, cluster Normal",
        claims=_claims(points, cold, cores, short=window_s < DURATION_S),
        panels=[
            _panel("cold starts", "%", points, _cold_pct, cold),
            _panel("P99 latency", "s", points, lambda side: side.p99_s, p99),
        ],
        conditions=_conditions(points, window_s, took_s, cores),
        table=_table(points, cold),
    )


def _published(name: str, column: str) -> dict[str, dict[float, float]]:
    """Of every policy that was published: rate -> value."""
    found = {policy: dict(curve(name, "rate_per_s", column, policy=policy)) for policy in ("mws", "jsq", "hash")}
    return {policy: values for policy, values in found.items() if values}


def _cold_pct(side: Side) -> float:
    return 100 * side.cold_share


def _claims(
    points: Sequence[LivePoint], published: dict[str, dict[float, float]], cores: int, *, short: bool
) -> list[Claim]:
    """At each rate JSQ over MWS, as was published; at each point live as simulated."""
    live = {(point.policy, point.rate_per_s): point for point in points}
    claims: list[Claim] = []
    for rate in dict.fromkeys(point.rate_per_s for point in points):
        pair = live["jsq", rate], live["mws", rate]
        claim = order(
            NAME,
            f"live cold starts at {rate:g}/s: JSQ over MWS",
            [point.live.cold_share for point in pair],
            paper=published["jsq"][rate] / published["mws"][rate],
        )
        simulated = order(NAME, "", [point.simulated.cold_share for point in pair])
        if not claim.holds and not simulated.holds:
            claim = replace(claim, note=SAME_SIMULATED)
        claims.append(_limited(claim, pair, cores))
    for point in points:
        ours, simulated_pct = _cold_pct(point.live), _cold_pct(point.simulated)
        claim = Claim(
            name=NAME,
            claim=f"live cold starts of {point.policy} at {point.rate_per_s:g}/s, %",
            paper=published.get(point.policy, {}).get(point.rate_per_s),
            ours=ours,
            tolerance=f"{TOLERANCE_POINTS:g} of {simulated_pct:.1f} simulated",
            holds=abs(ours - simulated_pct) <= TOLERANCE_POINTS,
            note=COLD if short else "",
        )
        claims.append(_limited(claim, (point,), cores))
    return claims


def _limited(claim: Claim, points: Sequence[LivePoint], cores: int) -> Claim:
    """With a note where the machine, not the policy, may have made the figure."""
    told = [
        f"this machine was the limit ({point.policy}: {point.busy_cores:.2f} of {cores} cores busy, "
        f"{point.busiest_cores:.2f} for {STRETCH_S:g} s, calls sent {point.late_ms:.0f} ms late)"
        for point in points
        if point.late_ms > LATE_MS
        or point.busy_cores >= BUSY_SHARE * cores
        or point.busiest_cores >= FULL_SHARE * cores
    ]
    told += [
        f"{point.live.unended} of {point.calls} calls of {point.policy} did not end well"
        for point in points
        if point.live.unended
    ]
    return replace(claim, note="; ".join([*told, *([claim.note] if claim.note else [])]))


def _panel(
    title: str,
    unit: str,
    points: Sequence[LivePoint],
    value: Callable[[Side], float],
    published: dict[str, dict[float, float]],
) -> Panel:
    """The published points are those of the rates that were run."""
    policies = dict.fromkeys(point.policy for point in points)
    rates = {point.rate_per_s for point in points}

    def points_of(policy: str, side: Callable[[LivePoint], Side]) -> Curve:
        return [(point.rate_per_s, value(side(point))) for point in points if point.policy == policy]

    return Panel(
        title=title,
        x="calls/s",
        y=unit,
        ours={policy: points_of(policy, lambda point: point.live) for policy in policies},
        simulated={policy: points_of(policy, lambda point: point.simulated) for policy in policies},
        paper={
            policy: [(rate, y) for rate, y in values.items() if rate in rates] for policy, values in published.items()
        },
        source="live",
    )


def _table(points: Sequence[LivePoint], published: dict[str, dict[float, float]]) -> list[tuple[str, ...]]:
    head = "CALLS/S", "POLICY", "COLD % LIVE", "SIMULATED", "PUBLISHED", "P99 S LIVE", "SIMULATED", "CORES", "LATE MS"
    rows: list[tuple[str, ...]] = [head]
    for point in points:
        told = published.get(point.policy, {}).get(point.rate_per_s)
        rows.append(
            (
                f"{point.rate_per_s:g}",
                point.policy,
                f"{_cold_pct(point.live):.1f}",
                f"{_cold_pct(point.simulated):.1f}",
                "-" if told is None else f"{told:g}",
                f"{point.live.p99_s:.1f}",
                f"{point.simulated.p99_s:.1f}",
                f"{point.busy_cores:.2f}",
                f"{point.late_ms:.1f}",
            )
        )
    return rows


def _conditions(points: Sequence[LivePoint], window_s: float, took_s: float, cores: int) -> list[str]:
    sizes = ", ".join(str(count) for count in NORMAL)
    lines = [
        f"the evaluation's mix of 401 functions, Poisson arrivals, {window_s / 60:g} min a point, all cold at first: "
        f"{sum(point.calls for point in points):,} calls, the same of every policy",
        f"time: {SPEEDUP:g} x faster, a point is sent in {window_s / SPEEDUP:g} s; the {len(points)} points took "
        f"{took_s / 60:.1f} min with the starts and stops of their clusters",
        f"cores: ten VMs of {sizes}; core scale {CORE_SCALE:g}: 1 emulated core = {CORE_SCALE:g} real cores, all "
        f"together {CORE_SCALE * sum(NORMAL):g}",
        "calls burn CPU on the spot, containers are processes; P99 is in seconds of the figure: measured, times "
        f"{SPEEDUP:g}",
        "not compressed: reports of VMs once a second, and the 10 and 60 s over which MWS counts a function's calls",
        "simulated: the same calls, VMs and compression; CORES are those busy on this machine "
        f"(it has {cores}), LATE MS how late calls were sent at P95",
    ]
    if unenforced := next((point.cpu_note for point in points if point.cpu_note), ""):
        lines.append(f"CPU is not enforced: {unenforced}")
    return lines
