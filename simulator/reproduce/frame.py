"""What every reproduced figure is made of: claims, curves, and the points of a sweep they rest on.

A claim counts as a trend or a ratio between policies: who wins, by how much, where the knee is. The seconds and rates
of another machine are shown beside ours, and are no claim.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulator.sweep import Point, sweep
from simulator.workloads import mean_cpu_s

Curve = Sequence[tuple[float, float]]
LIMIT_S = 50.0  # P99 latency up to which a rate counts as carried: the published criterion
GIVE_UP_S = 2 * LIMIT_S  # by Little's law calls take longer than that on average: the rate is not carried
LOST_SHARE = 0.01  # of calls refused or not ended, above which a rate is not carried whatever the latency of the others

# The mix's functions burn some 30 ms a call here, the published ones seconds. The rates are those of calls so much
# larger that 0.7 of the cluster's 180 cores (what MWS gives to calls) would be busy at 24 calls/s, its published
# highest rate. It is a unit for the rate axis, chosen before any result: ratios do not depend on it, but how small a
# cold start is beside a call does.
PUBLISHED_HIGHEST_PER_S, GIVEN_SHARE, NORMAL_CORES = 24.0, 0.7, 180.0
CPU_S_A_CALL = GIVEN_SHARE * NORMAL_CORES / PUBLISHED_HIGHEST_PER_S


def work() -> float:
    """How many times larger than measured the calls of the mix are."""
    return CPU_S_A_CALL / mean_cpu_s()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One published statement, and ours beside it. `paper` and `ours` are None where there is no number."""

    name: str
    claim: str
    paper: float | None
    ours: float | None
    tolerance: str
    holds: bool | None  # None = a figure that is shown, and no claim
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        return {field: getattr(self, field) for field in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One plot: curves by name, ours and published ones."""

    title: str
    x: str
    y: str
    ours: dict[str, Curve]
    paper: dict[str, Curve] = field(default_factory=dict)
    simulated: dict[str, Curve] = field(default_factory=dict)  # beside ours where those are live
    source: str = "ours"  # what ours are called
    labels: Sequence[str] = ()  # what x = 0, 1, ... are, where x is no number
    log_y: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A reproduced figure."""

    name: str
    title: str
    claims: Sequence[Claim]
    panels: Sequence[Panel] = ()
    conditions: Sequence[str] = ()  # sentences: how it was made
    table: Sequence[Sequence[str]] = ()  # figures that are no claim; the first row is its head


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What figures are made with. `tell` hears of every point that has ended."""

    quick: bool = False
    seed: int = 1
    workers: int | None = None
    python: str | None = None  # the interpreter that simulates; None = this one
    policies: tuple[str, ...] = ()  # beside those that were published
    invocations: Path | None = None  # of the user's own, for the figure "own"
    vm_traces: Path | None = None
    start_s: float = 0.0
    duration_s: float = 1200.0
    tell: Callable[[str], None] = lambda text: None

    def sweep(self, points: Sequence[Point]) -> list[dict[str, Any]]:
        """The figures of the points, in their order."""
        done = 0

        def one(index: int) -> None:
            nonlocal done
            done += 1
            self.tell(f"{done} of {len(points)} points")

        return sweep(points, one, workers=self.workers, python=self.python)


def within(name: str, claim: str, paper: float, ours: float | None, share: float, note: str = "") -> Claim:
    """Ours is within so large a share of the published value."""
    holds = ours is not None and abs(ours - paper) <= share * abs(paper)
    return Claim(name=name, claim=claim, paper=paper, ours=ours, tolerance=f"{share:.0%}", holds=holds, note=note)


def shown(name: str, claim: str, ours: float | None, *, paper: float | None = None, note: str = "") -> Claim:
    """A figure beside the published one: of another machine, so it claims nothing."""
    return Claim(name=name, claim=claim, paper=paper, ours=ours, tolerance="shown", holds=None, note=note)


def order(name: str, claim: str, values: Sequence[float], *, paper: float | None = None, note: str = "") -> Claim:
    """The values fall; `ours` is the first over the last."""
    holds = all(a > b for a, b in itertools.pairwise(values))
    ours = values[0] / values[-1] if values[-1] else None
    return Claim(name=name, claim=claim, paper=paper, ours=ours, tolerance="order", holds=holds, note=note)


def carried(summary: dict[str, Any]) -> bool:
    """Whether the cluster carried the rate: P99 within the limit, and hardly a call lost."""
    p99_ms = summary["latency_ms"]["p99"]
    lost = (summary["refused"] + summary["lost"] + summary["failed"]) / max(1, summary["invocations"])
    return p99_ms is not None and p99_ms <= LIMIT_S * 1e3 and lost <= LOST_SHARE


def highest_rate(rates: Sequence[float], summaries: Sequence[dict[str, Any]]) -> float:
    """The highest rate that was carried: between the last point that was and the next, where P99 crosses the limit."""
    best = 0.0
    for i, (rate, summary) in enumerate(zip(rates, summaries, strict=True)):
        if not carried(summary):
            if i == 0:
                return 0.0
            before, after = summaries[i - 1]["latency_ms"]["p99"], summary["latency_ms"]["p99"]
            if after is None or after <= LIMIT_S * 1e3:  # it lost calls: nothing to interpolate by
                return best
            share = float((LIMIT_S * 1e3 - before) / (after - before))
            return best + share * (rate - best)
        best = rate
    return best
