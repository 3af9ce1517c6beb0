"""The routes of the API, as the paths of its OpenAPI document: methods, parameters, bodies, answers."""

from __future__ import annotations

from controller.api.openapi.open_paths import open_paths
from controller.api.openapi.operations import Answer, Links, Operation, Path, links, operation, told
from controller.api.openapi.operator_paths import operator_paths
from controller.api.openapi.schemas import TEXT, Schema, array, record, ref

NAMESPACE = "/api/v1/namespaces/{namespace}"
ENTITIES = {"Action": "actions", "Package": "packages", "Trigger": "triggers", "Rule": "rules"}
PAGE = ("limit", "skip", "count")
LIST = "400 401 403 503"
READ = "400 401 403 404 409 503"
WRITE = "400 401 403 404 409 413 415 503"
CALL = "400 401 403 404 409 413 415 429 503"
BINDINGS = " 422"  # where a binding may be read


def paths() -> dict[str, Path]:
    """Path to method to operation."""
    return {**open_paths(), **_entities(), **_activations(), **operator_paths()}


# ---- entities -------------------------------------------------------------------------------------------------------


def _entities() -> dict[str, Path]:
    found: dict[str, Path] = {
        "/api/v1/namespaces": {
            "get": operation(
                "listNamespaces",
                "namespaces",
                "The caller's namespace",
                {200: told("Its name.", array(TEXT))},
                "401 503",
            )
        },
        f"{NAMESPACE}/limits": {
            "get": operation(
                "getLimits",
                "namespaces",
                "What the namespace and its actions may use",
                {200: told("The limits.", ref("NamespaceLimits"))},
                LIST,
                parameters=["namespace"],
            )
        },
    }
    for kind, collection in ENTITIES.items():
        found[f"{NAMESPACE}/{collection}"] = {"get": _list(kind, "", ("namespace",), LIST)}
        found[f"{NAMESPACE}/{collection}/{{{kind.lower()}}}"] = _entity(kind, "", (kind.lower(),))
    of_package = _list("Action", "OfPackage", ("namespace", "package"), READ + BINDINGS)
    found[f"{NAMESPACE}/actions/{{package}}/"] = {"get": of_package}
    found[f"{NAMESPACE}/actions/{{package}}/{{action}}"] = _entity("Action", "InPackage", ("package", "action"))
    return found


def _list(kind: str, ending: str, where: tuple[str, ...], refused: str) -> Operation:
    collection = ENTITIES[kind]
    summary = f"{collection.capitalize()}{' of a package' if ending else ''}, newest first"
    found = told("One page; with `count`, how many there are.", _page(collection, f"{kind}Item"))
    return operation(f"list{kind}s{ending}", collection, summary, {200: found}, refused, parameters=[*where, *PAGE])


def _page(collection: str, *items: str) -> Schema:
    counted = record(**{collection: {"type": "integer", "minimum": 0}})
    return {"anyOf": [*(array(ref(item)) for item in items), counted]}


def _entity(kind: str, ending: str, names: tuple[str, ...]) -> Path:
    """Of one entity: GET, PUT, DELETE, and POST where there is one. `ending` is "InPackage" for actions in packages."""
    tag, where = ENTITIES[kind], ("namespace", *names)
    word = f"{kind.lower()} of a package" if ending else kind.lower()
    code = ["code"] if kind == "Action" else []
    force = ["force"] if kind == "Package" else []
    bindings = BINDINGS if ending or kind == "Package" else ""
    put = told("As it is now.", ref(kind), links=_after_put(kind, ending, where))
    shown = ref("PackageContents" if kind == "Package" else kind)
    path = {
        "get": operation(
            f"get{kind}{ending}",
            tag,
            f"One {word}",
            {200: told(f"The {word}.", shown)},
            READ + bindings,
            parameters=[*where, *code],
        ),
        "put": operation(
            f"put{kind}{ending}",
            tag,
            f"Create or change one {word}",
            {200: put},
            WRITE,
            parameters=[*where, "overwrite"],
            body=f"{kind}Given",
        ),
        "delete": operation(
            f"delete{kind}{ending}",
            tag,
            f"Remove one {word}",
            {200: told("As it was.", ref(kind))},
            READ,
            parameters=[*where, *force],
        ),
    }
    match kind:
        case "Action":
            path["post"] = _invoke(ending, where, CALL + bindings)
        case "Trigger":
            path["post"] = _fire(where)
        case "Rule":
            path["post"] = _set_status(where)
    return path


