"""From the agents' diary to the life of each VM within a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fallow.core.model import VmKind

OPERATOR = "operator"  # `by` of what an operator, and so a run that injects evictions, asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """An announced eviction; an announcement that moves another is one of its own. Seconds since the run began."""

    at_s: float
    until_s: float  # the deadline, or when it was withdrawn or moved
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VmLife:
    """One VM during a run. Moments are seconds since the run began, from 0 to the run's end."""

    vm: str
    kind: VmKind
    steps: tuple[tuple[float, float], ...]  # (since when, cores), in order; the first is its start or the run's
    end_s: float  # evicted, gone, or the run's end
    evicted: bool
    evicted_by: str  # "" unless evicted
    notices: tuple[Notice, ...]

    @property
    def injected(self) -> bool:
        return self.evicted and self.evicted_by == OPERATOR

    def pieces(self) -> list[tuple[float, float, float]]:
        """(from_s, to_s, cores) without gaps; pieces of no length are left out."""
        ends = [*(t for t, _ in self.steps[1:]), self.end_s]
        return [
            (t, min(end, self.end_s), cores)
            for (t, cores), end in zip(self.steps, ends, strict=True)
            if min(end, self.end_s) > t
        ]

    @property
    def core_s(self) -> float:
        return sum((to - since) * cores for since, to, cores in self.pieces())


@dataclass(slots=True)
class _Open:
    kind: VmKind
    steps: list[tuple[float, float]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    end_s: float | None = None
    evicted_by: str | None = None

    def cores(self, t_s: float, cores: float) -> None:
        if self.steps and self.steps[-1][0] == t_s:
            self.steps.pop()
        self.steps.append((t_s, cores))

    def end_notice(self, t_s: float) -> None:
        if self.notices and self.notices[-1].until_s > t_s:
            self.notices[-1] = replace(self.notices[-1], until_s=t_s)


def vm_lives(events: Iterable[Mapping[str, Any]], *, began_unix_ms: int, ended_unix_ms: int) -> list[VmLife]:
    """The lives that overlap the run, in order of joining. `events` must be in order of time.

    Raises ValueError for a line that is no event. A VM that falls silent at its eviction counts no further.
    """
    span_s = (ended_unix_ms - began_unix_ms) / 1e3
    open_lives: dict[str, _Open] = {}
    for event in events:
        try:
            t_s = (event["t_unix_ms"] - began_unix_ms) / 1e3
            life = open_lives.setdefault(event["vm"], _Open(VmKind(event["kind"])))
            _apply(life, event, t_s)
        except KeyError as e:
            raise ValueError(f"VM event {dict(event)!r} lacks {e}") from None
    lives = [_clipped(vm, life, span_s) for vm, life in open_lives.items()]
    return [life for life in lives if life is not None]


def _apply(life: _Open, event: Mapping[str, Any], t_s: float) -> None:
    match event["event"]:
        case "joined" | "cores":
            life.cores(t_s, float(event["cores"]))
        case "notice":
            life.end_notice(t_s)
            life.notices.append(Notice(at_s=t_s, until_s=t_s + float(event["notice_s"]), by=event["by"]))
        case "withdrawn":
            life.end_notice(t_s)
        case "evicted":
            life.end_s, life.evicted_by = t_s, event["by"]
        case "gone" if life.end_s is None:
            life.end_s = t_s
        case _:  # an invoker that restarted: the VM has the cores it had
            pass


def _clipped(vm: str, life: _Open, span_s: float) -> VmLife | None:
    end_s = span_s if life.end_s is None else min(life.end_s, span_s)
    if not life.steps or end_s <= 0 or life.steps[0][0] >= span_s:
        return None
    within = [(max(0.0, t), cores) for t, cores in life.steps if t < end_s]
    before = [step for step in within if step[0] == 0.0]
    evicted = life.evicted_by is not None and life.end_s is not None and life.end_s <= span_s
    return VmLife(
        vm=vm,
        kind=life.kind,
        steps=tuple(before[-1:] + [step for step in within if step[0] > 0.0]),
        end_s=end_s,
        evicted=evicted,
        evicted_by=(life.evicted_by or "") if evicted else "",
        notices=tuple(n for n in life.notices if 0 <= n.at_s <= span_s),
    )
