"""What policy and strategy learn from calls."""

from __future__ import annotations

from fallow.core.calls import Call
from fallow.core.eviction import Strategy
from fallow.core.model import Status
from fallow.core.policies.base import Policy, Sample

SHORTEST_RUN_S = 1e-6  # a clock may measure a run as zero


def learn_from(call: Call, *, policy: Policy, strategy: Strategy, now_s: float) -> None:
    """Of a call that was answered and leaves its VM: what it used, and how long it took."""
    outcome, spec = call.outcome, call.activation.action
    if outcome is None or outcome.status is Status.WHISK_ERROR:
        return  # the platform's failure says nothing of the function
    wall_s = max(SHORTEST_RUN_S, (outcome.init_s or 0.0) + outcome.run_s)
    # Where CPU time cannot be measured the estimate that was booked stands: it neither rises nor falls.
    cpu_cores = call.booked_cpu if outcome.cpu_s is None else outcome.cpu_s / wall_s
    sample = Sample(cpu_cores=cpu_cores, exec_s=max(SHORTEST_RUN_S, outcome.run_s), total_s=now_s - call.arrived_s)
    policy.completed(spec.key, sample, now_s)
    strategy.observe(spec.app_key, wall_s)
