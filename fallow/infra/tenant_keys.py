"""Keys of tenants: made at random, and the two that everybody knows."""

from __future__ import annotations

import secrets
import string
import uuid

# Both stand in OpenWhisk's repository (ansible/files), in tutorials and in what clients are tested with.
OPENWHISK_GUEST = (
    "23bc46b1-71f6-4ed5-8c54-816aa4f8c502:123zO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP"
)
OPENWHISK_SYSTEM = (
    "789c46b1-71f6-4ed5-8c54-816aa4f8c502:abczO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP"
)
WELL_KNOWN = (
    "This key stands in OpenWhisk's public repository, so everybody has it. Use another one; "
    "only a cluster that is started with --openwhisk-guest-key takes it."
)
_LETTERS = string.ascii_letters + string.digits
_SECRETS = frozenset(key.partition(":")[2] for key in (OPENWHISK_GUEST, OPENWHISK_SYSTEM))


def new_key() -> str:
    """A random key of OpenWhisk's form: uuid:64 letters and digits."""
    return f"{uuid.uuid4()}:{''.join(secrets.choice(_LETTERS) for _ in range(64))}"


def is_well_known(key: str) -> bool:
    """Whether this key, or the secret of one, is public."""
    return key.rpartition(":")[2] in _SECRETS
