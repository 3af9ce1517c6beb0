"""From a request's path to its route, and the request door: whatever goes wrong inside becomes an answer here.

There is one handler below the HTTP server and no chain of middlewares: the path of a warm call counts in microseconds.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Awaitable, Callable

from aiohttp import web

from controller.api import info, params, sdk
from controller.api.actions import Actions
from controller.api.activations import Activations
from controller.api.admin import Admin
from controller.api.errors import STORE_AWAY, ApiError, not_allowed, not_found, unavailable
from controller.api.http import CORS, Call, answer, dump, refusal, transaction_id
from controller.api.invoke import Invoke
from controller.api.openapi.document import document_json
from controller.api.openapi.page import page_html
from controller.api.packages import Packages
from controller.api.rules import Rules
from controller.api.schema import Bounds
from controller.api.triggers import Triggers
from controller.api.web import WebActions
from controller.auth import Authenticator
from controller.limits import NamespaceLimits
from controller.stats import Stats
from fallow.infra import metrics
from fallow.infra.log import get_logger
from fallow.infra.store import StoreError, StoreFull

_log = get_logger("controller.api")
_RIGHT_FOR = {"GET": "READ", "PUT": "PUT", "DELETE": "DELETE", "POST": "ACTIVATE"}
STORE_FULL = "The platform's store is full. Delete what is not needed, or ask the operator for more memory."


class Router:
    """The public listener's handler."""

    def __init__(
        self,
        *,
        auth: Authenticator,
        invoke: Invoke,
        actions: Actions,
        packages: Packages,
        triggers: Triggers,
        rules: Rules,
        web_actions: WebActions,
        activations: Activations,
        admin: Admin,
        stats: Stats,
        bounds: Bounds,
        offered: Callable[[], tuple[str, ...]],
        live: Callable[[], frozenset[str]],
        invokers: Callable[[], dict[str, str]],
        limits: NamespaceLimits,
        settled: Callable[[], Awaitable[None]],
        disable: Callable[[], bool],
    ) -> None:
        self._auth = auth
        self._invoke = invoke
        self._actions = actions
        self._packages = packages
        self._triggers = triggers
        self._rules = rules
        self._web = web_actions
        self._activations = activations
        self._admin = admin
        self._stats = stats
        self._bounds = bounds
        self._offered = offered
        self._live = live
        self._invokers = invokers
        self._limits = limits
        self._disable = disable
        self._settled = settled  # returns once no controller uses what was replaced here

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The request door: every answer leaves here, and nothing but answers."""
        transaction = transaction_id(request)
        try:
            response = await self._route(request, transaction)
        except ApiError as e:
            response = refusal(e, transaction)
        except StoreFull:
            response = refusal(unavailable(STORE_FULL, 10.0), transaction)
        except StoreError as e:
            _log.warning("store failed a request", transaction=transaction, path=request.raw_path, error=str(e))
            response = refusal(unavailable(STORE_AWAY), transaction)
        except (ConnectionError, web.HTTPException):
            raise  # the client left while its body was read, or aiohttp answers by itself
        except Exception as e:  # noqa: BLE001 - the request door
            _log.error("request failed", transaction=transaction, path=request.raw_path, exc_info=e)
            response = refusal(ApiError(500, "There was an internal server error."), transaction)
        self._stats.answered(response.status)
        return response

    async def _route(self, request: web.BaseRequest, transaction: str) -> web.Response:
        path, _, query = request.raw_path.partition("?")
        if not path.startswith("/"):  # absolute form, as proxies send it
            path = "/" + path.partition("://")[2].partition("/")[2]
        parts = path.split("/")
        if len(parts) > 3 and parts[1] == "api" and parts[2] == "v1" and parts[3] == "namespaces":
            if request.method == "OPTIONS":
                return _preflight(transaction)
            response = await self._namespaces(request, [urllib.parse.unquote(p) for p in parts[4:]], query, transaction)
            if request.method in ("PUT", "DELETE"):
                await self._settled()
            return response
        if len(parts) > 3 and parts[1] == "api" and parts[2] == "v1" and parts[3] == "web":
            return await self._web.route(request, parts[4:], query, transaction)
        if len(parts) > 3 and parts[1] == "admin" and parts[2] == "v1":
            self._auth.require_operator(request.headers.get("Authorization"))
            return await self._admin.route(request, [urllib.parse.unquote(p) for p in parts[3:]], transaction)
        return self._outside_namespaces(request, path, transaction)

    def _outside_namespaces(self, request: web.BaseRequest, path: str, transaction: str) -> web.Response:
        if request.method == "OPTIONS":
            return _preflight(transaction)
        match path:
            case "/ping":
                _only(request, "GET", "HEAD")
                return _plain(b"pong", transaction)
            case "/":
                _only(request, "GET", "HEAD")
                body = info.service_info(self._bounds, self._offered(), self._live(), self._limits.default)
            case "/api/v1" | "/api/v1/":
                _only(request, "GET", "HEAD")
                body = info.api_info()
            case "/api/v1/api-docs":
                _only(request, "GET", "HEAD")
                return answer(200, document_json(self._bounds), transaction)
            case "/api/v1/docs":
                _only(request, "GET", "HEAD")
                return _plain(page_html(self._bounds), transaction, "text/html; charset=utf-8")
            case "/invokers":
                self._auth.require_operator(request.headers.get("Authorization"))
                _only(request, "GET")
                body = self._invokers()
            case "/metrics":
                self._auth.require_operator(request.headers.get("Authorization"))
                _only(request, "GET")
                return _plain(metrics.render(), transaction, metrics.CONTENT_TYPE)
            case "/blackbox.tar.gz":
                _only(request, "GET", "HEAD")
                return _plain(sdk.blackbox(), transaction, sdk.CONTENT_TYPE)
            case "/disable":
                self._auth.require_operator(request.headers.get("Authorization"))
                _only(request, "POST")
                return _plain(
                    b"controller disabled" if self._disable() else b"controller already disabled", transaction
                )
            case _:
                raise not_found()
        return answer(200, dump(body), transaction)

    async def _namespaces(
        self, request: web.BaseRequest, parts: list[str], query: str, transaction: str
    ) -> web.Response:
        header = request.headers.get("Authorization")
        identity = await self._auth.identify(header)
        call = Call(
            request=request,
            method=request.method,
            query=params.parse_query(query),
            identity=identity,
            auth_header=header or "",
            transaction_id=transaction,
            namespace=identity.namespace,
        )
        if not parts or parts == [""]:
            _only(request, "GET")
            return answer(200, dump([identity.namespace]), transaction)
        namespace, *rest = parts
        if namespace != "_":
            call.namespace = params.check_namespace(namespace)
        call.require(_RIGHT_FOR.get(request.method), *rest[1:])
        match rest:
            case ["actions", *name]:
                return await self._action(call, name)
            case ["packages", *name]:
                return await self._package(call, name)
            case ["triggers", *name]:
                call.own_only(*name)
                return await self._trigger(call, name)
            case ["rules", *name]:
                call.own_only(*name)
                return await self._rule(call, name)
            case ["activations", *which]:
                call.own_only(*which)
                return await self._activation(call, which)
            case ["limits"] | ["limits", ""]:
                call.own_only()
                _only(request, "GET")
                quota = await self._limits.quota(call.namespace)
                return answer(200, dump(info.namespace_limits(self._bounds, quota)), transaction)
            case _:
                raise not_found()

    async def _action(self, call: Call, name: list[str]) -> web.Response:
        if not name or name == [""]:
            _only(call.request, "GET")
            return await self._actions.list(call)
        if name[1:] in ([""], ["", ""]):  # clients add a slash to the package's name, and people one more
            if call.method != "GET":
                raise not_found()
            return await self._actions.list_package(call, params.check_name(name[0]))
        if len(name) > 2:
            raise not_found()
        action = "/".join(map(params.check_name, name))
        match call.method:
            case "POST":
                return await self._invoke.invoke(call, action)
            case "GET":
                return await self._actions.get(call, action)
            case "PUT":
                return await self._actions.put(call, action)
            case "DELETE":
                return await self._actions.delete(call, action)
            case _:
                raise not_allowed("GET", "PUT", "DELETE", "POST")

    async def _package(self, call: Call, name: list[str]) -> web.Response:
        if not name or name == [""]:
            _only(call.request, "GET")
            return await self._packages.list(call)
        if len(name) > 1:
            raise not_found()
        package = params.check_name(name[0])
        match call.method:
            case "GET":
                return await self._packages.get(call, package)
            case "PUT":
                call.own_only(package)
                return await self._packages.put(call, package)
            case "DELETE":
                call.own_only(package)
                return await self._packages.delete(call, package)
            case _:
                raise not_allowed("GET", "PUT", "DELETE")

    async def _trigger(self, call: Call, name: list[str]) -> web.Response:
        if not name or name == [""]:
            _only(call.request, "GET")
            return await self._triggers.list(call)
        if len(name) > 1:
            raise not_found()
        trigger = params.check_name(name[0])
        match call.method:
            case "GET":
                return await self._triggers.get(call, trigger)
            case "PUT":
                return await self._triggers.put(call, trigger)
            case "DELETE":
                return await self._triggers.delete(call, trigger)
            case "POST":
                return await self._triggers.fire(call, trigger)
            case _:
                raise not_allowed("GET", "PUT", "DELETE", "POST")

    async def _rule(self, call: Call, name: list[str]) -> web.Response:
        if not name or name == [""]:
            _only(call.request, "GET")
            return await self._rules.list(call)
        if len(name) > 1:
            raise not_found()
        rule = params.check_name(name[0])
        match call.method:
            case "GET":
                return await self._rules.get(call, rule)
            case "PUT":
                return await self._rules.put(call, rule)
            case "DELETE":
                return await self._rules.delete(call, rule)
            case "POST":
                return await self._rules.set_status(call, rule)
            case _:
                raise not_allowed("GET", "PUT", "DELETE", "POST")

    async def _activation(self, call: Call, which: list[str]) -> web.Response:
        _only(call.request, "GET")
        match which:
            case [] | [""]:
                return await self._activations.list(call)
            case [activation_id] | [activation_id, ""]:
                return await self._activations.get(call, activation_id)
            case [activation_id, "result"]:
                return await self._activations.result(call, activation_id)
            case [activation_id, "logs"]:
                return await self._activations.logs(call, activation_id)
            case [activation_id, "why"]:
                return await self._activations.why(call, activation_id)
            case _:
                raise not_found()


def _plain(body: bytes, transaction: str, content_type: str = "text/plain; charset=utf-8") -> web.Response:
    return web.Response(body=body, headers={**CORS, "X-Request-ID": transaction, "Content-Type": content_type})


def _preflight(transaction: str) -> web.Response:
    return web.Response(headers={**CORS, "X-Request-ID": transaction})


def _only(request: web.BaseRequest, *methods: str) -> None:
    if request.method not in methods:
        raise not_allowed(*methods)
