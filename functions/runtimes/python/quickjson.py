"""JSON without the json package, whose regular expressions double a container's start (measured: 15 of 33 ms).

The C scanner and encoder under it are the ones json itself uses (tried on Python 3.11). On an interpreter that has
none, or of another form, the json package does the same work.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def refuse_type(value: object) -> Any:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


class _ScannerSettings:
    """What the C scanner reads from a json.JSONDecoder."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(refuse_constant)
    memo: dict[str, str] = {}  # noqa: RUF012 - the Python version of the scanner would use it


def make_c_codec() -> tuple[Callable[[str], Any], Callable[[Any], str]]:
    """(decode, encode). Raises ImportError where the interpreter has no C scanner and encoder of this form."""
    import _json

    try:
        scan = _json.make_scanner(_ScannerSettings)  # type: ignore[arg-type]  # it reads attributes of any object
        # markers (finds circles), default, string encoder, indent, two separators, sort_keys, skipkeys, allow_nan
        _json.make_encoder({}, refuse_type, _json.encode_basestring, None, ":", ",", False, False, False)
    except (AttributeError, TypeError) as error:
        raise ImportError(str(error)) from error

    def decode(text: str) -> Any:
        text = text.strip(" \t\n\r")
        try:
            value, end = scan(text, 0)
        except (StopIteration, SystemError):
            # Not JSON. The scanner takes JSONDecodeError from json.decoder only if that is imported, and raises
            # SystemError where it is not; the json package says what is wrong, and where.
            return make_json_codec()[0](text)
        if end != len(text):
            raise ValueError(f"something follows the value at character {end}")
        return value

    def encode(value: Any) -> str:
        encoder = _json.make_encoder({}, refuse_type, _json.encode_basestring, None, ":", ",", False, False, False)
        return "".join(encoder(value, 0))

    return decode, encode


def make_json_codec() -> tuple[Callable[[str], Any], Callable[[Any], str]]:
    """The same by the json package."""
    import json

    encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return json.JSONDecoder(parse_constant=refuse_constant).decode, encoder.encode


try:
    loads, dumps = make_c_codec()
except ImportError:
    loads, dumps = make_json_codec()
