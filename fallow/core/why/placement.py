"""What a placement chose, from what, and what was passed over: kept for the call's story."""

from __future__ import annotations

from typing import NamedTuple

from fallow.core.eviction import KindChoice
from fallow.core.model import Considered, Decision, VmId, VmInfo, VmKind
from fallow.core.value import value


@value(frozen=True, slots=True, kw_only=True)
class PassedOver:
    """A VM that a placement could not even look at."""

    vm_id: VmId
    kind: VmKind
    why: str  # a clause: "is draining"


class Placement(NamedTuple):
    """The VM a call goes to, and why that one. A tuple, made for every call: it refers to what is there already."""

    info: VmInfo
    cores: float  # the VM's, as last reported
    decision: Decision
    reason: str  # the policy's, after the kinds that had no VM that fits
    considered: tuple[Considered, ...]  # of all kinds that were asked, in that order
    choices: tuple[KindChoice, ...]  # the strategy's; a kind that is missing is forbidden
    asked: tuple[VmKind, ...]  # of those, the kinds that had a usable VM and were looked at
    long: bool  # the strategy takes its calls to outlast a notice
    passed_over: tuple[PassedOver, ...] = ()
