"""What goes in and out of the API, as the schemas of its OpenAPI document. Answers have no fields but those named."""

from __future__ import annotations

from typing import Any

from controller.api.entity import MAX_KEYS
from controller.api.params import MAX_NAME
from controller.api.schema import MAX_CONCURRENCY, MAX_LOGS_MB, MIN_MEMORY_MB, MIN_TIMEOUT_MS, Bounds
from fallow.infra.records import RIGHTS

Schema = dict[str, Any]

NAME_PATTERN = "^([A-Za-z0-9_]|[A-Za-z0-9_][A-Za-z0-9_@ .&-]{0,254}[A-Za-z0-9_@.&-])$"
VERSION_PATTERN = r"^(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})$"
ID_PATTERN = "^[0-9a-fA-F]{32}$"

ANY: Schema = {}
TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
OBJECT: Schema = {"type": "object"}
ID: Schema = {"type": "string", "pattern": ID_PATTERN}
NAME: Schema = {"type": "string", "pattern": NAME_PATTERN, "maxLength": MAX_NAME}
VERSION: Schema = {"type": "string", "pattern": VERSION_PATTERN, "example": "0.0.1"}
MOMENT: Schema = {"type": "integer", "description": "Milliseconds since the epoch."}


def ref(name: str) -> Schema:
    """The schema of that name."""
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def record(optional: dict[str, Schema] | None = None, /, **fields: Schema) -> Schema:
    """An object with these fields, and perhaps some of `optional`."""
    needed = {"required": list(fields)} if fields else {}
    return {"type": "object", **needed, "properties": {**fields, **(optional or {})}}


def given(**fields: Schema) -> Schema:
    """The body of a PUT: what is not given, or null, stays as it is. Further fields are ignored: clients send some."""
    properties = {name: {**field, "nullable": True} if "type" in field else field for name, field in fields.items()}
    return {"type": "object", "properties": properties}


def schemas(bounds: Bounds) -> dict[str, Schema]:
    """All of them by name; `bounds` is what an action may ask for here."""
    return {**_shared(bounds), **_actions(), **_others(), **_activations(), **_platform()}


_PARAMETERS = array(ref("Parameter"), maxItems=MAX_KEYS)
_ANNOTATIONS = array(ref("Annotation"), maxItems=MAX_KEYS)
_COMMON_GIVEN = {"annotations": _ANNOTATIONS, "version": VERSION, "publish": FLAG}
_SHOWN = {
    "namespace": {"type": "string", "description": "Of an action in a package: namespace/package."},
    "name": NAME,
    "version": VERSION,
    "publish": FLAG,
    "updated": MOMENT,
    "annotations": _ANNOTATIONS,
}
_REFERENCE = record(path=TEXT, name=NAME)
_BOUND_TO = record(namespace=NAME, name=NAME)


def _shared(bounds: Bounds) -> dict[str, Schema]:
    limits = {
        "timeout": _range(MIN_TIMEOUT_MS, bounds.max_timeout_ms, "Milliseconds."),
        "memory": _range(MIN_MEMORY_MB, bounds.max_memory_mb, "MB."),
        "logs": _range(0, MAX_LOGS_MB, "MB."),
        "concurrency": _range(1, MAX_CONCURRENCY, "Calls at once in one container."),
    }
    pair: dict[str, Schema] = {"key": {"type": "string", "minLength": 1}, "value": ANY}
    init = {"init": {"type": "boolean", "description": "It is given to the start of the container, too."}}
    most = {"instances": {"type": "integer", "minimum": 1, "description": "The most containers at once."}}
    return {
        "Error": record(
            error={"type": "string", "description": "What is wrong, for people."},
            code={"type": "string", "description": "The request's id: X-Request-ID."},
        ),
        "Annotation": record(**pair),
        "Parameter": record(init, **pair),
        "Limits": record(most, **limits),
        "LimitsGiven": given(**limits, **most),
    }


def _range(least: int, most: int, unit: str) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most, "description": unit}


def _actions() -> dict[str, Schema]:
    kind = {"type": "string", "minLength": 1, "example": "python:default"}
    code = {"type": "string", "description": "Source text, or a zip in base64."}
    main = {"type": "string", "minLength": 1, "description": "The function to call, if not main."}
    binary = {"type": "boolean", "description": "The code is a zip; not told of a sequence."}
    image = {"type": "string", "example": "docker.io/user/image:tag"}
    components = array({"type": "string", "example": "/_/first"})
    return {
        "CodeExec": record({"main": {**main, "nullable": True}, "binary": FLAG}, kind=kind, code=code),
        "BlackboxExec": record(
            {"code": {**code, "nullable": True}, "main": {**main, "nullable": True}, "binary": FLAG},
            kind={"type": "string", "enum": ["blackbox"]},
            image=image,
        ),
        "SequenceExec": record(kind={"type": "string", "enum": ["sequence"]}, components=components),
        "ActionGiven": given(
            exec={"anyOf": [ref("CodeExec"), ref("BlackboxExec"), ref("SequenceExec")]},
            parameters=_PARAMETERS,
            **_COMMON_GIVEN,
            delAnnotations=array(TEXT, description="Annotations to remove."),
            limits=ref("LimitsGiven"),
        ),
        "Action": record(
            **_SHOWN,
            parameters=_PARAMETERS,
            limits=ref("Limits"),
            exec=record(
                {"code": code, "binary": binary, "main": main, "image": image, "components": components},
                kind=kind,
            ),
        ),
        "ActionItem": record(**_SHOWN, limits=ref("Limits"), exec=record(binary=FLAG)),
    }


