"""Harvest VM traces: how many cores each VM had, and when.

One text file per VM, lines `seconds cores`. A trace is cut into *lives*: a line with 0 cores is an eviction, and a
later positive line is another VM with another id, as a cloud would show it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fallow.core.model import VmId
from fallow.core.names import natural_key
from fallow.traces.errors import TraceError as TraceError  # re-exported: what the readers here raise

_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True, kw_only=True)
class VmTrace:
    """One file: `steps` are (seconds, cores) in time order; 0 cores means that there is no VM from then on."""

    name: str
    steps: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One life of one VM, in trace seconds.

    `steps` are relative to `join_s`; the first is at 0 and no step has 0 cores. `end_s`, relative as well, is the
    eviction; None = it outlives the trace with its last cores.
    """

    vm_id: VmId
    join_s: float
    steps: tuple[tuple[float, float], ...]
    end_s: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {"vm_id": self.vm_id, "join_s": self.join_s, "steps": [list(s) for s in self.steps], "end_s": self.end_s}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Life:
        """Raises ValueError on anything that `to_json` could not have made."""
        try:
            life = cls(
                vm_id=VmId(str(raw["vm_id"])),
                join_s=float(raw["join_s"]),
                steps=tuple((float(t), float(c)) for t, c in raw["steps"]),
                end_s=None if raw.get("end_s") is None else float(raw["end_s"]),
            )
        except (KeyError, TypeError, ValueError) as e:
            raise ValueError(f"not a VM's life: {e!r}") from None
        life.check()
        return life

    def without_end(self) -> Life:
        """The same life, not evicted: its last cores stay."""
        return replace(self, end_s=None)

    def core_seconds(self, span_s: float) -> float:
        """The sum of its cores over the first `span_s` seconds of the trace (not of the life)."""
        stop_s = min(math.inf if self.end_s is None else self.end_s, span_s - self.join_s)
        until = [*(t_s for t_s, _ in self.steps[1:]), math.inf]
        return sum(
            cores * max(0.0, min(stop_s, next_s) - t_s) for (t_s, cores), next_s in zip(self.steps, until, strict=True)
        )

    def check(self) -> None:
        """Raises ValueError where the steps contradict what the class promises."""
        times = [t for t, _ in self.steps]
        numbers = [self.join_s, *times, *(c for _, c in self.steps), *([] if self.end_s is None else [self.end_s])]
        if not times or times[0] != 0.0 or times != sorted(times):
            raise ValueError(f"life of {self.vm_id}: steps must start at 0 and go forwards")
        if not all(math.isfinite(x) and x >= 0 for x in numbers) or any(c <= 0 for _, c in self.steps):
            raise ValueError(f"life of {self.vm_id}: times must be at least 0 and cores above 0")
        if self.end_s is not None and self.end_s < times[-1]:
            raise ValueError(f"life of {self.vm_id}: it ends at {self.end_s} s, before its last step")


def read_vm_traces(path: Path) -> list[VmTrace]:
    """Every `*.txt` of a directory (or one file), in natural order of names: 2 before 10.

    Raises TraceError; also where the directory holds no trace.
    """
    if path.is_file():
        return [read_vm_trace(path)]
    if not path.is_dir():
        raise TraceError(f"{path}: no such file or directory")
    files = sorted(path.glob("*.txt"), key=lambda f: natural_key(f.stem))
    if not files:
        raise TraceError(f"{path}: holds no *.txt file (one text file per VM, lines `seconds cores`)")
    return [read_vm_trace(f) for f in files]


def read_vm_trace(path: Path) -> VmTrace:
    """One VM's file. Raises TraceError naming line and column (both from 1)."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise TraceError(f"{path}: cannot be read as text: {e}") from None
    steps: list[tuple[float, float]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = list(_WORD.finditer(line))
        if not words:
            continue
        where = f"{path}:{number}"
        if len(words) == 1:
            raise TraceError(f"{where}:{len(line) + 1}: the line ends after {words[0][0]!r}: cores are missing")
        if len(words) > 2:
            raise TraceError(f"{where}:{words[2].start() + 1}: {words[2][0]!r} is one value too many (`seconds cores`)")
        t_s, cores = (_number(w, where) for w in words)
        if steps and t_s < steps[-1][0]:
            at = words[0].start() + 1
            raise TraceError(f"{where}:{at}: time goes backwards, from {steps[-1][0]:g} to {t_s:g} s")
        if steps and t_s == steps[-1][0]:
            steps.pop()  # of two lines of one moment the later one says what is so from then on
        steps.append((t_s, cores))
    if not steps:
        raise TraceError(f"{path}:1:1: the file is empty (lines `seconds cores` expected)")
    return VmTrace(name=path.stem, steps=tuple(steps))


def lives(trace: VmTrace, *, vm_id: str | None = None) -> list[Life]:
    """The lives of a trace in order; the second one of h3 is h3.2, then h3.3. Empty where it never has a core.

    `vm_id` replaces the trace's own name.
    """
    name = trace.name if vm_id is None else vm_id
    found: list[Life] = []
    current: list[tuple[float, float]] = []
    for t_s, cores in trace.steps:
        if cores > 0:
            current.append((t_s, cores))
        elif current:
            found.append(_life(name, len(found) + 1, current, end_s=t_s))
            current = []
    if current:
        found.append(_life(name, len(found) + 1, current, end_s=None))
    return found


def _life(name: str, number: int, steps: Sequence[tuple[float, float]], *, end_s: float | None) -> Life:
    join_s = steps[0][0]
    return Life(
        vm_id=VmId(name if number == 1 else f"{name}.{number}"),
        join_s=join_s,
        steps=tuple((t_s - join_s, cores) for t_s, cores in steps),
        end_s=None if end_s is None else end_s - join_s,
    )


def _number(word: re.Match[str], where: str) -> float:
    at = f"{where}:{word.start() + 1}"
    try:
        value = float(word[0])
    except ValueError:
        raise TraceError(f"{at}: {word[0]!r} is not a number") from None
    if not math.isfinite(value):
        raise TraceError(f"{at}: {word[0]!r} is not a finite number")
    if value < 0:
        raise TraceError(f"{at}: {word[0]} is negative")
    return value
