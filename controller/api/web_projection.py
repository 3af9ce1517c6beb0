"""From an action's result to an HTTP answer, by the extension of the address.

`.http` is the whole answer, `{statusCode?, headers?, body?}`; the others are one content type each.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from controller.api.errors import ApiError
from controller.api.web_context import JSON_TYPE, is_binary, is_json

HTTP_TYPE = "message/http"
DEFAULT_TYPE = "text/html; charset=UTF-8"
NO_PROPERTY = "Response does not include requested property."
UNKNOWN_TYPE = "Response did not specify a known content-type."
OTHER_TYPE = "Response type in header did not match generated content type."
# The connection's own, and what the server works out itself.
_DROPPED = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer", "content-length", "proxy-connection"}
)
_NAME = re.compile(r"\A[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_VALUE = re.compile(r"\A[\t\x20-\x7e\x80-\ud7ff\ue000-\uffff]*\Z")
_MEDIA_TYPE = re.compile(r"\A\s*[\w!#$&^.+-]+/[\w!#$&^.+-]+\s*(;[\t\x20-\x7e]*)?\Z", re.ASCII)
_CODE = re.compile(r"\A[0-9]{3}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """An answer: `headers` may name one several times; `content_type` None = there is no body."""

    status: int
    body: bytes = b""
    content_type: str | None = None
    headers: Sequence[tuple[str, str]] = ()


def not_valid(media_type: str) -> ApiError:
    return ApiError(400, f"Response is not valid '{media_type}'.")


def as_http(result: Any) -> Projection:
    """Raises ApiError 400 for what is no answer."""
    if not isinstance(result, dict):
        raise not_valid(HTTP_TYPE)
    headers = _headers(result.get("headers"))
    given_type = next((value for name, value in headers if name.lower() == "content-type"), None)
    headers = [(name, value) for name, value in headers if name.lower() != "content-type"]
    code, body = _code(result.get("statusCode")), result.get("body")
    if body is None or body == "":
        return Projection(status=code or 204, headers=headers)
    if given_type is not None and not _MEDIA_TYPE.match(given_type):
        raise ApiError(400, UNKNOWN_TYPE)
    media_type = (given_type or "").partition(";")[0].strip().lower()
    if isinstance(body, str):
        content = _content(body, media_type)
        content_type = given_type or DEFAULT_TYPE
    else:
        if given_type is not None and not is_json(media_type):
            raise ApiError(400, OTHER_TYPE)
        content, content_type = pretty(body), given_type or JSON_TYPE
    return Projection(status=code or 200, body=content, content_type=content_type, headers=headers)


def _content(body: str, media_type: str) -> bytes:
    """The bytes of a string: those of binary types are base64; JSON may be, as it once had to."""
    if media_type and (is_binary(media_type) or is_json(media_type)):
        try:
            return base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError):
            if is_binary(media_type):
                raise not_valid(HTTP_TYPE) from None
    return _bytes(body)


def _code(value: Any) -> int | None:
    """Any code that an answer may have; None where none is given."""
    if value is None:
        return None
    text = value.strip() if isinstance(value, str) else ""
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        text = str(int(value))
    if not _CODE.match(text) or not 200 <= int(text) <= 599:
        raise not_valid(HTTP_TYPE)
    return int(text)


def _headers(value: Any) -> list[tuple[str, str]]:
    if value is None:
        return []
    if not isinstance(value, dict):
        raise not_valid(HTTP_TYPE)
    found: list[tuple[str, str]] = []
    for name, given in value.items():
        if not _NAME.match(name):
            raise not_valid(HTTP_TYPE)
        if name.lower() in _DROPPED:
            continue
        found += [(name, _header(one)) for one in (given if isinstance(given, list) else [given])]
    return found


def _header(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if not isinstance(value, str | int | float) or not _VALUE.match(text):
        raise not_valid(HTTP_TYPE)
    return text


def as_json(result: Any) -> Projection:
    """An object or array, whole."""
    if not isinstance(result, dict | list):
        raise not_valid(JSON_TYPE)
    return Projection(status=200, body=pretty(result), content_type=JSON_TYPE)


def as_html(result: Any) -> Projection:
    return _string(result, "text/html", DEFAULT_TYPE)


def as_svg(result: Any) -> Projection:
    return _string(result, "image/svg+xml", "image/svg+xml")


def _string(result: Any, media_type: str, content_type: str) -> Projection:
    if not isinstance(result, str):
        raise not_valid(media_type)
    return Projection(status=200, body=_bytes(result), content_type=content_type)


def as_text(result: Any) -> Projection:
    """Strings as they are, everything else as JSON is written."""
    body = _bytes(result) if isinstance(result, str) else pretty(result)
    return Projection(status=200, body=body, content_type="text/plain; charset=UTF-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """How results are shown under one. `properties`: the first that a result has is what is shown; () = all of it."""

    media_type: str
    show: Callable[[Any], Projection]
    properties: tuple[str, ...] = ()
    required: bool = False  # a result without any of them is 404, else 400


EXTENSIONS = {
    "http": Extension(media_type=HTTP_TYPE, show=as_http),
    "json": Extension(media_type=JSON_TYPE, show=as_json),
    "html": Extension(media_type="text/html", show=as_html, properties=("body", "html")),
    "svg": Extension(media_type="image/svg+xml", show=as_svg, properties=("body", "svg")),
    "text": Extension(media_type="text/plain", show=as_text, properties=("body", "text"), required=True),
}


def project(extension: Extension, result: Any, *, error: bool) -> Projection:
    """The answer for a result, or with `error` for the value of its property of that name.

    Raises ApiError 400 for what cannot be shown so, 404 for a property that is not there.
    """
    if error:
        return extension.show(result.get("error") if isinstance(result, dict) else None)
    if not extension.properties:
        return extension.show(result)
    fields = result if isinstance(result, dict) else {}
    name = next((name for name in extension.properties if name in fields), None)
    if name is None:
        raise ApiError(404, NO_PROPERTY) if extension.required else not_valid(extension.media_type)
    return extension.show(fields[name])


def accepts(accept: str, media_type: str) -> bool:
    """Whether a client that sends this Accept header takes the type. An empty or unreadable one takes everything."""
    ranges = [part.partition(";") for part in accept.split(",") if part.strip()]
    wanted = {name.strip().lower(): _weight(rest) for name, _, rest in ranges if "/" in name}
    if not wanted:
        return True
    for name in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        if name in wanted:
            return wanted[name] > 0
    return False


def _weight(parameters: str) -> float:
    found = re.search(r"(?:^|;)\s*q\s*=\s*([0-9.]+)", parameters)
    try:
        return float(found[1]) if found else 1.0
    except ValueError:
        return 1.0


def pretty(value: Any) -> bytes:
    """JSON as web answers write it."""
    return _bytes(json.dumps(value, indent=2, ensure_ascii=False))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")
