"""The raw data of one run, live or simulated: what was replayed, on what, and how each call ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fallow.core.model import Status


class Ending(StrEnum):
    """What the client knows of a call in the end."""

    RECORDED = "recorded"  # there is a final record
    REFUSED = "refused"  # an answer other than 200, 202 and a record: 429, 503, 404, ...
    UNANSWERED = "unanswered"  # the connection failed before any answer
    LOST = "lost"  # taken by the server, and no final record when the drain was over


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One call as its client saw it. Moments are seconds since the replay began.

    What a record says (`wait_ms` to `vm_kind`) is empty unless `ending` is RECORDED.
    """

    function: int  # index into the plan's functions
    action: str
    intended_s: float  # when it was due
    sent_s: float  # when it was sent
    answered_s: float | None  # when its end was known; up to one poll late for a call answered by 202
    ending: Ending
    activation_id: str = ""
    http_status: int = 0  # of the answer to the invocation; 0 = none
    status: Status | None = None
    wait_ms: float | None = None  # from acceptance to the start of the run, container start included
    init_ms: float | None = None  # None = warm
    run_ms: float | None = None
    cpu_ms: float | None = None  # in the VM's (emulated) cores, of the attempt that ended the call; None = not measured
    attempt: int = 0
    prewarmed: bool = False
    evicted: bool = False  # cut off by an eviction, and not to be retried
    polled: bool = False  # answered by 202 first
    vm: str = ""
    vm_kind: str = ""
    error: str = ""  # why there is no success, in few words

    @property
    def succeeded(self) -> bool:
        return self.ending is Ending.RECORDED and self.status is Status.SUCCESS

    @property
    def lost(self) -> bool:
        return self.ending is Ending.LOST

    @property
    def failed(self) -> bool:
        """Ended, known, and not a success."""
        return not self.succeeded and not self.lost

    @property
    def cold(self) -> bool:
        return self.init_ms is not None

    @property
    def latency_ms(self) -> float | None:
        """From the moment the call was due to its final record; None where there is none."""
        if self.ending is not Ending.RECORDED or self.answered_s is None:
            return None
        return (self.answered_s - self.intended_s) * 1e3


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHeader:
    """How the run was made. Times are real seconds, cores the VMs' own (emulated) ones."""

    policy: str
    strategy: str
    seed: int
    speedup: float  # divides gaps, durations, CPU demands, notices, keep-alive
    vm_speedup: float | None  # divides when cores change and VMs come and go; None = as the cluster has it
    core_scale: float  # real cores per emulated core
    discount: str  # a name in fallow.report.price.DISCOUNTS
    duration_s: float  # of sending
    notice_s: float | None  # None = as the cluster has it
    invocation_source: str
    vm_source: str
    actions: int
    offered_cores: float
    available_cores: float
    thinned_calls: int
    cut_calls: int
    rules: tuple[str, ...]
    cpu_enforced: bool
    cpu_note: str = ""
    retries: bool = True  # False: every action was deployed as not idempotent
    runtime: str = "process"  # what containers were: process | docker
    history: bool = False  # True: every action was deployed as long or short, as the strategy would have learned
    benchmarks: Mapping[str, str] = field(default_factory=dict)  # action -> the benchmark function it is


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """Everything a report is made of."""

    header: RunHeader
    calls: tuple[CallRecord, ...]
    vm_events: tuple[Mapping[str, Any], ...]  # the agents' diary, in order of time
    counters: Mapping[str, Any]  # a controller's GET /admin/v1/status at the end
    injected: int  # evictions asked for by the run itself
    began_unix_ms: int  # the zero of CallRecord's moments, to within the time it takes to start
    ended_unix_ms: int
