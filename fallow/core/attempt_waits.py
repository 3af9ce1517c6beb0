"""What a VM measured of one attempt beside its outcome: what it waited for there, and what became of the VM's cores."""

from __future__ import annotations

from fallow.core.value import value


@value(frozen=True, slots=True, kw_only=True)
class AttemptWaits:
    """Seconds in the VM's queue by cause, the start of its container, and the cores while it was there.

    The five waits exclude each other; what `Outcome.wait_s` has beyond their sum was hand-over inside the VM. An
    attempt that waited for nothing on a VM whose cores did not change has none of this (None where it would stand).
    Fields are appended only, with a default: these are sent and stored.
    """

    cpu_s: float = 0.0  # the VM's CPU was busy
    memory_s: float = 0.0  # there was no memory for another container
    starts_s: float = 0.0  # as many containers as may start at once were starting
    shrink_s: float = 0.0  # with the most cores the VM had since the attempt came it would have been let in
    start_s: float = 0.0  # for its container to start
    cores_first: float = 0.0  # when the attempt came; 0, like the next three, = the cores did not change
    cores_most: float = 0.0
    cores_least: float = 0.0
    cores_last: float = 0.0  # when it ended
    shrunk_run_s: float = 0.0  # of init and run: with fewer cores than the VM had had at most
    # How long in that time the VM's CPU quota held processes of the VM back, summed over the CPUs it held them back on;
    # None = not measured, for the reason below, or not asked since the VM did not shrink.
    throttled_s: float | None = None
    throttled_note: str = ""

    @property
    def cores_changed(self) -> bool:
        return self.cores_most > 0
