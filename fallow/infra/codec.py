"""Messages as bytes: the only place that knows msgpack.

A frame is a msgpack array of messages, a message is `[tag, field, field, ...]` in declaration order. Tags are part of
the wire format: they are never reused. Reading is tolerant where versions differ (an unknown tag is skipped, trailing
fields it does not know are ignored, missing ones take their defaults) and strict where nothing explains a difference:
a field of another type is a CodecError, so a broken peer is noticed here and not deep inside a state machine.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgpack

from fallow.core.attempt_waits import AttemptWaits
from fallow.core.model import ActionSpec
from fallow.infra.messages import (
    Cancel,
    CommandDone,
    Completed,
    Hello,
    Message,
    Recorded,
    Rejected,
    Report,
    Result,
    Returned,
    Run,
    VmCommand,
    Welcome,
)

MAX_FRAME_BYTES = 64 << 20
_MAX_ITEMS = 1 << 17  # of one list in a frame; a longer one is an attack or a bug: msgpack allocates by this number
_CACHED_ACTION_BYTES = (
    16 << 10
)  # larger specs (big init parameters) are not cached, so 2 x 2048 entries stay below 64 MiB

_TAGS: dict[int, type] = {
    1: Hello,
    2: Report,
    3: Returned,
    4: Result,
    5: Completed,
    6: Recorded,
    7: CommandDone,
    32: Welcome,
    33: Rejected,
    34: Run,
    35: Cancel,
    36: VmCommand,
}


class CodecError(ValueError):
    """Bytes that are no message of ours, or a value that has no bytes. The text is short and safe to log."""


# A lone surrogate can reach us in a header or in JSON text; it must come out as it went in instead of failing here.
_packer = msgpack.Packer(use_bin_type=True, unicode_errors="surrogatepass")


def pack(value: object) -> bytes:
    """Plain values (None, bool, int of 64 bits, float, str, bytes, list, tuple, dict with str keys) as bytes.

    Tuples come back as lists. Raises CodecError on anything else, also on integers beyond 64 bits.
    """
    try:
        return typing.cast(bytes, _packer.pack(value))
    except (TypeError, ValueError, OverflowError) as e:
        raise CodecError(f"cannot encode: {e}") from None


def unpack(data: bytes) -> Any:
    """What `pack` made. Raises CodecError."""
    try:
        return msgpack.unpackb(data, unicode_errors="surrogatepass")
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as e:
        raise CodecError(f"cannot decode: {_why(e)}") from None


def encode_one(message: Message) -> bytes:
    """One message, to be joined into a frame by `join`. Raises CodecError if a value does not fit the wire."""
    tag, codec = _BY_CLASS[type(message)]
    try:
        return typing.cast(bytes, _message_packer.pack((tag, *codec.fields_of(message))))
    except (TypeError, ValueError, OverflowError) as e:
        raise CodecError(f"cannot encode {type(message).__name__}: {e}") from None


def join(parts: Sequence[bytes]) -> bytes:
    """One frame of what `encode_one` made, in order."""
    return typing.cast(bytes, _packer.pack_array_header(len(parts))) + b"".join(parts)


def encode(messages: Sequence[Message]) -> bytes:
    """One frame."""
    return join([encode_one(m) for m in messages])


def decode(frame: bytes) -> list[Message]:
    """The messages of a frame, in order. Raises CodecError; then none of the frame may be used."""
    if len(frame) > MAX_FRAME_BYTES:
        raise CodecError(f"not a frame: {len(frame)} bytes, at most {MAX_FRAME_BYTES} are allowed")
    try:
        items = msgpack.unpackb(
            frame,
            unicode_errors="surrogatepass",
            max_array_len=_MAX_ITEMS,
            max_map_len=_MAX_ITEMS,
            strict_map_key=False,  # no message of ours has a map; whatever a newer one has must not fail here
        )
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as e:
        raise CodecError(f"not a frame: {_why(e)}") from None
    if type(items) is not list:
        raise CodecError(f"not a frame: {type(items).__name__} instead of a list of messages")
    messages: list[Message] = []
    for item in items:
        if type(item) is not list or not item or type(item[0]) is not int:
            raise CodecError("not a message: no [tag, field, ...]")
        codec = _BY_TAG.get(item[0])
        if codec is not None:
            messages.append(codec.build(item[1:]))
    return messages


def encode_action(spec: ActionSpec) -> bytes:
    """An action for Run.action. Cached: the thousandth call of an action costs one hash."""
    if spec.init_env and sum(len(k) + len(v) for k, v in spec.init_env) > _CACHED_ACTION_BYTES:
        return _encode_action(spec)
    return _encode_action_cached(spec)


def decode_action(data: bytes) -> ActionSpec:
    """What `encode_action` made; equal bytes give the same object while it is cached. Raises CodecError."""
    if len(data) > _CACHED_ACTION_BYTES:
        return _decode_action(data)
    return _decode_action_cached(data)


def encode_waits(waits: AttemptWaits | None) -> bytes:
    """For `waits` of Result, Returned and Record; None is no bytes."""
    return b"" if waits is None else pack(_WAITS.fields_of(waits))


def decode_waits(data: bytes) -> AttemptWaits | None:
    """What `encode_waits` made, by this version or another. Raises CodecError."""
    if not data:
        return None
    values = unpack(data)
    if type(values) is not list:
        raise CodecError("not the waits of an attempt: no list of fields")
    return typing.cast(AttemptWaits, _WAITS.build(values))


def _encode_action(spec: ActionSpec) -> bytes:
    return pack(_ACTION.fields_of(spec))


def _decode_action(data: bytes) -> ActionSpec:
    values = unpack(data)
    if type(values) is not list:
        raise CodecError("not an action: no list of fields")
    return typing.cast(ActionSpec, _ACTION.build(values))


_encode_action_cached = lru_cache(maxsize=2048)(_encode_action)
_decode_action_cached = lru_cache(maxsize=2048)(_decode_action)


def _why(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:120]


# ---- a dataclass as a list ------------------------------------------------------------------------------------------

_Convert = Callable[
    [Any], Any
]  # checks a value that msgpack gave, and makes it what the field holds; raises CodecError


class _Codec:
    """Turns instances of one dataclass into lists of their fields, and back.

    The common case is fast: the tuple of the values' types was seen before and found good, and no field needs more
    than to be stored. Everything else goes through the converters, one per field. Instances are filled through their
    slots, which takes half the time of the frozen class's own __init__ and is the same as long as there is no
    __post_init__.
    """

    def __init__(self, cls: type) -> None:
        fields = dataclasses.fields(cls)
        hints = typing.get_type_hints(cls)
        defaults = [f.default for f in fields]
        self._required = sum(d is dataclasses.MISSING for d in defaults)
        if hasattr(cls, "__post_init__") or dataclasses.MISSING in defaults[self._required :]:
            raise TypeError(f"{cls.__name__}: needs fields without a default first, and no __post_init__")
        self._cls = cls
        self._names = tuple(f.name for f in fields)
        self._defaults = defaults
        self._setters = tuple(getattr(cls, name).__set__ for name in self._names)
        self._converters = tuple(_converter(hints[f.name]) for f in fields)
        self._plain = all(_is_scalar(hints[f.name]) for f in fields)
        self._known_good: set[tuple[type, ...]] = set()  # finite: it holds only type rows that the converters passed
        self.fields_of = _fields_getter(self._names)

    def build(self, values: list[Any]) -> Any:
        if len(values) > len(self._names):
            values = values[: len(self._names)]
        shape = tuple(map(type, values))
        if shape not in self._known_good:
            values = self._convert(values)
            if self._plain:
                self._known_good.add(shape)
        if len(values) < len(self._names):
            values = values + self._defaults[len(values) :]
        instance: Any = object.__new__(self._cls)
        for setter, value in zip(self._setters, values, strict=True):
            setter(instance, value)
        return instance

    def _convert(self, values: list[Any]) -> list[Any]:
        name = self._cls.__name__
        if len(values) < self._required:
            raise CodecError(f"{name}: {len(values)} fields, at least {self._required} are needed")
        converted = []
        for field, convert, value in zip(self._names, self._converters, values, strict=False):
            try:
                converted.append(convert(value))
            except CodecError as e:
                raise CodecError(f"{name}.{field}: {e}") from None
        return converted


def _fields_getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    getter = attrgetter(*names)
    if len(names) == 1:  # attrgetter of one name gives the bare value
        return lambda instance: (getter(instance),)
    return getter


def _is_scalar(hint: Any) -> bool:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return all(_is_scalar(h) for h in typing.get_args(hint))
    return hint in (bool, int, float, str, bytes, type(None))


def _converter(hint: Any) -> _Convert:
    """The reader for a field's type. Raises TypeError, at import, for a type the wire has no form for."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if _is_scalar(hint):
        return _scalar(args if origin is not None else (hint,))
    if origin is list:
        return _sequence(_converter(args[0]), list)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return _sequence(_converter(args[0]), tuple)
    if origin is tuple:
        return _row(tuple(map(_converter, args)))
    if dataclasses.is_dataclass(hint):
        return _nested(_Codec(typing.cast(type, hint)))
    raise TypeError(f"no wire form for a field of type {hint}")


