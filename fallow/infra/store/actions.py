"""Deployed actions and their code."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import replace

from fallow.infra.records import ActionDoc
from fallow.infra.store import keys, scripts
from fallow.infra.store.connection import Connection
from fallow.infra.store.errors import CodeMissing, Conflict, PackageMissing, StoreError
from fallow.infra.store.rows import ACTIONS

CODE_TTL_S = 3600  # code that no action uses any more, for calls accepted before


class ActionStore:
    _connection: Connection

    async def put_action(self, doc: ActionDoc, code: bytes | None, *, expect: str | None) -> ActionDoc:
        """Stores an action; returns it with its new revision (and digest and size of `code`, where given).

        `expect`: None = no action of that name, "*" = whatever stands, else the revision that must stand. `code` None =
        the code of `doc.code_digest` is stored already ("" = there is none). Raises Conflict, CodeMissing, and
        PackageMissing for an action in a package that is not there.
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
                keys.change_number(),
                *_package_keys(namespace, name),
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
            [
                key,
                keys.actions(namespace),
                keys.entities(namespace),
                keys.change_number(),
                *_package_keys(namespace, name)[1:],
            ],
            [namespace, name, keys.code(""), keys.code_users(""), CODE_TTL_S, keys.changes()],
        )
        return None if data is None else ACTIONS.from_bytes(data, key)

    async def list_actions(
        self, namespace: str, *, package: str | None = None, skip: int = 0, limit: int = 30
    ) -> list[ActionDoc]:
        """Last updated first, of one package or of the whole namespace; a limit of 0 gives none."""
        if limit <= 0:
            return []
        prefix = keys.action(namespace, "")
        found = await self._connection.run(scripts.LIST_ACTIONS, [_index(namespace, package)], [prefix, skip, limit])
        return [ACTIONS.from_bytes(data, prefix + name.decode()) for name, data in found]

    async def count_actions(self, namespace: str, *, package: str | None = None) -> int:
        return int(await self._connection.call("ZCARD", _index(namespace, package)))

    async def get_code(self, digest: str) -> bytes | None:
        """None = never stored, or an hour after the last action that used it."""
        code: bytes | None = await self._connection.call("GET", keys.code(digest))
        return code


def _index(namespace: str, package: str | None) -> str:
    return keys.actions(namespace) if package is None else keys.actions_of(namespace, package)


def _package_keys(namespace: str, name: str) -> list[str]:
    """Of an action in a package: the package and the index of its actions."""
    package = name.rpartition("/")[0]
    return [keys.entity("packages", namespace, package), keys.actions_of(namespace, package)] if package else []


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
        case b"no package":
            raise PackageMissing(f"the package of action {what} is not there")
        case b"no code":
            raise CodeMissing(f"the code of action {what} is not stored: send it along")
        case other:
            raise StoreError(f"the put script gave an unknown answer: {other!r}")
