"""Deployed actions, their code, and the news of their changes."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

from fallow.core.model import ActionKey
from fallow.infra.records import ActionDoc
from fallow.infra.store import keys, scripts
from fallow.infra.store.connection import Connection
from fallow.infra.store.errors import CodeMissing, Conflict, StoreError, StoreUnavailable
from fallow.infra.store.rows import ACTIONS

CODE_TTL_S = 3600  # code that no action uses any more, for calls accepted before
_PING_S = 5.0  # how often a silent subscription is asked whether it still stands


class ActionStore:
    _connection: Connection

    async def put_action(self, doc: ActionDoc, code: bytes | None, *, expect: str | None) -> ActionDoc:
        """Stores an action; returns it with its new revision (and digest and size of `code`, where given).

        `expect`: None = no action of that name, "*" = whatever stands, else the revision that must stand. `code` None =
        the code of `doc.code_digest` is stored already ("" = there is none). Raises Conflict, CodeMissing.
        """
        if code is not None:
            doc = replace(doc, code_digest=hashlib.sha256(code).hexdigest(), code_bytes=len(code))
        doc = replace(doc, revision=uuid.uuid4().hex)
        namespace, name, digest = doc.namespace, doc.name, doc.code_digest
        reply = await self._connection.run(
            scripts.PUT_ACTION,
            [
                keys.action(namespace, name),
                keys.actions(namespace),
                keys.entities(namespace),
                keys.code(digest),
                keys.code_users(digest),
            ],
            [
                expect or "",
                doc.revision,
                ACTIONS.to_bytes(doc),
                digest,
                namespace,
                name,
                doc.updated_unix_ms,
                int(code is not None),
                code or b"",
                keys.code(""),
                keys.code_users(""),
                CODE_TTL_S,
                keys.changes(),
            ],
        )
        _raise_unless_ok(reply, doc, expect)
        return doc

    async def get_action(self, namespace: str, name: str) -> ActionDoc | None:
        key = keys.action(namespace, name)
        data = await self._connection.call("HGET", key, "doc")
        return None if data is None else ACTIONS.from_bytes(data, key)

    async def delete_action(self, namespace: str, name: str) -> ActionDoc | None:
        """What stood there; None = nothing did. Its records stay, its code for another hour."""
        key = keys.action(namespace, name)
        data = await self._connection.run(
            scripts.DELETE_ACTION,
            [key, keys.actions(namespace), keys.entities(namespace)],
            [namespace, name, keys.code(""), keys.code_users(""), CODE_TTL_S, keys.changes()],
        )
        return None if data is None else ACTIONS.from_bytes(data, key)

    async def list_actions(self, namespace: str, *, skip: int = 0, limit: int = 30) -> list[ActionDoc]:
        """Last updated first; a limit of 0 gives none."""
        if limit <= 0:
            return []
        prefix = keys.action(namespace, "")
        found = await self._connection.run(scripts.LIST_ACTIONS, [keys.actions(namespace)], [prefix, skip, limit])
        return [ACTIONS.from_bytes(data, prefix + name.decode()) for name, data in found]

    async def count_actions(self, namespace: str) -> int:
        return int(await self._connection.call("ZCARD", keys.actions(namespace)))

    async def entity_collection(self, namespace: str, name: str) -> str | None:
        """Which collection ("actions", ...) holds the name; None = it is free."""
        found = await self._connection.call("HGET", keys.entities(namespace), name)
        return None if found is None else str(found.decode())

    async def get_code(self, digest: str) -> bytes | None:
        """None = never stored, or an hour after the last action that used it."""
        code: bytes | None = await self._connection.call("GET", keys.code(digest))
        return code

    async def action_changes(self) -> AsyncIterator[ActionKey | None]:
        """Actions that were put or deleted, by any controller, as it happens. For ever.

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
                        namespace, _, name = data.decode().partition("/")
                        yield ActionKey(namespace=namespace, name=name)


def _raise_unless_ok(reply: list[bytes], doc: ActionDoc, expect: str | None) -> None:
    what = f"{doc.namespace}/{doc.name}"
    match reply[0]:
        case b"ok":
            return
        case b"collection":
            collection = reply[1].decode()
            raise Conflict(f"{what} is the name of an entity in {collection}", collection=collection)
        case b"conflict" if expect is None:
            raise Conflict(f"action {what} exists", collection="actions")
        case b"conflict":
            raise Conflict(f"action {what} was changed meanwhile", collection="actions")
        case b"no code":
            raise CodeMissing(f"the code of action {what} is not stored: send it along")
        case other:
            raise StoreError(f"the put script gave an unknown answer: {other!r}")
