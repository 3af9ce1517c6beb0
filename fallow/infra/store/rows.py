"""Documents as rows: the values of a dataclass's fields in declaration order.

Fields are only ever appended, with a default: an older row takes the defaults, a newer one's extra values are ignored.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from fallow.core.alarms import Alarm
from fallow.core.model import ActionSpec
from fallow.infra.codec import CodecError, decode_action, encode_action, pack, unpack
from fallow.infra.records import ActionDoc, ControllerLease, PackageDoc, Record, RuleDoc, StreamEntry, TriggerDoc
from fallow.infra.store.errors import StoreError

T = TypeVar("T")
_Convert = Callable[[Any], Any]


class RowFormat(Generic[T]):
    """How one dataclass is kept. `apart`: fields kept elsewhere. `through`: (to, from) the kept form of a field."""

    def __init__(
        self, cls: type[T], *, apart: Sequence[str] = (), through: dict[str, tuple[_Convert, _Convert]] | None = None
    ) -> None:
        self._cls = cls
        self._names = tuple(f.name for f in dataclasses.fields(cls) if f.name not in apart)  # type: ignore[arg-type]
        self._through = through or {}

    def to_bytes(self, value: T) -> bytes:
        """Raises CodecError for values that cannot be kept."""
        row = [getattr(value, name) for name in self._names]
        for name, (keep, _) in self._through.items():
            i = self._names.index(name)
            row[i] = keep(row[i])
        return pack(row)

    def from_bytes(self, data: bytes, key: str, **apart: Any) -> T:
        """The document, with the fields kept elsewhere given in `apart`. Raises StoreError that names `key`."""
        try:
            values = dict(zip(self._names, unpack(data), strict=False))
            for name, (_, restore) in self._through.items():
                if name in values:
                    values[name] = restore(values[name])
            return self._cls(**values, **apart)
        except (CodecError, TypeError, ValueError) as e:
            raise StoreError(f"the value of {key} is not a {self._cls.__name__}: {e}") from e


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


# Parameters are any JSON: integers beyond 64 bits and nesting that the codec bounds pass as text.
_AS_JSON = (_json, json.loads)


def _decode_action(data: Any) -> ActionSpec:
    if not isinstance(data, bytes):
        raise TypeError("its action is not bytes")
    return decode_action(data)


ACTIONS = RowFormat(ActionDoc, through={"parameters": _AS_JSON, "annotations": _AS_JSON})
PACKAGES = RowFormat(PackageDoc, through={"parameters": _AS_JSON, "annotations": _AS_JSON})
TRIGGERS = RowFormat(TriggerDoc, through={"parameters": _AS_JSON, "annotations": _AS_JSON, "rules": _AS_JSON})
RULES = RowFormat(RuleDoc, through={"annotations": _AS_JSON})
RECORDS = RowFormat(Record, apart=("result", "logs"))
ENTRIES = RowFormat(StreamEntry, apart=("entry_id", "attempts"), through={"action": (encode_action, _decode_action)})
LEASES = RowFormat(ControllerLease)
ALARMS = RowFormat(Alarm, through={"payload": _AS_JSON, "shown": _AS_JSON})
