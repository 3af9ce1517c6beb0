"""Actions: put, get, delete, list."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import web

from controller.actions_cache import ActionsCache
from controller.api import params
from controller.api.code import Code, read_code, resolve_kind
from controller.api.entity import CONCURRENT, EXISTS, PUT_TRIES, refuse_conflict, refuse_other_collection
from controller.api.errors import ApiError, malformed, not_found, too_large
from controller.api.http import Call, answer, dump, parse_object, read_body, require_json
from controller.api.schema import MAX_CODE_BYTES, Bounds, Patch, entity, list_item, merged, read_patch
from controller.peers import Peers
from fallow.infra.clock import unix_ms
from fallow.infra.codec import CodecError
from fallow.infra.records import ActionDoc
from fallow.infra.store import CodeMissing, Conflict, Store

MAX_BODY_BYTES = 50 << 20
LARGE_BODY_BYTES = 256 << 10  # parsing more than this would hold up the loop for a millisecond and longer
MAX_LARGE_AT_ONCE = 4  # large bodies in memory


class Actions:
    """The routes of the collection. `close` ends their threads."""

    def __init__(self, *, store: Store, cache: ActionsCache, peers: Peers, bounds: Bounds) -> None:
        self._store = store
        self._cache = cache
        self._peers = peers
        self._bounds = bounds
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="action-put")
        self._large = asyncio.Semaphore(MAX_LARGE_AT_ONCE)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def list(self, request: Call) -> web.Response:
        page = params.page(request.query, "actions")
        if page.count:
            count = await self._store.count_actions(request.namespace)
            shown = (
                max(0, min(count - page.skip, page.limit)) if "limit" in request.query else max(0, count - page.skip)
            )
            return answer(200, dump({"actions": shown}), request.transaction_id)
        docs = await self._store.list_actions(request.namespace, skip=page.skip, limit=page.limit)
        return answer(200, dump([list_item(doc) for doc in docs]), request.transaction_id)

    async def get(self, request: Call, name: str) -> web.Response:
        with_code = params.flag(request.query, "code", True)
        doc = await self._store.get_action(request.namespace, name)
        if doc is None:
            await refuse_other_collection(self._store, request.namespace, name, "actions")
            raise not_found()
        code = await self._code(doc) if with_code else None
        return answer(200, dump(entity(doc, code)), request.transaction_id)

    async def delete(self, request: Call, name: str) -> web.Response:
        await refuse_other_collection(self._store, request.namespace, name, "actions")
        doc = await self._store.delete_action(request.namespace, name)
        if doc is None:
            raise not_found()
        self._cache.forget(request.namespace, name)
        return answer(200, dump(entity(doc, await self._code(doc))), request.transaction_id)

    async def put(self, request: Call, name: str) -> web.Response:
        require_json(request.request)
        overwrite = params.flag(request.query, "overwrite", False)
        length = request.request.content_length
        if length is not None and length > MAX_BODY_BYTES:
            raise too_large("Request", length, MAX_BODY_BYTES)
        if length is not None and length <= LARGE_BODY_BYTES:
            body = await read_body(request.request, LARGE_BODY_BYTES)
            patch, code = self._read(body)
        else:
            async with self._large:
                body = await read_body(request.request, MAX_BODY_BYTES)
                patch, code = await asyncio.get_running_loop().run_in_executor(self._threads, self._read, body)
        doc = await self._store_put(request.namespace, name, patch, code, overwrite)
        self._cache.forget(request.namespace, name)
        text = code.content.decode() if code is not None else await self._code(doc)
        return answer(200, dump(entity(doc, text)), request.transaction_id)

    def _read(self, body: bytes) -> tuple[Patch, Code | None]:
        """Reads and checks the body; runs in a thread where it is large."""
        patch = read_patch(parse_object(body), self._bounds)
        if patch.exec is None:
            return patch, None
        size = len(patch.exec.code)
        if size > MAX_CODE_BYTES:
            raise too_large("exec", size, MAX_CODE_BYTES)
        kind = resolve_kind(patch.exec.kind, live=self._peers.live, offered=self._peers.offered)
        return patch, read_code(kind, patch.exec.code)

    async def _store_put(
        self, namespace: str, name: str, patch: Patch, code: Code | None, overwrite: bool
    ) -> ActionDoc:
        """Reads, merges, and puts what was merged if nobody changed it meanwhile; a few times, then 409."""
        for _ in range(PUT_TRIES):
            old = await self._store.get_action(namespace, name)
            if old is not None and not overwrite:
                raise ApiError(409, EXISTS)
            doc = merged(old, patch, code, namespace=namespace, name=name, now_unix_ms=unix_ms())
            content = code.content if code is not None and code.digest else None
            try:
                return await self._store.put_action(doc, content, expect=old.revision if old else None)
            except Conflict as e:
                refuse_conflict(e, "actions", overwrite=overwrite)
            except CodeMissing:
                raise ApiError(409, CONCURRENT) from None
            except CodecError as e:
                raise malformed(f"The action holds a value that cannot be stored: {e}") from None
        raise ApiError(409, CONCURRENT)

    async def _code(self, doc: ActionDoc) -> Any:
        code = await self._store.get_code(doc.code_digest) if doc.code_digest else None
        return code.decode() if code is not None else ""
