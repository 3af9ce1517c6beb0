"""Who calls: keys of tenants from the store, remembered until they change; the operator's key from the settings."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass, replace

from controller.api.errors import AUTH_CHALLENGE, BAD_AUTH, NO_AUTH, ApiError
from controller.invalidation import Invalidation
from fallow.infra import tenant_keys
from fallow.infra.clock import mono_s
from fallow.infra.records import Identity
from fallow.infra.store import Change, Store, StoreUnavailable

FRESH_S = 30.0  # then a key is checked again, though its revocation would have been heard of
STALE_S = 600.0  # while the store is away a key that worked goes on working for so long
AWAY_S = 5.0  # after the store did not answer: so long what is known is used without asking
_KEPT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    identity: Identity
    at_mono_s: float


class Authenticator:
    """Checks `Authorization: Basic base64(uuid:secret)`. Remembered by a hash of the header, so no secret is kept."""

    def __init__(
        self, store: Store, operator_key: str, invalidation: Invalidation, *, allow_well_known: bool = False
    ) -> None:
        """`allow_well_known`: keys that stand in OpenWhisk's repository are keys like others."""
        self._store = store
        self._invalidation = invalidation
        self._allow_well_known = allow_well_known
        self._operator_header = _basic(operator_key) if operator_key else b""
        self._known: dict[bytes, _Known] = {}
        self._away_mono_s = float("-inf")  # when the store last did not answer
        self._changes = 0  # of keys, heard of so far

    async def identify(self, header: str | None) -> Identity:
        """The caller. Raises ApiError 401, StoreUnavailable where the key is not known here and the store is away."""
        if not header:
            raise ApiError(401, NO_AUTH, AUTH_CHALLENGE)
        digest = hashlib.sha256(header.encode("utf-8", "surrogateescape")).digest()
        known = self._known.get(digest)
        now_s = mono_s()
        if known is not None and now_s - known.at_mono_s < FRESH_S and self._invalidation.current:
            return known.identity
        usable = known is not None and now_s - known.at_mono_s < STALE_S
        away = self._invalidation.away or now_s - self._away_mono_s < AWAY_S
        if known is not None and usable and away:
            return known.identity
        uuid, secret = _credentials(header)
        if tenant_keys.is_well_known(secret) and not self._allow_well_known:
            raise ApiError(401, BAD_AUTH, AUTH_CHALLENGE)
        changes_before = self._changes
        try:
            identity = await self._store.authenticate(uuid, secret)
        except StoreUnavailable:
            self._away_mono_s = mono_s()
            if known is not None and usable:
                return known.identity
            raise
        if identity is None:
            self._known.pop(digest, None)
            raise ApiError(401, BAD_AUTH, AUTH_CHALLENGE)
        if changes_before == self._changes:  # else what is known has been made old, or forgotten, meanwhile
            self._remember(digest, _Known(identity=identity, at_mono_s=now_s))
        return identity

    async def owner(self, key: str) -> Identity:
        """Whose key "uuid:secret" this is. Raises as `identify` does."""
        return await self.identify("Basic " + base64.b64encode(key.encode("utf-8", "replace")).decode())

    def heard(self, change: Change | None) -> None:
        """A changed key is asked for anew; None = every one is, though it serves on while the store is away."""
        if change is None:
            self._changes += 1
            old_mono_s = mono_s() - FRESH_S
            for digest, known in self._known.items():
                self._known[digest] = replace(known, at_mono_s=min(known.at_mono_s, old_mono_s))
        elif change.collection == "identities":
            self.forget(change.name)

    def forget(self, uuid: str) -> None:
        """To be called after every own change of a key."""
        self._changes += 1
        for digest in [digest for digest, known in self._known.items() if known.identity.uuid == uuid]:
            del self._known[digest]

    def require_operator(self, header: str | None) -> None:
        """Raises ApiError 401 unless the operator's key is given."""
        if not header:
            raise ApiError(401, NO_AUTH, AUTH_CHALLENGE)
        given = header.encode("utf-8", "surrogateescape")
        if not self._operator_header or not hmac.compare_digest(given, self._operator_header):
            raise ApiError(401, BAD_AUTH, AUTH_CHALLENGE)

    def _remember(self, digest: bytes, known: _Known) -> None:
        self._known.pop(digest, None)
        if len(self._known) >= _KEPT:
            del self._known[next(iter(self._known))]  # the one checked longest ago
        self._known[digest] = known


def plain_key(header: str) -> str:
    """ "uuid:secret" of a header that was accepted, for actions that are given their caller's key."""
    uuid, secret = _credentials(header)
    return f"{uuid}:{secret}"


def _basic(key: str) -> bytes:
    return b"Basic " + base64.b64encode(key.encode())


def _credentials(header: str) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ApiError(401, BAD_AUTH, AUTH_CHALLENGE)
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        raise ApiError(401, BAD_AUTH, AUTH_CHALLENGE) from None
    uuid, colon, secret = text.partition(":")
    if not (uuid and colon and secret):
        raise ApiError(401, BAD_AUTH, AUTH_CHALLENGE)
    return uuid, secret
