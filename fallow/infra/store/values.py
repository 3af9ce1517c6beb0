"""Answers of the store that are no documents."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fallow.infra.records import Record


class WriteVerdict(StrEnum):
    """What became of one record.

    After WRITTEN or EXISTS the activation has its final record; after FENCED it is another attempt's to write.
    """

    WRITTEN = "written"
    EXISTS = "exists"  # also the answer to a repeated write of one's own
    FENCED = "fenced"


class FenceVerdict(StrEnum):
    RAISED = "raised"
    RECORDED = "recorded"  # a final record exists: it is the answer
    SUPERSEDED = "superseded"  # another controller raised the fence: the call is its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The call stands in the stream."""

    entry_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlreadyRecorded:
    """The call needs no entry: it has ended."""

    record: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFull:
    """The stream is at its bound in entries or bytes: the call was not accepted."""

    entries: int
    entry_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the bounds are measured against. `record_bytes` counts RECORD_OVERHEAD_BYTES with each record."""

    records: int
    record_bytes: int
    entries: int
    entry_bytes: int
