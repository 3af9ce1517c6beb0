"""Activations: list, get, result, logs, and why it ran where it ran."""

from __future__ import annotations

from aiohttp import web

from controller.api import params
from controller.api.errors import bad_parameter, not_found
from controller.api.http import Call, answer, dump
from controller.api.records import item_json, record_json, response_json
from controller.api.why import WhyAnswers
from fallow.infra.records import Record
from fallow.infra.store import Store

DOCS_BYTES = 16 << 20  # of a page of whole records: each may have ten megabytes of logs
_FIRST_DOCS, _MOST_DOCS = 4, 64  # records read at once: more where they are small
_SMALL_BYTES = 1 << 18


class Activations:
    """The routes of the collection."""

    def __init__(self, store: Store, stories: WhyAnswers) -> None:
        self._store = store
        self._stories = stories

    async def list(self, request: Call) -> web.Response:
        page = params.page(request.query, "activations")
        docs = params.flag(request.query, "docs", False)
        name = params.name_filter(request.query)
        since = params.moment_unix_ms(request.query, "since")
        upto = params.moment_unix_ms(request.query, "upto")
        if page.count:
            if docs:
                raise bad_parameter("docs", "The parameter 'docs' is not permitted with 'count'.")
            count = await self._store.count_records(request.namespace, name=name, since=since, upto=upto)
            return answer(200, dump({"activations": max(0, count - page.skip)}), request.transaction_id)
        if docs:
            shown = await _documents(self._store, request.namespace, page, name=name, since=since, upto=upto)
        else:
            records = await self._store.list_records(
                request.namespace, name=name, since=since, upto=upto, skip=page.skip, limit=page.limit
            )
            shown = [item_json(record) for record in records]
        return answer(200, b"[" + b",".join(shown) + b"]", request.transaction_id)

    async def get(self, request: Call, activation_id: str) -> web.Response:
        record = await self._record(request, activation_id)
        return answer(200, record_json(record), request.transaction_id)

    async def result(self, request: Call, activation_id: str) -> web.Response:
        record = await self._record(request, activation_id)
        return answer(200, response_json(record), request.transaction_id)

    async def logs(self, request: Call, activation_id: str) -> web.Response:
        record = await self._record(request, activation_id)
        return answer(200, dump({"logs": record.logs}), request.transaction_id)

    async def why(self, request: Call, activation_id: str) -> web.Response:
        """The story, of the caller's own namespace only; the controller that placed the call keeps it for a while."""
        story = await self._stories.tell(activation_id, namespace=request.namespace)
        return answer(200, dump(story), request.transaction_id)

    async def _record(self, request: Call, activation_id: str) -> Record:
        record = await self._store.get_record(request.namespace, params.check_activation_id(activation_id))
        if record is None:
            raise not_found()
        return record


async def _documents(
    store: Store, namespace: str, page: params.Page, *, name: str | None, since: int | None, upto: int | None
) -> list[bytes]:
    """Whole records, read a few at once, until there are as many as asked for or they have DOCS_BYTES.

    A client that pages goes on after those it got: a page may be shorter than it asked for.
    """
    shown: list[bytes] = []
    size, step = 0, _FIRST_DOCS
    while len(shown) < page.limit and size < DOCS_BYTES:
        asked = min(step, page.limit - len(shown))
        records = await store.list_records(
            namespace, name=name, since=since, upto=upto, skip=page.skip + len(shown), limit=asked, docs=True
        )
        found = [record_json(record) for record in records]
        shown += found
        read = sum(map(len, found))
        size += read
        if len(records) < asked:
            break
        if read < _SMALL_BYTES:
            step = min(step * 4, _MOST_DOCS)
    return shown
