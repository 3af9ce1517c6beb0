"""Query parameters and names, read as OpenWhisk reads them."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from controller.api.errors import ApiError, bad_parameter

MAX_BLOCKING_MS = 60_000
DEFAULT_LIMIT = 30
MAX_LIMIT = 200
MAX_NAME = 256
_NAME = re.compile(r"\A(\w|\w[\w@ .&-]{0,254}[\w@.&-])\Z", re.ASCII)
_HEX32 = re.compile(r"\A[0-9a-fA-F]{32}\Z")
_INTEGER = re.compile(r"\A-?[0-9]{1,18}\Z")

Query = Mapping[str, str]
_EMPTY: Query = MappingProxyType({})


@lru_cache(maxsize=512)  # clients send few distinct query strings; each is short (the server bounds the request line)
def parse_query(text: str) -> Query:
    """The parameters of a query string; the first of a repeated name counts. "" and "?" alone are empty."""
    if not text:
        return _EMPTY
    found: dict[str, str] = {}
    for name, value in urllib.parse.parse_qsl(text, keep_blank_values=True, max_num_fields=None):
        found.setdefault(name, value)
    return MappingProxyType(found)


def flag(query: Query, name: str, default: bool) -> bool:
    """A boolean parameter. Raises ApiError 400."""
    value = query.get(name)
    if value is None or value == "":
        return default
    lowered = value.lower()
    if lowered in ("true", "yes", "on", "1"):
        return True
    if lowered in ("false", "no", "off", "0"):
        return False
    raise bad_parameter(name, f"'{value}' is not a valid Boolean value")


def blocking_wait_s(query: Query) -> float:
    """`timeout` of a blocking invocation, in seconds: 1 to 60,000 ms, 60 s where none is given. Raises ApiError 400."""
    value = query.get("timeout")
    if value is None:
        return MAX_BLOCKING_MS / 1000
    if not _INTEGER.match(value) or not 1 <= int(value) <= MAX_BLOCKING_MS:
        raise bad_parameter("timeout", f"Timeout must be number of milliseconds up to {MAX_BLOCKING_MS}.")
    return int(value) / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which part of a list is wanted."""

    skip: int
    limit: int
    count: bool
    limited: bool = False  # the client said how many it wants

    def counted(self, found: int) -> int:
        """What `count` gives of a list of so many."""
        after_skip = max(0, found - self.skip)
        return min(after_skip, self.limit) if self.limited else after_skip


def page(query: Query, collection: str) -> Page:
    """`skip`, `limit` (0 = the most there is) and `count` of a list. Raises ApiError 400."""
    limit = _integer(query, "limit", DEFAULT_LIMIT, collection)
    skip = _integer(query, "skip", 0, collection)
    if not 0 <= limit <= MAX_LIMIT:
        text = f"The value '{limit}' is not in the range of 0 to {MAX_LIMIT} for {collection}."
        raise bad_parameter("limit", text)
    if skip < 0:
        raise bad_parameter("skip", f"The value '{skip}' is not greater than or equal to 0 for {collection}.")
    return Page(skip=skip, limit=limit or MAX_LIMIT, count=flag(query, "count", False), limited="limit" in query)


def _integer(query: Query, name: str, default: int, collection: str) -> int:
    value = query.get(name)
    if value is None:
        return default
    if not _INTEGER.match(value):
        raise bad_parameter(name, f"The value '{value}' is not an integer for {collection}.")
    return int(value)


def moment_unix_ms(query: Query, name: str) -> int | None:
    """`since` or `upto`, in milliseconds since the epoch; None where it is not given. Raises ApiError 400."""
    value = query.get(name)
    if value is None:
        return None
    if not _INTEGER.match(value) or int(value) < 0:
        raise bad_parameter(name, f"Parameter is not a valid value for epoch seconds: {value}")
    return int(value)


def name_filter(query: Query) -> str | None:
    """`name` of an activation list: "action" or "package/action". Raises ApiError 400."""
    value = query.get("name")
    if not value:
        return None
    parts = value.split("/")
    if len(parts) > 2 or not all(_NAME.match(part) for part in parts):
        text = f"Parameter may be a 'simple' name or 'package-name/simple' name: {value}"
        raise bad_parameter("name", text)
    return value


def check_name(name: str) -> str:
    """A name of one segment, as given. Raises ApiError 400."""
    if len(name) > MAX_NAME:
        raise ApiError(400, f"Name segement longer than allowed: {len(name)} > {MAX_NAME}.")
    if not _NAME.match(name):
        raise ApiError(400, "The name of the entity contains illegal characters.")
    return name


def check_namespace(name: str) -> str:
    """A namespace, as given. Raises ApiError 400."""
    if len(name) > MAX_NAME:
        raise ApiError(400, f"Namespace longer than allowed: {len(name)} > {MAX_NAME}.")
    if not _NAME.match(name):
        raise ApiError(400, "The name of the entity contains illegal characters.")
    return name


def check_activation_id(text: str) -> str:
    """An activation id in lower case. Raises ApiError 400."""
    if len(text) != 32:
        raise ApiError(400, f"Activation id length is {len(text)} but must be 32.")
    if not _HEX32.match(text):
        raise ApiError(400, "The activation id is not valid.")
    return text.lower()
