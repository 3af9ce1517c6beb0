"""The diary of a VM: JSON lines of what happened to it, read by the report of a run."""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path

from fallow.infra import clock


class Happened(StrEnum):
    JOINED = "joined"
    CORES = "cores"
    NOTICE = "notice"  # an eviction was announced or moved; `notice_s` says how far off it is
    WITHDRAWN = "withdrawn"
    EVICTED = "evicted"  # the deadline: the VM falls silent
    GONE = "gone"  # nothing of it is left
    INVOKER_RESTARTED = "invoker_restarted"


class EventLog:
    """Appends to one file that all VMs of a machine may share: each line is one write to an O_APPEND descriptor.

    An empty path keeps no diary.
    """

    def __init__(self, path: str, *, vm_id: str, kind: str) -> None:
        self._vm_id = vm_id
        self._kind = kind
        self._fd: int | None = None
        if path:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def write(self, event: Happened, **details: float | str | None) -> None:
        if self._fd is None:
            return
        line = {"t_unix_ms": clock.unix_ms(), "vm": self._vm_id, "kind": self._kind, "event": event.value, **details}
        os.write(self._fd, json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
