"""What every route needs of HTTP: the request as the routes see it, bounded bodies, strict JSON, answers with CORS."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from aiohttp import ClientPayloadError, web
from aiohttp.http_exceptions import HttpProcessingError

from controller.api.errors import (
    COMPRESSED,
    NOT_JSON,
    TOO_DEEP,
    ApiError,
    forbidden,
    malformed,
    not_allowed,
    too_large,
    unavailable,
)
from controller.api.params import Query
from fallow.infra.records import Identity

CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "Authorization, Origin, X-Requested-With, Content-Type, Accept, User-Agent",
    "Access-Control-Allow-Methods": "GET, DELETE, POST, PUT, HEAD",
}
JSON_TYPE = "application/json"
BODY_TIMEOUT_S = 60.0  # for a body to arrive: whoever is slower holds a place that others wait for
_SURROGATE = re.compile("[\ud800-\udfff]")
_MAX_OBJECT_BYTES = 64 << 10
_SPARE_LEVELS = 100  # what was read with so little stack left could not be read again a few calls deeper


@dataclass(slots=True, kw_only=True)
class Call:
    """One authenticated request: what the router found out before it asked a route."""

    request: web.BaseRequest
    method: str
    query: Query
    identity: Identity
    auth_header: str
    transaction_id: str
    namespace: str  # which it is about: the caller's own, or another one

    @property
    def foreign(self) -> bool:
        """It is about another namespace than the caller's."""
        return self.namespace != self.identity.namespace

    def own_only(self, *name: str) -> None:
        """Raises ApiError 403 where it is about another namespace; `name` is what is asked for there."""
        if self.foreign:
            raise self._forbidden(name)

    def require(self, right: str | None, *name: str) -> None:
        """Raises ApiError 403 where the caller's key does not give that right; None = it takes none."""
        if right is not None and right not in self.identity.rights:
            raise self._forbidden(name)

    def _forbidden(self, name: Sequence[str]) -> ApiError:
        return forbidden("/".join([self.namespace, *[part for part in name if part]]))


def transaction_id(request: web.BaseRequest) -> str:
    """The client's X-Request-ID, else 32 characters of our own. Ids with `sid_` in front are the system's own."""
    given = request.headers.get("X-Request-ID")
    if given and len(given) <= 256 and given.isascii() and given.isprintable() and not given.startswith("sid_"):
        return given
    return os.urandom(16).hex()


def dump(value: Any) -> bytes:
    """JSON in UTF-8."""
    return _encoded(json.dumps(value, separators=(",", ":"), ensure_ascii=False))


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can say and UTF-8 cannot: it goes out as it came, escaped
        return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def dump_given(value: Any) -> bytes:
    """`dump` of what a client sent. Raises ApiError 400 for numbers out of range (1e999) and for deep nesting."""
    nested = value
    for _ in range(_SPARE_LEVELS):
        nested = [nested]
    try:
        text = json.dumps(nested, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise malformed(TOO_DEEP) from None
    except ValueError:
        raise malformed("A number is out of range.") from None
    return _encoded(text[_SPARE_LEVELS:-_SPARE_LEVELS])


def answer(status: int, body: bytes, transaction: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer with the headers every answer has."""
    all_headers = {**CORS, "X-Request-ID": transaction, "Content-Type": JSON_TYPE}
    if headers:
        all_headers.update(headers)
    return web.Response(status=status, body=body, headers=all_headers)


def refusal(error: ApiError, transaction: str) -> web.Response:
    body = dump({"error": error.text, "code": transaction})
    return answer(error.status, body, transaction, error.headers)


async def read_body(request: web.BaseRequest, bound: int, what: str = "Request") -> bytes:
    """The body, at most `bound` bytes: a larger one is refused from its Content-Length before any of it is read.

    Raises ApiError 413 (a chunked body is refused as soon as it passes the bound), 415 for a compressed body, 400 for
    broken chunks, 503 where it does not arrive in time.
    """
    length = request.content_length
    if length is not None and length > bound:
        raise too_large(what, length, bound)
    if not request.body_exists:
        return b""
    if "Content-Encoding" in request.headers:
        raise ApiError(415, COMPRESSED)
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    if request.content.is_eof() and length is not None:
        return request.content.read_nowait()  # it came along with the head, as small ones do
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await _read_chunks(request, bound, what)
    except TimeoutError:
        raise unavailable(f"The request's body did not arrive within {BODY_TIMEOUT_S:g} s.") from None
    except (ClientPayloadError, HttpProcessingError):
        raise malformed("The request's body is not what its headers announce.") from None


async def _read_chunks(request: web.BaseRequest, bound: int, what: str) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while not request.content.at_eof():
        chunk = await request.content.readany()
        size += len(chunk)
        if size > bound:
            raise too_large(what, size, bound)
        chunks.append(chunk)
    return b"".join(chunks)


async def read_object(request: web.BaseRequest) -> dict[str, Any]:
    """The JSON object of an operator's request; none is an empty one. Raises ApiError 400, 413, 415."""
    raw = await read_body(request, _MAX_OBJECT_BYTES)
    if raw:
        require_json(request)
    return parse_object(raw)


def only(request: web.BaseRequest, *methods: str) -> None:
    """Raises ApiError 405 for any other method."""
    if request.method not in methods:
        raise not_allowed(*methods)


def require_json(request: web.BaseRequest) -> None:
    """Raises ApiError 415 where the body is not declared to be JSON."""
    declared = request.headers.get("Content-Type", "")
    if declared != JSON_TYPE and declared.partition(";")[0].strip().lower() != JSON_TYPE:
        raise ApiError(415, NOT_JSON)


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON value")


def _finite(text: str) -> float:
    number = float(text)
    if number in (_INFINITY, -_INFINITY):
        raise ValueError("A number is out of range.")
    return number


_INFINITY = float("inf")
_decoder = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)


def parse_json(body: bytes) -> Any:
    """The value of a JSON text. Raises ApiError 400, also for NaN, for wrong UTF-8 and for nesting beyond reason."""
    try:
        return _decoder.decode(body.decode("utf-8"))
    except RecursionError:
        raise malformed(TOO_DEEP) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as e:
        raise malformed(str(e)) from None
    except ValueError as e:  # NaN, or a number of too many digits: what follows the colon is for Python programmers
        raise malformed(str(e).partition(":")[0]) from None


def parse_object(body: bytes) -> dict[str, Any]:
    """A JSON object; an empty body is an empty one. Raises ApiError 400."""
    if not body or body.isspace():
        return {}
    value = parse_json(body)
    if not isinstance(value, dict):
        raise malformed(f"Object expected, not {_type_name(value)}.")
    return value


def _type_name(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")
