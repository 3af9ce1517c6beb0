"""Keys of tenants: who may call, under which namespace. Secrets are kept as salted hashes."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import secrets

from fallow.core.throttle import Overrides
from fallow.infra.records import RIGHTS, Identity
from fallow.infra.store import keys, scripts
from fallow.infra.store.connection import Connection
from fallow.infra.store.errors import StoreError

_MIN_SECRET = 32  # one SHA-256 protects only what cannot be guessed
_OWNER = ("namespace", "subject", "rights")
_LIMITS = tuple(field.name for field in dataclasses.fields(Overrides))


class IdentityStore:
    _connection: Connection

    async def put_key(
        self, namespace: str, key: str, subject: str | None = None, *, rights: tuple[str, ...] = RIGHTS
    ) -> Identity:
        """Grants a key, "uuid:secret", on a namespace; a standing key of that uuid is replaced.

        `subject` is the namespace's name unless given. Raises StoreError for a key of another form.
        """
        uuid, colon, secret = key.partition(":")
        if not (uuid and colon) or len(secret) < _MIN_SECRET:
            raise StoreError(f'a key is "uuid:secret" with a secret of at least {_MIN_SECRET} characters')
        salt = secrets.token_bytes(16)
        identity = Identity(namespace=namespace, subject=subject or namespace, uuid=uuid, rights=rights)
        owner = ("namespace", namespace, "subject", identity.subject, "rights", " ".join(rights))
        secret_part = ("salt", salt, "hash", _hash(salt, secret))
        await self._connection.pipeline(
            [("HSET", keys.identity(uuid), *owner, *secret_part), ("SADD", keys.identities(), uuid)],
        )
        await self._announce("identities", f"{namespace}/{uuid}")
        return identity

    async def authenticate(self, uuid: str, secret: str) -> Identity | None:
        """Whose key this is; None = unknown or wrong. Compares in constant time."""
        *owner, salt, expected = await self._connection.call("HMGET", keys.identity(uuid), *_OWNER, "salt", "hash")
        if expected is None or not hmac.compare_digest(_hash(salt, secret), expected):
            return None
        return _identity(uuid, owner)

    async def list_keys(self) -> list[Identity]:
        """Every key's owner, by namespace and uuid; the secrets are not recoverable."""
        uuids = sorted(uuid.decode() for uuid in await self._connection.call("SMEMBERS", keys.identities()))
        replies = await self._connection.pipeline([("HMGET", keys.identity(uuid), *_OWNER) for uuid in uuids])
        found = [_identity(uuid, owner) for uuid, owner in zip(uuids, replies, strict=True) if owner[0] is not None]
        return sorted(found, key=lambda identity: (identity.namespace, identity.uuid))

    async def delete_key(self, uuid: str) -> bool:
        """Revokes a key; False = there was none."""
        removed, _ = await self._connection.pipeline(
            [("DEL", keys.identity(uuid)), ("SREM", keys.identities(), uuid)],
        )
        await self._announce("identities", f"/{uuid}")
        return bool(removed)

    async def _announce(self, collection: str, who: str) -> None:
        await self._connection.run(scripts.ANNOUNCE, [keys.change_number()], [keys.changes(), collection, who])

    async def put_limits(self, namespace: str, overrides: Overrides) -> None:
        """Sets what the namespace may do other than the default, in place of what was set before."""
        key = keys.limits(namespace)
        given = {name: limit for name, limit in dataclasses.asdict(overrides).items() if limit is not None}
        unset = [name for name in _LIMITS if name not in given]
        commands = [("HDEL", key, *unset)] if unset else []
        commands += [("HSET", key, name, str(limit)) for name, limit in given.items()]
        await self._connection.pipeline(commands)
        await self._announce("limits", f"{namespace}/")

    async def get_limits(self, namespace: str) -> Overrides:
        reply = await self._connection.call("HMGET", keys.limits(namespace), *_LIMITS)
        return Overrides(**{n: None if v is None else int(v) for n, v in zip(_LIMITS, reply, strict=True)})


def _identity(uuid: str, owner: list[bytes]) -> Identity:
    namespace, subject, rights = owner
    # A key of before there were rights has every one.
    had = RIGHTS if rights is None else tuple(rights.decode().split())
    return Identity(namespace=namespace.decode(), subject=subject.decode(), uuid=uuid, rights=had)


def _hash(salt: bytes, secret: str) -> bytes:
    return hashlib.sha256(salt + secret.encode()).digest()
