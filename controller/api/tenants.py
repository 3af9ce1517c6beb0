"""The operator's routes about tenants: their keys, and what each namespace may do."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from controller.api import params
from controller.api.errors import ApiError, malformed
from controller.api.http import only, read_object
from controller.auth import Authenticator
from controller.limits import NamespaceLimits
from fallow.core.throttle import Overrides
from fallow.infra import tenant_keys
from fallow.infra.records import RIGHTS, Identity
from fallow.infra.store import Store, StoreError, StoreUnavailable

MAX_LIMIT = 1_000_000_000
_LIMITS = tuple(field.name for field in dataclasses.fields(Overrides))


class Tenants:
    """Answers for /admin/v1/keys and /admin/v1/limits: what it changes holds on every controller once answered."""

    def __init__(
        self,
        *,
        store: Store,
        auth: Authenticator,
        limits: NamespaceLimits,
        settled: Callable[[], Awaitable[None]],
        allow_well_known: bool,
    ) -> None:
        self._store = store
        self._auth = auth
        self._limits = limits
        self._settled = settled
        self._allow_well_known = allow_well_known

    async def keys(self, request: web.BaseRequest, uuid: str | None) -> Any:
        """GET lists them, PUT grants a given one, POST makes one and shows it this once; DELETE of a uuid revokes."""
        if uuid is not None:
            only(request, "DELETE")
            return await self._revoke(uuid)
        only(request, "GET", "PUT", "POST")
        if request.method == "GET":
            return {"keys": [_key(identity) for identity in await self._store.list_keys()]}
        body = await read_object(request)
        if request.method == "PUT":
            return _key(await self._grant(body, _text(body, "key")))
        key = tenant_keys.new_key()
        return {**_key(await self._grant(body, key)), "key": key}

    async def _grant(self, body: dict[str, Any], key: str | None) -> Identity:
        namespace, subject = _text(body, "namespace"), _text(body, "subject")
        if namespace is None or key is None:
            raise malformed("a key needs 'namespace' and 'key', both strings.")
        if tenant_keys.is_well_known(key) and not self._allow_well_known:
            raise malformed(tenant_keys.WELL_KNOWN)
        params.check_namespace(namespace)
        try:
            identity = await self._store.put_key(namespace, key, subject, rights=_rights(body))
        except StoreUnavailable:
            raise
        except StoreError as e:
            raise malformed(str(e)) from None
        self._auth.forget(identity.uuid)
        await self._settled()
        return identity

    async def _revoke(self, uuid: str) -> dict[str, str]:
        known = await self._store.delete_key(uuid)
        self._auth.forget(uuid)
        await self._settled()
        if not known:
            raise ApiError(404, f"There is no key with the uuid '{uuid}'.")
        return {"uuid": uuid, "done": "revoked"}

    async def limits(self, request: web.BaseRequest, namespace: str) -> dict[str, Any]:
        """What holds for the namespace. PUT sets those that are named, null = as the default; DELETE sets none."""
        only(request, "GET", "PUT", "DELETE")
        params.check_namespace(namespace)
        overrides = await self._store.get_limits(namespace)
        if request.method != "GET":
            overrides = _merged(overrides, await read_object(request)) if request.method == "PUT" else Overrides()
            await self._store.put_limits(namespace, overrides)
            self._limits.forget(namespace)
            await self._settled()
        quota = dataclasses.asdict(overrides.over(self._limits.default))
        return {"namespace": namespace, **quota, "set": [n for n in _LIMITS if getattr(overrides, n) is not None]}


def _merged(standing: Overrides, body: dict[str, Any]) -> Overrides:
    if not body or not set(body) <= set(_LIMITS):
        raise malformed(f"limits are {', '.join(_LIMITS)}.")
    for name, limit in body.items():
        if limit is not None and (type(limit) is not int or not 0 <= limit <= MAX_LIMIT):
            raise malformed(f"'{name}' must be a whole number from 0 to {MAX_LIMIT}, or null.")
    return dataclasses.replace(standing, **body)


def _rights(body: dict[str, Any]) -> tuple[str, ...]:
    rights = body.get("rights", list(RIGHTS))
    if not isinstance(rights, list) or not all(right in RIGHTS for right in rights):
        raise malformed(f"'rights' must be a list of {', '.join(RIGHTS)}.")
    return tuple(right for right in RIGHTS if right in rights)


def _text(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise malformed(f"'{name}' must be a string.")
    return value


def _key(identity: Identity) -> dict[str, Any]:
    shown: dict[str, Any] = {"namespace": identity.namespace, "subject": identity.subject, "uuid": identity.uuid}
    return shown if identity.rights == RIGHTS else {**shown, "rights": list(identity.rights)}
