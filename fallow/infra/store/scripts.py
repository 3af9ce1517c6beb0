"""The Lua scripts of `lua/`. Each is one atomic step of the store; its head names its KEYS and ARGV."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    source: bytes
    sha: str  # the name EVALSHA knows it by


def _load(name: str) -> Script:
    source = files("fallow.infra.store").joinpath("lua", f"{name}.lua").read_bytes()
    return Script(source=source, sha=hashlib.sha1(source, usedforsecurity=False).hexdigest())


ACCEPT = _load("accept")
ANNOUNCE = _load("announce")
BEHIND = _load("behind")
CLAIM = _load("claim")
CLAIM_ALARMS = _load("claim_alarms")
DELETE_ACTION = _load("delete_action")
DELETE_ENTITY = _load("delete_entity")
FENCE = _load("fence")
HOLD = _load("hold")
LIST_ACTIONS = _load("list_actions")
LIST_RECORDS = _load("list_records")
LIVE_CONTROLLERS = _load("live_controllers")
NOTE_SEEN = _load("note_seen")
PUT_ACTION = _load("put_action")
PUT_ENTITY = _load("put_entity")
RECORDS = _load("records")
RELEASE = _load("release")
REMOVE_CONSUMER = _load("remove_consumer")
RENEW_LEASE = _load("renew_lease")
TRIM = _load("trim")
WRITE_ALARM = _load("write_alarm")

ALL = (
    ACCEPT,
    ANNOUNCE,
    BEHIND,
    CLAIM,
    CLAIM_ALARMS,
    DELETE_ACTION,
    DELETE_ENTITY,
    FENCE,
    HOLD,
    LIST_ACTIONS,
    LIST_RECORDS,
    LIVE_CONTROLLERS,
    NOTE_SEEN,
    PUT_ACTION,
    PUT_ENTITY,
    RECORDS,
    RELEASE,
    REMOVE_CONSUMER,
    RENEW_LEASE,
    TRIM,
    WRITE_ALARM,
)
