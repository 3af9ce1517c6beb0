"""The resource monitor of the platform, and the cloud it orders VMs from: simulated, they boot after a while.

A new VM is one drawn from the published distributions; its cores, changes and eviction are whatever was drawn. An order
is a target, as for the live provider: of those alive or starting there are to be so many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from fallow.core.cluster.bookings import VmStatus
from fallow.core.lifecycle import VmState
from fallow.core.model import VmId, VmKind
from fallow.core.monitor import MonitorState, OrderVms
from simulator import clusters
from simulator.clock import VirtualClock
from simulator.model import Monitoring, SimVm

STEP_S = 1.0  # as the live monitor's


class Provider:
    """Asks `MonitorState` once a second and carries out its orders; `join` takes a VM that has booted."""

    def __init__(
        self,
        monitoring: Monitoring,
        clock: VirtualClock,
        *,
        seed: int,
        window_s: float,
        vms: Callable[[], Sequence[VmStatus]],
        join: Callable[[SimVm], None],
    ) -> None:
        self._monitoring = monitoring
        self._clock = clock
        self._seed = seed
        self._window_s = window_s
        self._vms = vms
        self._join = join
        self._starting = 0
        self._state = MonitorState(
            target_cores=monitoring.target_cores,
            period_s=monitoring.period_s,
            has_provider=True,
            boot_s=monitoring.boot_s,
        )
        self.ordered: list[SimVm] = []
        clock.after(STEP_S, self._step)

    def _step(self) -> None:
        harvest = [s for s in self._vms() if s.info.kind is VmKind.HARVEST and s.state is not VmState.LOST]
        live = [(s.info.id, s.report.capacity.cpu_cores) for s in harvest if s.state is VmState.UP]
        leaving = sum(1 for s in harvest if s.state is VmState.DRAINING)
        decision = self._state.decide(self._clock.now_s, live, leaving=leaving)
        if isinstance(decision, OrderVms):
            for _ in range(decision.target - len(harvest) - self._starting):
                self._start()
        self._clock.after(STEP_S, self._step)

    def _start(self) -> None:
        drawn = self._drawn(len(self.ordered) + 1, self._clock.now_s + self._monitoring.boot_s)
        self.ordered.append(drawn)
        self._starting += 1
        self._clock.at(drawn.life.join_s, self._booted, drawn)

    def _booted(self, vm: SimVm) -> None:
        self._starting -= 1
        self._join(vm)

    def _drawn(self, number: int, join_s: float) -> SimVm:
        """The same one for the same seed and number, whatever the policy."""
        dice = self._seed * 1_000_003 + number
        first = clusters.generated(vms=1, seed=dice, window_s=self._window_s)[0]
        return replace(first, life=replace(first.life, vm_id=VmId(f"o{number}"), join_s=join_s))
