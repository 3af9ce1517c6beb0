"""What a wrong policy did, in the log: every fault once, not once a call."""

from __future__ import annotations

from fallow.core.policies.guarded import WrongPolicyError
from fallow.infra.log import get_logger

KEPT = 100  # different faults that are told; a policy that has more of them has been told of enough

_log = get_logger("controller")


class PolicyFaults:
    """Called with each. Its call goes elsewhere, and `fallow why` tells the same of every single one."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def __call__(self, fault: WrongPolicyError) -> None:
        text = str(fault)
        if text not in self._told and len(self._told) < KEPT:
            self._told.add(text)
            _log.error("a policy broke its contract", fault=text)
