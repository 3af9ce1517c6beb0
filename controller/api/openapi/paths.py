"""The routes of the API, as the paths of its OpenAPI document: methods, parameters, bodies, answers."""

from __future__ import annotations

from controller.api.openapi.operations import NOBODY, OPERATOR, Answer, Links, Operation, links, operation, told
from controller.api.openapi.schemas import OBJECT, TEXT, WHOLE, Schema, array, record, ref

Path = dict[str, Operation]

NAMESPACE = "/api/v1/namespaces/{namespace}"
ENTITIES = {"Action": "actions", "Package": "packages", "Trigger": "triggers", "Rule": "rules"}
PAGE = ("limit", "skip", "count")
LIST = "400 401 403 503"
READ = "400 401 403 404 409 503"
WRITE = "400 401 403 404 409 413 415 503"
CALL = "400 401 403 404 409 413 415 429 503"
BINDINGS = " 422"  # where a binding may be read
_BINARY: Schema = {"type": "string", "format": "binary"}


def paths() -> dict[str, Path]:
    """Path to method to operation."""
    return {**_open(), **_entities(), **_activations(), **_operators()}


# ---- open to all ----------------------------------------------------------------------------------------------------


def _open() -> dict[str, Path]:
    return {
        "/": _for_all("getServiceInfo", "Limits and runtimes of the platform", ref("ServiceInfo")),
        "/ping": _for_all("ping", "Is anybody there?", {"type": "string", "enum": ["pong"]}, media="text/plain"),
        "/api/v1": _for_all("getApiInfo", "Version of the API", ref("ApiInfo")),
        "/api/v1/api-docs": _for_all("getApiDocument", "This document", OBJECT),
        "/api/v1/docs": _for_all("getDocs", "This document as a page", TEXT, media="text/html"),
        "/blackbox.tar.gz": _for_all(
            "getSkeleton", "The skeleton of an image for blackbox actions", _BINARY, media="application/gzip"
        ),
    }


def _for_all(name: str, summary: str, schema: Schema, *, media: str = "application/json") -> Path:
    answers = {200: told(f"{summary}.", schema, media=media)}
    heads = {200: told("Its headers.")}
    return {
        "get": operation(name, "open", summary, answers, security=NOBODY),
        "head": operation(f"{name}Head", "open", f"{summary}: headers alone", heads, security=NOBODY),
    }


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


# ---- the operator's -------------------------------------------------------------------------------------------------


def _operators() -> dict[str, Path]:
    admin = "/admin/v1"
    return {
        f"{admin}/status": _operators_get("getStatus", "Counters of this controller", OBJECT),
        f"{admin}/vms": _operators_get("listVms", "The VMs", record(vms=array(OBJECT), controllers=WHOLE)),
        f"{admin}/vms/{{vm}}/resize": _command("resize", "Resize", "Change a VM's cores"),
        f"{admin}/vms/{{vm}}/evict": _command("evict", "Evict", "Evict a VM, after a notice"),
        f"{admin}/vms/{{vm}}/withdraw": _command("withdraw", "", "Take back the notice of a VM's eviction"),
        f"{admin}/why/{{activationId}}": _operators_get(
            "getAnyStory", "Why an activation ran where it ran", ref("Story"), "400 401 404 503", "activationId"
        ),
        f"{admin}/keys": {
            **_operators_get("listKeys", "Keys, without their secrets", ref("Keys")),
            "put": _operators_write("putKey", "Grant a key that is given", "Key", "KeyGiven"),
            "post": _operators_write("makeKey", "Make a random key", "NewKey", "KeyWanted"),
        },
        f"{admin}/keys/{{uuid}}": {
            "delete": _operators_write("revokeKey", "Revoke a key", "Revoked", "", "400 401 404 503", "uuid")
        },
        f"{admin}/limits/{{namespace}}": {
            **_operators_get("getQuotas", "What a namespace may call", ref("Quotas"), "400 401 503", "namespace"),
            "put": _operators_write(
                "putQuotas", "Set limits of a namespace", "Quotas", "QuotasGiven", where="namespace"
            ),
            "delete": _operators_write("deleteQuotas", "Set none", "Quotas", "", "400 401 503", "namespace"),
        },
        "/invokers": _operators_get("listInvokers", "The VMs as OpenWhisk lists invokers", ref("Invokers"), "401"),
        "/metrics": {
            "get": operation(
                "getMetrics",
                "operator",
                "Metrics for Prometheus",
                {200: told("Prometheus' text format.", TEXT, media="text/plain")},
                "401",
                security=OPERATOR,
            )
        },
        "/disable": {
            "post": operation(
                "disable",
                "operator",
                "Have this controller take no more calls",
                {200: told("It takes none.", TEXT, media="text/plain")},
                "401",
                security=OPERATOR,
            )
        },
    }


def _operators_get(name: str, summary: str, schema: Schema, refused: str = "401 503", *where: str) -> Path:
    answers = {200: told(f"{summary}.", schema)}
    return {"get": operation(name, "operator", summary, answers, refused, parameters=where, security=OPERATOR)}


def _operators_write(
    name: str, summary: str, answer: str, body: str, refused: str = "400 401 413 415 503", where: str = ""
) -> Operation:
    parameters = [where] if where else []
    answers = {200: told(f"{summary}.", ref(answer))}
    return operation(name, "operator", summary, answers, refused, parameters=parameters, body=body, security=OPERATOR)


def _command(verb: str, body: str, summary: str) -> Path:
    return {
        "post": operation(
            f"{verb}Vm",
            "operator",
            summary,
            {200: told("It is done.", ref("Done"))},
            "400 401 404 409 413 415 503",
            parameters=["vm"],
            body=body,
            needs_body=verb == "resize",
            security=OPERATOR,
        )
    }
