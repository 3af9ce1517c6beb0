"""The API's OpenAPI document, as `/api/v1/api-docs` serves it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from controller.api.http import dump
from controller.api.openapi.operations import refusals
from controller.api.openapi.paths import paths
from controller.api.openapi.schemas import FLAG, ID, NAME, NAME_PATTERN, OBJECT, TEXT, Schema, schemas
from controller.api.params import DEFAULT_LIMIT, MAX_BLOCKING_MS, MAX_LIMIT
from controller.api.schema import Bounds
from fallow import __version__

_ABOUT = """The REST API of OpenWhisk, and what Fallow adds to it.

A key is `uuid:secret`, sent by HTTP's Basic authentication. Every answer names its request in `X-Request-ID`, and pages
of any origin may read it. A method that a path does not have is refused with 405, and `Allow` names those it has."""
_ONE = NAME_PATTERN[1:-1]
_NAMED = f"^({_ONE}(/{_ONE})?)?$"


@lru_cache(maxsize=4)
def document_json(bounds: Bounds) -> bytes:
    """As it is served. Costs some milliseconds once."""
    return dump(document(bounds))


def document(bounds: Bounds) -> dict[str, Any]:
    """OpenAPI 3.0. `bounds` is what an action may ask for here."""
    return {
        "openapi": "3.0.3",
        "info": {"title": "Fallow", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths(),
        "components": {
            "schemas": {**schemas(bounds), "Arguments": OBJECT},
            "parameters": {**_in_path(), **_in_query()},
            "headers": _headers(),
            "responses": refusals(),
            "securitySchemes": {
                "tenant": {"type": "http", "scheme": "basic", "description": "The key of a namespace."},
                "operator": {"type": "http", "scheme": "basic", "description": "The operator's key."},
            },
        },
    }


_TAGS = {
    "open": "For all, without a key.",
    "web": "Actions that answer requests of anybody, on their owner's behalf.",
    "namespaces": "Whose key it is, and what it may use.",
    "actions": "Functions, sequences of them, and their calls.",
    "packages": "Actions that share a name and parameters, and bindings to the packages of others.",
    "triggers": "What rules react to.",
    "rules": "Which action runs when a trigger fires.",
    "activations": "Records of calls.",
    "operator": "For the operator of the platform, with the operator's key.",
}


def _in_path() -> dict[str, Any]:
    schemas = {
        "namespace": ({**NAME, "example": "_"}, "Of whom; `_` is the caller's own."),
        "action": (NAME, "Name of the action."),
        "package": (NAME, "Name of the package, or of a binding to one."),
        "trigger": (NAME, "Name of the trigger."),
        "rule": (NAME, "Name of the rule."),
        "activationId": (ID, "32 hexadecimal digits."),
        "webPackage": ({**NAME, "example": "default"}, "Name of the package; `default` for an action in none."),
        "webAction": (
            {"type": "string", "minLength": 1, "example": "hello.json"},
            "Name of the action and how to show its result: .http (if nothing is said), .json, .html, .svg or .text. "
            "What follows after a slash is for the action.",
        ),
        "vm": (TEXT, "Name of the VM."),
        "uuid": (TEXT, "The part of the key before the colon."),
    }
    return {
        name: {"name": name, "in": "path", "required": True, "description": text, "schema": schema}
        for name, (schema, text) in schemas.items()
    }


def _in_query() -> dict[str, Any]:
    moment: Schema = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
    off, on = {**FLAG, "default": False}, {**FLAG, "default": True}
    most = {"type": "integer", "minimum": 0, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
    skip = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1, "default": 0}
    wait = {"type": "integer", "minimum": 1, "maximum": MAX_BLOCKING_MS, "default": MAX_BLOCKING_MS}
    schemas: dict[str, tuple[Schema, str]] = {
        "limit": (most, f"How many at most; 0 stands for {MAX_LIMIT}."),
        "skip": (skip, "How many to leave out, of the newest."),
        "count": (off, "Only tell how many there are."),
        "overwrite": (off, "Change what stands, if anything does."),
        "code": (on, "Show the code, too."),
        "force": (off, "Remove the actions in it, too."),
        "blocking": (off, "Wait until it has ended."),
        "result": (off, "With `blocking`: answer only what the action returned."),
        "timeout": (wait, "With `blocking`: milliseconds to wait."),
        "name": ({"type": "string", "pattern": _NAMED}, "Only of this action: `action` or `package/action`."),
        "since": (moment, "Started then or later, in milliseconds since the epoch."),
        "upto": (moment, "Started then or earlier, in milliseconds since the epoch."),
        "docs": (off, "Full records; not with `count`."),
    }
    found: dict[str, Any] = {}
    for name, (schema, text) in schemas.items():
        found[name] = {"name": name, "in": "query", "description": text, "schema": schema}
        if schema["type"] == "boolean":
            found[name]["allowEmptyValue"] = True  # it stands for the default
    return found


def _headers() -> dict[str, Any]:
    return {
        "RequestId": {"required": True, "schema": TEXT, "description": "The client's own, or a new one."},
        "ActivationId": {"required": True, "schema": ID, "description": "Under which the record will be found."},
        "Challenge": {"required": True, "schema": TEXT, "description": "That Basic authentication is wanted."},
        "RetryAfter": {
            "required": True,
            "schema": {"type": "integer", "minimum": 1},
            "description": "Seconds after which to try again.",
        },
    }
