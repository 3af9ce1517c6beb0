"""What outlives a process: keys, actions, records, the stream of accepted calls, leases. The only user of Redis."""

from fallow.infra.store.alarms import StoredAlarm
from fallow.infra.store.entities import Change
from fallow.infra.store.errors import (
    CodeMissing,
    Conflict,
    NotEmpty,
    PackageMissing,
    SchemaMismatch,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from fallow.infra.store.store import Store
from fallow.infra.store.values import Accepted, AlreadyRecorded, FenceVerdict, StreamFull, Usage, WriteVerdict

__all__ = [
    "Accepted",
    "AlreadyRecorded",
    "Change",
    "CodeMissing",
    "Conflict",
    "FenceVerdict",
    "NotEmpty",
    "PackageMissing",
    "SchemaMismatch",
    "Store",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "StoredAlarm",
    "StreamFull",
    "Usage",
    "WriteVerdict",
]
