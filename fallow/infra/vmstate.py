"""What a harvest agent says of its VM, on a local unix socket, as JSON.

`GET /v1/state` answers one VmState; `GET /v1/changes` streams one a line: the present one first, then one at each
change and at each second's sample. `POST /v1/resize {"cores": c}`, `/v1/evict {"notice_s": n}`, `/v1/withdraw` and
`/v1/play` are answered 204, or 409 {"error": ...} by an agent whose VM is not emulated.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class VmState:
    vm_id: str
    kind: str  # fallow.core.model.VmKind
    cores: float  # the VM's cores now; emulated ones where the VM is emulated
    memory_mb: float
    cpu_used: float  # cores in use over the last second by the VM's containers, in the VM's cores
    memory_used_mb: float
    notice_left_s: float | None = None  # time to the announced eviction, in real seconds
    emulated: bool = False
    cpu_enforced: bool = False
    cpu_note: str = ""  # why CPU is not enforced
    core_scale: float = 1.0  # real cores per core of the VM

    def to_json(self) -> bytes:
        return json.dumps(dataclasses.asdict(self), separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, text: bytes | str) -> VmState:
        """Unknown fields are ignored. Raises ValueError on anything that is not such an object."""
        try:
            raw: Any = json.loads(text)
            known = {f.name for f in dataclasses.fields(cls)}
            return cls(**{k: v for k, v in raw.items() if k in known})
        except (TypeError, AttributeError, json.JSONDecodeError) as e:
            raise ValueError(f"not a VM state: {e}") from None
