"""The HTTP server below the router: what it refuses by itself is said in the API's own words too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from controller.api.errors import ApiError
from controller.api.http import refusal, transaction_id
from fallow.infra.log import get_logger

_log = get_logger("controller.http")
_MAX_TEXT = 200
_START = 20  # characters of a line in which an address has its first slash


class _Connection(web.RequestHandler):
    """One client's connection."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answers what is no HTTP request, and ends the connection: where the next one starts is not known."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is under way already")
        transaction = transaction_id(request)
        if isinstance(exc, ConnectionError):
            status, message = 400, "The connection broke while the request was read."
        if isinstance(exc, LineTooLong):
            status, message = _too_long(exc)
        text = (message or "The request could not be read.").partition("\n")[0][:_MAX_TEXT].rstrip(":")
        _log.info("not a request", transaction=transaction, status=status, error=text)
        response = refusal(ApiError(status, text), transaction)
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """What goes wrong with a connection beside its requests, whose errors end at the request door."""
        _log.info("connection broke", error=repr(kw.get("exc_info"))[:_MAX_TEXT])


def _too_long(error: LineTooLong) -> tuple[int, str]:
    """414 for an address, 431 for a header; never with what was sent."""
    line = error.args[0] if error.args else ""
    if "/" in str(line)[:_START]:
        return 414, "URI length exceeds the configured limit of 8190 characters"
    return 431, "HTTP header value exceeds the configured limit of 8190 characters"


class ApiServer(web.Server):
    """Makes connections that call the router. Bodies are passed on as they come, never decompressed."""

    def __init__(self, handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        super().__init__(handle, access_log=None, auto_decompress=False)

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)
