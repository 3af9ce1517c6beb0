"""What outlives a process: keys, actions, records, the stream of accepted calls, leases. The only user of Redis."""

from fallow.infra.store.errors import (
    CodeMissing,
    Conflict,
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
    "CodeMissing",
    "Conflict",
    "FenceVerdict",
    "SchemaMismatch",
    "Store",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "StreamFull",
    "Usage",
    "WriteVerdict",
]
