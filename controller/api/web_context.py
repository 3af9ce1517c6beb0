"""From a web request to the arguments of the action that answers it."""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.api.errors import ApiError
from controller.api.http import parse_json
from controller.api.invoke import FORBIDDEN_PARAMETERS

RESERVED = frozenset(f"__ow_{name}" for name in ("method", "headers", "path", "user", "query", "body"))
JSON_TYPE = "application/json"
FORM_TYPE = "application/x-www-form-urlencoded"
# Types that are text although their first half does not say so; whatever is neither text nor here is binary.
_TEXT_TYPES = frozenset({"application/xml", "application/javascript", "application/xhtml+xml", FORM_TYPE})


@dataclass(frozen=True, slots=True, kw_only=True)
class WebRequest:
    """What an action is told of a request."""

    method: str
    headers: Mapping[str, str]
    path: str  # what follows the action's name, decoded
    query: str  # raw
    body: bytes
    user: str = ""  # the namespace of the credentials; "" = none were given

    @property
    def media_type(self) -> str:
        """Without parameters, in lower case; of a body without a declared one, binary."""
        declared = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        return declared or "application/octet-stream"


def is_json(media_type: str) -> bool:
    return media_type == JSON_TYPE or (media_type.startswith("application/") and media_type.endswith("+json"))


def is_binary(media_type: str) -> bool:
    """Whether content of the type is not text; JSON is text here."""
    is_text = media_type.startswith("text/") or (media_type.endswith("+xml") and not media_type.startswith("image/"))
    return not (is_text or is_json(media_type) or media_type in _TEXT_TYPES)


def arguments(request: WebRequest, final: frozenset[str]) -> dict[str, Any]:
    """Query and body as parameters, the body's over the query's, and what the request was.

    Raises ApiError 400 for names that are reserved or `final`, and for a body that is not what it is declared to be.
    """
    given: dict[str, Any] = dict(urllib.parse.parse_qsl(request.query, keep_blank_values=True))
    fields, whole = _body(request)
    given |= fields
    if not given.keys().isdisjoint(RESERVED | final):
        raise ApiError(400, FORBIDDEN_PARAMETERS)
    return {**given, **_about(request), **({} if whole is None else {"__ow_body": whole[0]})}


def raw_arguments(request: WebRequest) -> dict[str, Any]:
    """The request as it came, for an action that reads it itself."""
    as_base64 = is_binary(request.media_type) or is_json(request.media_type)
    body = "" if not request.body else _base64(request.body) if as_base64 else _text(request.body)
    return {**_about(request), "__ow_query": request.query, "__ow_body": body}


def _about(request: WebRequest) -> dict[str, Any]:
    about: dict[str, Any] = {
        "__ow_method": request.method.lower(),
        "__ow_headers": {name.lower(): value for name, value in request.headers.items()},
        "__ow_path": request.path,
    }
    if request.user:
        about["__ow_user"] = request.user
    return about


def _body(request: WebRequest) -> tuple[dict[str, Any], tuple[Any] | None]:
    """Its fields where it has any, else itself in a tuple of one; None where it is empty."""
    body, media_type = request.body, request.media_type
    if not body:
        return {}, None
    if is_json(media_type):
        value = parse_json(body)
        return (value, None) if isinstance(value, dict) else ({}, (value,))
    if media_type == FORM_TYPE:
        return dict(urllib.parse.parse_qsl(_text(body), keep_blank_values=True)), None
    return {}, (_base64(body) if is_binary(media_type) else _text(body),)


def _base64(body: bytes) -> str:
    return base64.b64encode(body).decode()


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")
