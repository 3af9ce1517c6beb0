"""One operation of the API's OpenAPI document, and its parts: answers, refusals, headers, links to what may follow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from controller.api.openapi.schemas import Schema, ref

JSON = "application/json"
TENANT: list[dict[str, list[str]]] = [{"tenant": []}]
OPERATOR: list[dict[str, list[str]]] = [{"operator": []}]
NOBODY: list[dict[str, list[str]]] = []
ANYBODY: list[dict[str, list[str]]] = [{}, *TENANT]  # a key is read where one is given

Operation = dict[str, Any]
Path = dict[str, Operation]  # by method
Answer = dict[str, Any]
Links = dict[str, Any]


def operation(
    name: str,
    tag: str,
    summary: str,
    answers: Mapping[int, Answer],
    refused: str = "",
    *,
    parameters: Iterable[str] = (),
    body: str = "",
    needs_body: bool = True,
    security: list[dict[str, list[str]]] = TENANT,
) -> Operation:
    """`refused`: statuses of refusals. `parameters` and `body`: names of components of the document."""
    made: Operation = {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        "security": security,
        "parameters": [{"$ref": f"#/components/parameters/{parameter}"} for parameter in parameters],
        "responses": {status: {"$ref": f"#/components/responses/Refused{status}"} for status in refused.split()}
        | {str(status): answer for status, answer in answers.items()},
    }
    if body:
        made["requestBody"] = {"required": needs_body, "content": {JSON: {"schema": ref(body)}}}
    return made


def told(
    description: str,
    schema: Schema | None = None,
    *,
    media: str = JSON,
    links: Links | None = None,
    with_id: bool = False,
) -> Answer:
    """An answer, with a body of that schema. `with_id`: it names an activation in a header."""
    answer: Answer = {"description": description, "headers": {"X-Request-ID": _header("RequestId")}}
    if schema is not None:
        answer["content"] = {media: {"schema": schema}}
    if links:
        answer["links"] = links
    if with_id:
        answer["headers"]["X-Openwhisk-Activation-Id"] = _header("ActivationId")
    return answer


def _header(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/headers/{name}"}


def links(names: Iterable[str], **parameters: str) -> Links:
    """What may follow: operations, with parameters taken from this request or its answer."""
    return {name: {"operationId": name, "parameters": parameters} for name in names}


def refusals() -> dict[str, Answer]:
    """The refusals that operations name by their statuses."""
    return {f"Refused{status}": _refusal(status, why) for status, why in _REFUSALS.items()}


_REFUSALS = {
    400: "What was sent is malformed, or asks for what is not allowed.",
    401: "No valid key was given.",
    403: "The key does not open this.",
    404: "There is no such thing.",
    409: "It exists already, is in another collection, is not empty, or was changed meanwhile.",
    413: "The body, the code, the parameters or the annotations are too large.",
    415: "The body is not declared to be JSON, or is compressed.",
    422: "A binding refers to itself.",
    429: "Too many calls: of the namespace, or for the platform.",
    503: "The platform cannot do it now: no VM is usable, or its store is away or full.",
}


def _refusal(status: int, why: str) -> Answer:
    answer = told(why, ref("Error"))
    if status == 401:
        answer["headers"]["WWW-Authenticate"] = _header("Challenge")
    if status in (429, 503):
        answer["headers"]["Retry-After"] = _header("RetryAfter")
    return answer
