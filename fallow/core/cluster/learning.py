"""What policy and strategy are told of the calls that left their VMs."""

from __future__ import annotations

from fallow.core.cluster.bookings import Call
from fallow.core.eviction import Strategy
from fallow.core.model import Status
from fallow.core.policies.base import Policy, Sample

SHORTEST_RUN_S = 1e-6  # a clock may measure a run as zero


class Learner:
    """Turns calls into samples of CPU and time for the policy, and into durations for the strategy."""

    def __init__(self, *, policy: Policy, strategy: Strategy) -> None:
        self._policy = policy
        self._strategy = strategy

    def completed(self, call: Call, now_s: float) -> None:
        """An answered call is over. Without an outcome, or where the platform failed, it tells nothing."""
        outcome, spec = call.outcome, call.activation.action
        if outcome is None or outcome.status is Status.WHISK_ERROR:
            return
        wall_s = max(SHORTEST_RUN_S, (outcome.init_s or 0.0) + outcome.run_s)
        # Where CPU time cannot be measured the estimate that was booked stands: it neither rises nor falls.
        cpu_cores = call.booked_cpu if outcome.cpu_s is None else outcome.cpu_s / wall_s
        sample = Sample(cpu_cores=cpu_cores, exec_s=max(SHORTEST_RUN_S, outcome.run_s), total_s=now_s - call.arrived_s)
        self._policy.completed(spec.key, sample, now_s)
        self._strategy.observe(spec.app_key, wall_s)

    def evicted(self, call: Call, now_s: float) -> None:
        """An eviction cut the call off.

        What runs to the end of its VM was there before the notice, so the time since its dispatch is about the time it
        ran: more only by what it queued in the VM before.
        """
        self._strategy.observe_cut_off(call.activation.action.app_key, now_s - call.dispatched_s)