def _others() -> dict[str, Schema]:
    nothing: Schema = {"type": "object", "maxProperties": 0}
    binding: Schema = {
        "type": "object",
        "anyOf": [_BOUND_TO, nothing],
        "description": "The package that this one stands for.",
    }
    package = {**_SHOWN, "parameters": _PARAMETERS, "binding": binding}
    inside = array(record(name=NAME, version=VERSION, annotations=_ANNOTATIONS))
    status = {"type": "string", "enum": ["active", "inactive"]}
    reference = {"anyOf": [{"type": "string", "example": "/_/name"}, _REFERENCE]}
    rule = {**_SHOWN, "trigger": _REFERENCE, "action": _REFERENCE}
    return {
        "PackageGiven": given(binding=binding, parameters=_PARAMETERS, **_COMMON_GIVEN),
        "Package": record(**package),
        "PackageContents": record(**package, actions=inside, feeds=inside),
        "PackageItem": record(**_SHOWN, binding={"anyOf": [_BOUND_TO, {"type": "boolean", "enum": [False]}]}),
        "TriggerGiven": given(parameters=_PARAMETERS, **_COMMON_GIVEN),
        "Trigger": record(
            {"rules": {"type": "object", "additionalProperties": record(action=_REFERENCE, status=status)}},
            **_SHOWN,
            parameters=_PARAMETERS,
            limits=OBJECT,
        ),
        "TriggerItem": record(**_SHOWN),
        "RuleGiven": given(trigger=reference, action=reference, **_COMMON_GIVEN),
        "Rule": record(**rule, status=status),
        "RuleItem": record(**rule),
        "RuleStatus": record(status=status),
    }


def _activations() -> dict[str, Schema]:
    shown = {
        "namespace": TEXT,
        "name": NAME,
        "version": VERSION,
        "activationId": ID,
        "start": MOMENT,
        "publish": FLAG,
        "annotations": _ANNOTATIONS,
    }
    untold = {  # of a fired trigger, which takes no time; of what nothing caused
        "end": MOMENT,
        "duration": {"type": "integer", "description": "Milliseconds."},
        "cause": {**ID, "description": "The activation that this one is part of."},
    }
    texts = ["success", "application error", "action developer error", "whisk internal error"]
    return {
        "ActivationId": record(activationId=ID),
        "Response": record(
            status={"type": "string", "enum": texts},
            success=FLAG,
            result={"description": "What the action returned: an object or an array."},
            size={"type": "integer", "description": "Bytes of the result."},
        ),
        "Activation": record(
            untold,
            **shown,
            subject=TEXT,
            response=ref("Response"),
            logs=array(
                TEXT, description="Lines; ids of the components of a sequence, a JSON text for each rule of a trigger."
            ),
        ),
        "ActivationItem": record(
            untold,
            **shown,
            subject=TEXT,
            statusCode={"type": "integer", "minimum": 0, "maximum": 3},
        ),
        "Logs": record(logs=array(TEXT)),
        "Result": {"description": "What the action returned: an object or an array.", "anyOf": [OBJECT, array(ANY)]},
        "Story": {
            "type": "object",
            "required": ["activationId", "attempts", "steps"],
            "description": "Why it ran there.",
        },
    }


def _platform() -> dict[str, Schema]:
    quotas = ("invocations_per_minute", "concurrent_invocations", "fires_per_minute")
    rights = array({"type": "string", "enum": list(RIGHTS)})
    key = {"namespace": NAME, "subject": TEXT, "uuid": TEXT}
    runtime = record(kind=TEXT, image=TEXT, deprecated=FLAG, default=FLAG, attached=FLAG, requireMain=FLAG)
    return {
        "ServiceInfo": record(
            description=TEXT,
            support=OBJECT,
            api_paths=array(TEXT),
            limits={"type": "object", "additionalProperties": WHOLE},
            runtimes={"type": "object", "additionalProperties": array(runtime)},
        ),
        "ApiInfo": record(
            description=TEXT,
            api_version=VERSION,
            api_version_path=TEXT,
            build=TEXT,
            buildno=TEXT,
            swagger_paths=record(**{"ui": TEXT, "api-docs": TEXT}),
        ),
        "NamespaceLimits": {"type": "object", "additionalProperties": WHOLE},
        "Invokers": {"type": "object", "additionalProperties": {"type": "string", "enum": ["up", "down"]}},
        "Done": record(vm=TEXT, done=TEXT),
        "Resize": record(cores={"type": "number", "minimum": 0}),
        "Evict": record({"notice_s": {"type": "number", "minimum": 0, "nullable": True}}),
        "Key": record({"rights": rights}, **key),
        "NewKey": record({"rights": rights}, **key, key={"type": "string", "description": "Shown this once."}),
        "Keys": record(keys=array(ref("Key"))),
        "KeyWanted": record({"subject": {**TEXT, "nullable": True}, "rights": rights}, namespace=NAME),
        "KeyGiven": record({"subject": {**TEXT, "nullable": True}, "rights": rights}, namespace=NAME, key=TEXT),
        "Revoked": record(uuid=TEXT, done=TEXT),
        "Quotas": record(
            namespace=NAME, **dict.fromkeys(quotas, WHOLE), set=array({"type": "string", "enum": [*quotas]})
        ),
        "QuotasGiven": {**given(**{name: {"type": "integer", "minimum": 0} for name in quotas}), "minProperties": 1},
    }
