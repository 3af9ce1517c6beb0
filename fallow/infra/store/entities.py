"""Packages, triggers and rules; what shares a namespace's names; the news of changes."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from fallow.infra.records import PackageDoc, RuleDoc, TriggerDoc
from fallow.infra.store import keys, scripts
from fallow.infra.store.connection import Connection
from fallow.infra.store.errors import Conflict, NotEmpty, StoreError, StoreUnavailable
from fallow.infra.store.rows import PACKAGES, RULES, TRIGGERS, RowFormat

_PING_S = 5.0  # how often a silent subscription is asked whether it still stands
_COLLECTIONS: dict[type, tuple[str, RowFormat[Any]]] = {
    PackageDoc: ("packages", PACKAGES),
    TriggerDoc: ("triggers", TRIGGERS),
    RuleDoc: ("rules", RULES),
}

EntityDoc = PackageDoc | TriggerDoc | RuleDoc
D = TypeVar("D", PackageDoc, TriggerDoc, RuleDoc)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An entity was put or deleted. Numbers grow by one with every change, of any controller.

    Collections are those of the API, and "identities" (namespace, uuid of the key) and "limits" (namespace, no name).
    """

    number: int
    collection: str
    namespace: str
    name: str


class EntityStore:
    _connection: Connection

    async def put_entity(self, doc: D, *, expect: str | None) -> D:
        """Stores a package, trigger or rule; returns it with its new revision.

        `expect`: None = no entity of that name, "*" = whatever stands, else the revision that must stand. Raises
        Conflict, whose `collection` is another one where the name is taken by it.
        """
        collection, rows = _COLLECTIONS[type(doc)]
        doc = replace(doc, revision=uuid.uuid4().hex)
        reply = await self._connection.run(
            scripts.PUT_ENTITY,
            [
                keys.entity(collection, doc.namespace, doc.name),
                keys.names(collection, doc.namespace),
                keys.entities(doc.namespace),
                keys.change_number(),
            ],
            [
                expect or "",
                doc.revision,
                rows.to_bytes(doc),
                collection,
                doc.namespace,
                doc.name,
                doc.updated_unix_ms,
                keys.changes(),
            ],
        )
        _raise_unless_ok(reply, collection, f"{doc.namespace}/{doc.name}")
        return doc

    async def get_entity(self, kind: type[D], namespace: str, name: str) -> D | None:
        """The package, trigger or rule of that name; None = there is none."""
        collection, rows = _COLLECTIONS[kind]
        key = keys.entity(collection, namespace, name)
        data = await self._connection.call("HGET", key, "doc")
        return None if data is None else cast(D, rows.from_bytes(data, key))

    async def delete_entity(self, kind: type[D], namespace: str, name: str, *, expect: str = "*") -> D | None:
        """What stood there; None = nothing did. Raises Conflict, and NotEmpty for a package that holds actions."""
        collection, rows = _COLLECTIONS[kind]
        key = keys.entity(collection, namespace, name)
        reply = await self._connection.run(
            scripts.DELETE_ENTITY,
            [
                key,
                keys.names(collection, namespace),
                keys.entities(namespace),
                keys.change_number(),
                keys.actions_of(namespace, name),
            ],
            [expect, collection, namespace, name, keys.changes()],
        )
        if reply[0] == b"none":
            return None
        _raise_unless_ok(reply, collection, f"{namespace}/{name}")
        return cast(D, rows.from_bytes(reply[1], key))

    async def list_entities(self, kind: type[D], namespace: str, *, skip: int = 0, limit: int = 30) -> list[D]:
        """Last updated first; a limit of 0 gives none."""
        if limit <= 0:
            return []
        collection, rows = _COLLECTIONS[kind]
        prefix = keys.entity(collection, namespace, "")
        index = keys.names(collection, namespace)
        found = await self._connection.run(scripts.LIST_ACTIONS, [index], [prefix, skip, limit])
        return [rows.from_bytes(data, prefix + name.decode()) for name, data in found]

    async def count_entities(self, kind: type[D], namespace: str) -> int:
        return int(await self._connection.call("ZCARD", keys.names(_COLLECTIONS[kind][0], namespace)))

    async def entity_collection(self, namespace: str, name: str) -> str | None:
        """Which collection ("actions", ...) holds the name; None = it is free."""
        found = await self._connection.call("HGET", keys.entities(namespace), name)
        return None if found is None else str(found.decode())

    async def change_number(self) -> int:
        """Of the last change; 0 = there was none."""
        return int(await self._connection.call("GET", keys.change_number()) or 0)

    async def changes(self) -> AsyncGenerator[Change | None]:
        """Entities that were put or deleted, by any controller, as it happens. For ever.

        Yields None once, when it listens: what was cached before may be stale and must be forgotten. Raises
        StoreUnavailable when a change may have been missed; then start again.
        """
        async with self._connection.messages(keys.changes()) as messages:
            subscribed = pinged = False
            while True:
                message = await messages.next(_PING_S)
                if message is None:
                    if pinged:
                        raise StoreUnavailable(f"Redis at {self._connection.url} fell silent")
                    await messages.ping()
                    pinged = True
                    continue
                pinged = False
                match message:
                    case ("subscribe", _):
                        if subscribed:
                            raise StoreUnavailable("the subscription was broken and renewed: changes may be lost")
                        subscribed = True
                        yield None
                    case ("message", data):
                        yield _change(data.decode())


def _change(text: str) -> Change:
    number, collection, who = text.split(" ", 2)  # a name may hold spaces
    namespace, _, name = who.partition("/")
    return Change(number=int(number), collection=collection, namespace=namespace, name=name)


def _raise_unless_ok(reply: list[Any], collection: str, what: str) -> None:
    match reply[0]:
        case b"ok":
            return
        case b"collection":
            other = reply[1].decode()
            raise Conflict(f"{what} is the name of an entity in {other}", collection=other)
        case b"conflict":
            raise Conflict(f"{what} of {collection} is not what it was expected to be", collection=collection)
        case b"not empty":
            raise NotEmpty(f"package {what} holds {reply[1]} actions", count=int(reply[1]))
        case unknown:
            raise StoreError(f"unexpected answer {unknown!r} about {what}")
