"""Actions: put, get, delete, list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from controller.actions_cache import ActionsCache
from controller.api import params, sequences
from controller.api.bodies import Bodies
from controller.api.code import Code, read_code, resolve_kind
from controller.api.entity import CONCURRENT, EXISTS, PUT_TRIES, refuse_conflict, refuse_other_collection
from controller.api.errors import ApiError, malformed, not_found, runtime_gone, too_large
from controller.api.http import Call, answer, dump, parse_object
from controller.api.schema import MAX_CODE_BYTES, Bounds, Patch, check_instances, entity, list_item, merged, read_patch
from controller.packaging import missing, readable
from controller.peers import Peers
from fallow.core.throttle import Quota
from fallow.infra.clock import unix_ms
from fallow.infra.codec import CodecError
from fallow.infra.records import ActionDoc, PackageDoc
from fallow.infra.store import CodeMissing, Conflict, PackageMissing, Store


class Actions:
    """The routes of the collection."""

    def __init__(
        self,
        *,
        store: Store,
        cache: ActionsCache,
        peers: Peers,
        bounds: Bounds,
        bodies: Bodies,
        quota_of: Callable[[str], Awaitable[Quota]],
    ) -> None:
        self._store = store
        self._cache = cache
        self._peers = peers
        self._bounds = bounds
        self._bodies = bodies
        self._quota_of = quota_of

    async def list(self, request: Call) -> web.Response:
        """All of the namespace, also those in packages."""
        request.own_only()
        return await self._listed(request, request.namespace, None)

    async def list_package(self, request: Call, package: str) -> web.Response:
        """Those of one package; through a binding, of the package it stands for."""
        stands, *_ = await readable(self._store, request.namespace, package, request.identity.namespace)
        return await self._listed(request, stands.namespace, stands.name)

    async def _listed(self, request: Call, namespace: str, package: str | None) -> web.Response:
        page = params.page(request.query, "actions")
        if page.count:
            count = await self._store.count_actions(namespace, package=package)
            return answer(200, dump({"actions": page.counted(count)}), request.transaction_id)
        docs = await self._store.list_actions(namespace, package=package, skip=page.skip, limit=page.limit)
        return answer(200, dump([list_item(doc) for doc in docs]), request.transaction_id)

    async def get(self, request: Call, name: str) -> web.Response:
        """With the parameters that a call would have: package < binding < action."""
        with_code = params.flag(request.query, "code", True)
        namespace, package, action = request.namespace, *_parted(name)
        documents: tuple[PackageDoc, ...] = ()
        if package:
            documents = await readable(self._store, namespace, package, request.identity.namespace)
            namespace, action = documents[0].namespace, f"{documents[0].name}/{action}"
        else:
            request.own_only(name)
        doc = await self._store.get_action(namespace, action)
        if doc is None:
            raise await missing(self._store, namespace, action)
        code = await self._code(doc) if with_code else None
        shown = entity(doc, code, [document.parameters for document in documents])
        return answer(200, dump(shown), request.transaction_id)

    async def delete(self, request: Call, name: str) -> web.Response:
        await self._require_writable(request, name)
        doc = await self._store.delete_action(request.namespace, name)
        if doc is None:
            raise not_found()
        self._cache.forget(request.namespace, name)
        return answer(200, dump(entity(doc, await self._code(doc))), request.transaction_id)

    async def put(self, request: Call, name: str) -> web.Response:
        overwrite = params.flag(request.query, "overwrite", False)
        await self._require_writable(request, name)
        patch, code = await self._bodies.read(request.request, self._read)
        if patch.exec is not None and patch.exec.components is not None:
            patch, code = await sequences.checked(patch, self._cache, request.namespace, name), sequences.NO_CODE
        if patch.instances is not None:
            check_instances(patch, (await self._quota_of(request.namespace)).concurrent_invocations)
        doc = await self._store_put(request.namespace, name, patch, code, overwrite)
        self._cache.forget(request.namespace, name)
        text = code.content.decode() if code is not None else await self._code(doc)
        return answer(200, dump(entity(doc, text)), request.transaction_id)

    async def _require_writable(self, request: Call, name: str) -> None:
        """Raises ApiError 403, 404, 409, or 400 where no action of that name may be put or deleted."""
        request.own_only(name)
        package = _parted(name)[0]
        if not package:
            await refuse_other_collection(self._store, request.namespace, name, "actions")
            return
        document = await self._store.get_entity(PackageDoc, request.namespace, package)
        if document is None:
            raise await missing(self._store, request.namespace, name)
        if document.binding:
            raise ApiError(400, "Operation not permitted on package binding.")

    def _read(self, body: bytes) -> tuple[Patch, Code | None]:
        """Reads and checks the body; runs in a thread where it is large."""
        patch = read_patch(parse_object(body), self._bounds)
        if patch.exec is None or patch.exec.components is not None:
            return patch, None
        size = len(patch.exec.code.encode("utf-8", "surrogatepass"))
        if size > MAX_CODE_BYTES:
            raise too_large("exec", size, MAX_CODE_BYTES)
        kind = resolve_kind(
            patch.exec.kind,
            live=self._peers.live,
            offered=self._peers.offered,
            deprecated=self._bounds.deprecated_kinds,
        )
        return patch, read_code(kind, patch.exec.code)

    async def _store_put(
        self, namespace: str, name: str, patch: Patch, code: Code | None, overwrite: bool
    ) -> ActionDoc:
        """Reads, merges, and puts what was merged if nobody changed it meanwhile; a few times, then 409."""
        for _ in range(PUT_TRIES):
            old = await self._store.get_action(namespace, name)
            if old is not None and not overwrite:
                raise ApiError(409, EXISTS)
            if code is None and old is not None and old.kind in self._bounds.deprecated_kinds:
                raise runtime_gone(old.kind)
            doc = merged(old, patch, code, namespace=namespace, name=name, now_unix_ms=unix_ms())
            content = code.content if code is not None and code.digest else None
            try:
                return await self._store.put_action(doc, content, expect=old.revision if old else None)
            except Conflict as e:
                refuse_conflict(e, "actions", overwrite=overwrite)
            except PackageMissing:
                raise not_found() from None
            except CodeMissing:
                raise ApiError(409, CONCURRENT) from None
            except CodecError as e:
                raise malformed(f"The action holds a value that cannot be stored: {e}") from None
        raise ApiError(409, CONCURRENT)

    async def _code(self, doc: ActionDoc) -> Any:
        code = await self._store.get_code(doc.code_digest) if doc.code_digest else None
        return code.decode() if code is not None else ""


def _parted(name: str) -> tuple[str, str]:
    """The package, "" where there is none, and the action in it."""
    package, _, action = name.rpartition("/")
    return package, action
