"""The plan of a VM that a service plays: when it is there with how many cores, life after life, round after round.

A JSON file: what the VM is, its `lives` (fallow.traces.vms.Life, in order; their ids are not used), and `repeat_s`, the
length of a round after which the plan starts over, where it does. Where `lives` is not given the VM is there all the
time with `cores`; with an empty list it never is. Times are the trace's, in seconds from the start of the service.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fallow.infra.tasks import FatalError
from fallow.traces.vms import Life
from harvest_agent.sources import Cue

# What a plan may say of its VM: settings of its agent, which the environment overrides.
VM_KEYS = ("vm_id", "kind", "cores", "memory_mb", "speed", "price", "core_scale")
_KEYS = (*VM_KEYS, "lives", "repeat_s")
_EVICTED = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """One life of the VM, as the service plays it."""

    join_s: float  # on the plan's clock
    cores: float
    cues: Iterable[Cue]  # in real seconds after the joining; without end where the VM never goes


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`steps` are (seconds, cores) of one round in time order, 0 cores an eviction; `repeat_s` None = one round."""

    steps: tuple[tuple[float, float], ...]
    repeat_s: float | None = None

    def next_stay(self, t_s: float, *, speedup: float, notice_s: float) -> Stay | None:
        """The VM's first life at or after `t_s`; one that has begun by then is joined in its middle.

        None where the VM does not come back. A life that a round leaves without an end goes on with what the next
        round begins with. `notice_s` is real time; an end nearer than that is announced at once.
        """
        join = self._join(t_s)
        if join is None:
            return None
        join_s, cores = join
        later = self._events(join_s)
        cues = _cues(later, join_s, speedup) if not self._ends() else _announced(later, join_s, speedup, notice_s)
        return Stay(join_s=join_s, cores=cores, cues=cues)

    def _join(self, t_s: float) -> tuple[float, float] | None:
        """When the VM joins and with what cores: at once where it is there at `t_s`."""
        cores = _EVICTED
        for at_s, then in self._from_round_before(t_s):
            if at_s <= t_s:
                cores = then
            elif cores > 0:
                break
            elif then > 0:
                return at_s, then
        return (t_s, cores) if cores > 0 else None

    def _events(self, after_s: float) -> Iterator[tuple[float, float]]:
        return ((at_s, cores) for at_s, cores in self._from_round_before(after_s) if at_s > after_s)

    def _from_round_before(self, t_s: float) -> Iterator[tuple[float, float]]:
        """The steps of the round of `t_s`, of the one before (it says with what this one begins) and of all later."""
        if self.repeat_s is None:
            yield from self.steps
            return
        for number in itertools.count(max(0, int(t_s // self.repeat_s) - 1)):
            yield from ((number * self.repeat_s + at_s, cores) for at_s, cores in self.steps)

    def _ends(self) -> bool:
        return any(cores == _EVICTED for _, cores in self.steps)


def _cues(later: Iterator[tuple[float, float]], join_s: float, speedup: float) -> Iterator[Cue]:
    return (Cue(at_s=(at_s - join_s) / speedup, cores=cores) for at_s, cores in later)


def _announced(later: Iterator[tuple[float, float]], join_s: float, speedup: float, notice_s: float) -> list[Cue]:
    cues = []
    for at_s, cores in later:
        after_s = (at_s - join_s) / speedup
        if cores == _EVICTED:
            cues.append(Cue(at_s=max(0.0, after_s - notice_s), evict_at_s=after_s))
            break
        cues.append(Cue(at_s=after_s, cores=cores))
    return sorted(cues, key=lambda c: c.at_s)


def steps_of(lives: Iterable[Life], repeat_s: float | None) -> tuple[tuple[float, float], ...]:
    """Raises ValueError where lives overlap, or do not end in their round."""
    steps: list[tuple[float, float]] = []
    free_s: float | None = 0.0
    for life in lives:
        if free_s is None or life.join_s < free_s:
            raise ValueError(f"the life that joins at {life.join_s:g} s begins before the one ahead of it ends")
        steps += [(life.join_s + at_s, cores) for at_s, cores in life.steps]
        free_s = None if life.end_s is None else life.join_s + life.end_s
        if free_s is not None:
            steps.append((free_s, _EVICTED))
    if repeat_s is not None and steps and steps[-1][0] > repeat_s:
        raise ValueError(f"repeat_s is {repeat_s:g}; the plan's last step is at {steps[-1][0]:g} s")
    if repeat_s is not None and free_s is None and steps[0][0] > 0:
        steps.append((repeat_s, _EVICTED))  # the next round begins without it
    return tuple(steps)


def read_plan(path: Path) -> tuple[dict[str, Any], Plan | None]:
    """What the file says of its VM (settings), and its plan, None = there all the time.

    Raises FatalError naming the file and the key.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return _parse(raw)
    except (OSError, ValueError, RecursionError) as e:
        raise FatalError(f"lives={str(path)!r} is not the plan of a VM: {e}") from None


def _parse(raw: Any) -> tuple[dict[str, Any], Plan | None]:
    if not isinstance(raw, Mapping):
        raise ValueError("it must be an object")
    if unknown := sorted(set(raw) - set(_KEYS)):
        raise ValueError(f"unknown key {unknown[0]!r}; known are {', '.join(_KEYS)}")
    repeat_s = raw.get("repeat_s")
    number = isinstance(repeat_s, int | float) and not isinstance(repeat_s, bool)
    if repeat_s is not None and not (number and math.isfinite(repeat_s) and repeat_s > 0):
        raise ValueError(f"repeat_s is {repeat_s!r}; it must be a number above 0, or null")
    lives = raw.get("lives")
    if lives is not None and not isinstance(lives, list):
        raise ValueError("lives must be a list")
    steps = steps_of([Life.from_json(life) for life in lives or ()], repeat_s)
    vm = {key: raw[key] for key in VM_KEYS if raw.get(key) is not None}
    return vm, None if lives is None else Plan(steps=steps, repeat_s=repeat_s if steps else None)