def _scalar(allowed: tuple[type, ...]) -> _Convert:
    accepted = {*allowed, int} if float in allowed else set(allowed)  # a float may have been set to a whole number

    def convert(value: Any) -> Any:
        if type(value) not in accepted:
            raise CodecError(f"{type(value).__name__} instead of {' or '.join(t.__name__ for t in allowed)}")
        return value

    return convert


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise CodecError(f"{type(value).__name__} instead of a list")
    return value


def _sequence(convert: _Convert, into: Callable[[Iterable[Any]], Any]) -> _Convert:
    return lambda value: into(convert(v) for v in _list(value))


def _row(converters: tuple[_Convert, ...]) -> _Convert:
    def convert(value: Any) -> tuple[Any, ...]:
        if len(_list(value)) != len(converters):
            raise CodecError(f"{len(value)} values instead of {len(converters)}")
        return tuple(c(v) for c, v in zip(converters, value, strict=True))

    return convert


def _nested(codec: _Codec) -> _Convert:
    return lambda value: codec.build(_list(value))


_BY_TAG = {tag: _Codec(cls) for tag, cls in _TAGS.items()}
_BY_CLASS = {_TAGS[tag]: (tag, codec) for tag, codec in _BY_TAG.items()}
_ACTION = _Codec(ActionSpec)
_WAITS = _Codec(AttemptWaits)


def _inner(value: object) -> tuple[Any, ...]:
    """msgpack asks here for what it does not know: a dataclass inside a message (the Report of a Hello)."""
    found = _BY_CLASS.get(type(value))
    if found is None:
        raise TypeError(f"{type(value).__name__} has no wire form")
    return found[1].fields_of(value)


_message_packer = msgpack.Packer(use_bin_type=True, unicode_errors="surrogatepass", default=_inner)