def _after_put(kind: str, ending: str, where: tuple[str, ...]) -> Links:
    posts = {"Action": ["invokeAction"], "Trigger": ["fireTrigger"], "Rule": ["setStatusOfRule"]}.get(kind, [])
    names = [f"{verb}{ending}" for verb in (f"get{kind}", f"delete{kind}", *posts)]
    if kind == "Package":
        names += ["listActionsOfPackage", "putActionInPackage"]
    return links(names, **{name: f"$request.path.{name}" for name in where})


def _invoke(ending: str, where: tuple[str, ...], refused: str) -> Operation:
    ended, failed = [ref("Activation"), ref("Result")], [ref("Error"), ref("Activation"), ref("Result")]
    return operation(
        f"invokeAction{ending}",
        "actions",
        "Invoke an action",
        {
            200: told(
                "With `blocking`, the record; with `result`, and for an array always, what the action returned.",
                {"anyOf": ended},
                links=_to_record("$response.header.X-Openwhisk-Activation-Id"),
                with_id=True,
            ),
            202: _accepted("Accepted, or not ended in time."),
            500: told("With `blocking`: the platform failed.", {"anyOf": failed}),
            502: told("With `blocking`: the action failed.", {"anyOf": failed}),
        },
        refused,
        parameters=[*where, "blocking", "result", "timeout"],
        body="Arguments",
        needs_body=False,
    )


def _fire(where: tuple[str, ...]) -> Operation:
    nothing = told("It has no active rule: nothing runs, and there is no record.")
    return operation(
        "fireTrigger",
        "triggers",
        "Fire a trigger",
        {202: _accepted("Its active rules run their actions."), 204: nothing},
        CALL,
        parameters=where,
        body="Arguments",
        needs_body=False,
    )


def _set_status(where: tuple[str, ...]) -> Operation:
    answers = {200: told("As it is now.", ref("Rule"))}
    return operation(
        "setStatusOfRule", "rules", "Activate or deactivate a rule", answers, WRITE, parameters=where, body="RuleStatus"
    )


def _accepted(description: str) -> Answer:
    return told(description, ref("ActivationId"), links=_to_record("$response.body#/activationId"), with_id=True)


def _to_record(activation_id: str) -> Links:
    names = ("getActivation", "getResult", "getLogs", "getStory")
    return links(names, namespace="$request.path.namespace", activationId=activation_id)


# ---- activations ----------------------------------------------------------------------------------------------------


def _activations() -> dict[str, Path]:
    where = ("namespace", "activationId")
    found = {
        200: told("One page; with `count`, how many there are.", _page("activations", "ActivationItem", "Activation"))
    }
    listed = operation(
        "listActivations",
        "activations",
        "Activations, newest first",
        found,
        LIST,
        parameters=["namespace", "name", "since", "upto", "docs", *PAGE],
    )
    parts = {
        "": ("getActivation", "The record of one activation", "Activation"),
        "/result": ("getResult", "What it returned", "Response"),
        "/logs": ("getLogs", "What it wrote", "Logs"),
        "/why": ("getStory", "Why it ran where it ran, and what it waited for", "Story"),
    }
    return {f"{NAMESPACE}/activations": {"get": listed}} | {
        f"{NAMESPACE}/activations/{{activationId}}{part}": {
            "get": operation(
                name,
                "activations",
                summary,
                {200: told(f"{summary}.", ref(schema))},
                "400 401 403 404 503",
                parameters=where,
            )
        }
        for part, (name, summary, schema) in parts.items()
    }
