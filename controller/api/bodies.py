"""Bodies of PUTs: small ones are read where they come, large ones by few threads and few at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from weakref import WeakValueDictionary

from aiohttp import web

from controller.api.http import read_body, require_json

MAX_BODY_BYTES = 50 << 20
LARGE_BODY_BYTES = 256 << 10  # parsing more than this would hold up the loop for a millisecond and longer
MAX_LARGE_AT_ONCE = 6  # large bodies in memory
MAX_LARGE_OF_ONE = 2  # ... that one client is sending: a slow one does not hold up the others

T = TypeVar("T")


class Bodies:
    """Reads them. One for the whole controller; `close` ends its threads."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="bodies")
        self._large = asyncio.Semaphore(MAX_LARGE_AT_ONCE)
        self._of_one: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def read(self, request: web.BaseRequest, parse: Callable[[bytes], T], bound: int = MAX_BODY_BYTES) -> T:
        """What `parse` makes of a JSON body of at most `bound` bytes; it runs in a thread where the body is large.

        Raises ApiError 415 where the body is not declared to be JSON, what `read_body` and `parse` raise.
        """
        require_json(request)
        length = request.content_length
        if length is not None and length <= LARGE_BODY_BYTES:
            return parse(await read_body(request, min(bound, LARGE_BODY_BYTES)))
        if length is not None and length > bound:
            await read_body(request, bound)  # refuses it, without a place among the large ones
        client = request.headers.get("Authorization", "")
        own = self._of_one.setdefault(client, asyncio.Semaphore(MAX_LARGE_OF_ONE))
        async with own, self._large:
            body = await read_body(request, bound)
            return await asyncio.get_running_loop().run_in_executor(self._threads, parse, body)
