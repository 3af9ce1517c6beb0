"""Where a VM's cores and notices come from. A new source is one class with these two methods."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from fallow.infra import clock
from fallow.traces.vms import Life
from harvest_agent.emulator import TRACE, EmulatedVm


class Source(Protocol):
    def first_cores(self) -> float:
        """The VM's cores when it joins."""
        ...

    async def drive(self, vm: EmulatedVm) -> None:
        """Does to the VM what happens to it; returns when nothing more will."""
        ...


class StaticSource:
    """Always the same cores; only an operator changes or evicts such a VM."""

    def __init__(self, cores: float) -> None:
        self._cores = cores

    def first_cores(self) -> float:
        return self._cores

    async def drive(self, vm: EmulatedVm) -> None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """Something the trace says, in real seconds after the joining."""

    at_s: float
    cores: float | None = None  # the VM has so many from now on
    evict_at_s: float | None = None  # the eviction announced here


def script(life: Life, *, speedup: float, notice_s: float) -> list[Cue]:
    """The cues of a life in time order. An end nearer than the notice is announced at once."""
    cues = [Cue(at_s=t_s / speedup, cores=cores) for t_s, cores in life.steps]
    if life.end_s is not None:
        end_s = life.end_s / speedup
        cues.append(Cue(at_s=max(0.0, end_s - notice_s), evict_at_s=end_s))
    return sorted(cues, key=lambda c: c.at_s)


class CuePlayer:
    """Does what cues say, each at its time after the start or as soon after as may be."""

    def __init__(self, first_cores: float, cues: Iterable[Cue], *, go: asyncio.Event | None = None) -> None:
        """`go` starts the play (None = at once): until it is set the VM stands at its first cores."""
        self._first_cores = first_cores
        self._cues = cues
        self._go = go

    def first_cores(self) -> float:
        return self._first_cores

    async def drive(self, vm: EmulatedVm) -> None:
        if self._go is not None:
            await self._go.wait()
        start_mono_s = clock.mono_s()
        for cue in self._cues:
            await asyncio.sleep(max(0.0, start_mono_s + cue.at_s - clock.mono_s()))
            if cue.cores is not None:
                vm.resize(cue.cores, by=TRACE)
            if cue.evict_at_s is not None:
                vm.evict(max(0.0, start_mono_s + cue.evict_at_s - clock.mono_s()), by=TRACE)


class TracePlayer(CuePlayer):
    """Plays one life, `speedup` times as fast as its trace; `notice_s` is real time."""

    def __init__(self, life: Life, *, speedup: float, notice_s: float, go: asyncio.Event) -> None:
        super().__init__(life.steps[0][1], script(life, speedup=speedup, notice_s=notice_s), go=go)
