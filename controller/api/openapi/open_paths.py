"""The paths of the API's document that need no key: what the platform tells of itself, and web actions."""

from __future__ import annotations

from controller.api.openapi.operations import ANYBODY, NOBODY, Operation, Path, operation, told
from controller.api.openapi.schemas import ANY, OBJECT, TEXT, Schema, ref
from controller.api.web import METHODS

_BINARY: Schema = {"type": "string", "format": "binary"}
_WEB_BODIES: dict[str, Schema] = {
    "application/json": ANY,
    "application/x-www-form-urlencoded": OBJECT,
    "text/plain": TEXT,
    "application/octet-stream": _BINARY,
}


def open_paths() -> dict[str, Path]:
    """Path to method to operation."""
    return {
        "/": _for_all("getServiceInfo", "Limits and runtimes of the platform", ref("ServiceInfo")),
        "/ping": _for_all("ping", "Is anybody there?", {"type": "string", "enum": ["pong"]}, media="text/plain"),
        "/api/v1": _for_all("getApiInfo", "Version of the API", ref("ApiInfo")),
        "/api/v1/api-docs": _for_all("getApiDocument", "This document", OBJECT),
        "/api/v1/docs": _for_all("getDocs", "This document as a page", TEXT, media="text/html"),
        "/blackbox.tar.gz": _for_all(
            "getSkeleton", "The skeleton of an image for blackbox actions", _BINARY, media="application/gzip"
        ),
        "/api/v1/web/{namespace}/{webPackage}/{webAction}": {
            method.lower(): _web(method, f"{method.lower()}WebAction") for method in METHODS
        },
    }


def _for_all(name: str, summary: str, schema: Schema, *, media: str = "application/json") -> Path:
    answers = {200: told(f"{summary}.", schema, media=media)}
    heads = {200: told("Its headers.")}
    return {
        "get": operation(name, "open", summary, answers, security=NOBODY),
        "head": operation(f"{name}Head", "open", f"{summary}: headers alone", heads, security=NOBODY),
    }


def _web(method: str, name: str) -> Operation:
    made = operation(
        name,
        "web",
        f"Have a web action answer a {method}",
        {202: told("It has not ended in time.", ref("Error"), with_id=True)},
        "400 401 404 413 415 429 503",
        parameters=("namespace", "webPackage", "webAction"),
        security=ANYBODY,
    )
    made["responses"]["406"] = told("Its answer is of none of the types that are accepted.", TEXT, media="text/plain")
    made["responses"]["default"] = told("What the action answers: any status, headers and body.")
    if method in ("POST", "PUT", "PATCH"):
        content = {media: {"schema": schema} for media, schema in _WEB_BODIES.items()}
        made["requestBody"] = {"required": False, "content": content}
    return made
