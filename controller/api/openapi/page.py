"""The API's document as a page for people: one file without scripts, which asks nobody for anything."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from html import escape
from importlib.resources import files
from typing import Any

from controller.api.openapi.document import document
from controller.api.openapi.operations import Operation
from controller.api.schema import Bounds

Document = Mapping[str, Any]


@lru_cache(maxsize=4)
def page_html(bounds: Bounds) -> bytes:
    """As it is served. Costs some milliseconds once."""
    return page(document(bounds)).encode()


def page(described: Document) -> str:
    """HTML; every text of the document is escaped."""
    parts = {
        "TITLE": escape(described["info"]["title"]),
        "ABOUT": "".join(f"<p>{escape(text)}</p>" for text in described["info"]["description"].split("\n\n")),
        "API_DOCS": "api-docs",
        "OPERATIONS": "".join(_tagged(described, tag) for tag in described["tags"]),
        "SCHEMAS": "".join(_schema(name, schema) for name, schema in described["components"]["schemas"].items()),
    }
    text = files("controller.api.openapi").joinpath("docs.html").read_text(encoding="utf-8")
    head, *rest = text.split("{{")  # one pass, so that nothing inserted is looked at again
    filled = (parts[name] + after for name, after in (piece.split("}}", 1) for piece in rest))
    return head + "".join(filled)


def _tagged(described: Document, tag: Mapping[str, str]) -> str:
    operations = "".join(
        _operation(described, method, path, operation)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
        if tag["name"] in operation["tags"]
    )
    name, about = escape(tag["name"]), escape(tag["description"])
    return f'<h2>{name.capitalize()}</h2><p class="soft">{about}</p>{operations}'


def _operation(described: Document, method: str, path: str, operation: Operation) -> str:
    parameters = [_resolved(described, parameter) for parameter in operation["parameters"]]
    answers = {status: _resolved(described, answer) for status, answer in operation["responses"].items()}
    body = operation.get("requestBody")
    given = f"<h4>Body</h4>{_content(body)}" if body else ""
    told = ((status, answer["description"], _content(answer)) for status, answer in answers.items())
    return (
        f'<details><summary><span class="method">{method.upper()}</span> <code>{escape(path)}</code>'
        f' <span class="soft">{escape(operation["summary"])}</span></summary>'
        f"{_table('Parameters', map(_parameter, parameters))}{given}"
        f"{_table('Answers', told)}</details>"
    )


def _parameter(parameter: Mapping[str, Any]) -> tuple[str, str, str]:
    return parameter["name"], f"{parameter['description']} In the {parameter['in']}.", _pre(parameter["schema"])


def _table(title: str, rows: Iterable[tuple[str, str, str]]) -> str:
    """Of (name, text, HTML); nothing where there are no rows."""
    cells = (f"<tr><td><code>{escape(n)}</code></td><td>{escape(t)}</td><td>{html}</td></tr>" for n, t, html in rows)
    body = "".join(cells)
    return f"<h4>{title}</h4><table>{body}</table>" if body else ""


def _content(answer: Mapping[str, Any]) -> str:
    shown = (f"<code>{escape(media)}</code>{_pre(told['schema'])}" for media, told in answer.get("content", {}).items())
    return "".join(shown)


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    return f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>{_pre(schema)}</details>'


def _pre(schema: Mapping[str, Any]) -> str:
    """A schema, as JSON; one that has a name as a link to it."""
    if "$ref" in schema:
        name = escape(_name(schema))
        return f' <a href="#{name}">{name}</a>'
    return f"<pre>{escape(json.dumps(schema, indent=1))}</pre>"


def _resolved(described: Document, value: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a reference stands for."""
    if "$ref" not in value:
        return value
    _, kind, name = value["$ref"].removeprefix("#/").split("/")
    found: Mapping[str, Any] = described["components"][kind][name]
    return found


def _name(reference: Mapping[str, str]) -> str:
    return reference["$ref"].rpartition("/")[2]
