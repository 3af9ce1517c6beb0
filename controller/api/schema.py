"""The body of an action PUT: read, checked, merged into a document."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from controller.api.code import BLACKBOX, Code
from controller.api.errors import malformed, too_large
from controller.api.http import dump, dump_given
from fallow.infra.records import ActionDoc

MAX_CODE_BYTES = 48 << 20
MAX_PARAMETERS_BYTES = 1 << 20
MAX_KEYS = 10_000  # of parameters and of annotations, each
MIN_TIMEOUT_MS = 100
MIN_MEMORY_MB = 128
MAX_LOGS_MB = 10
MAX_CONCURRENCY = 1
MAX_IMAGE_CHARACTERS = 512
_VERSION = re.compile(r"\A(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\Z")

_IMAGE = re.compile(
    r"\A(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?/)?"  # registry
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"  # path
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?\Z"  # tag, digest
)

KeyValues = list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What an action may ask for here."""

    max_timeout_ms: int
    max_memory_mb: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Exec:
    """`exec` of the body: which runtime, what code. `kind` is as the client named it."""

    kind: str
    code: str
    main: str | None
    image: str | None = None  # blackbox only


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """What a PUT gives; None = not given, so an update leaves it as it is."""

    exec: Exec | None
    parameters: KeyValues | None
    annotations: KeyValues | None
    del_annotations: tuple[str, ...]
    version: str | None
    publish: bool | None
    timeout_ms: int | None
    memory_mb: int | None
    logs_mb: int | None
    concurrency: int | None


def read_patch(body: dict[str, Any], bounds: Bounds) -> Patch:
    """Checks every field. Raises ApiError 400 (413 for sizes); unknown fields are ignored, as clients send some."""
    limits = _limits(body.get("limits"))
    patch = Patch(
        exec=_exec(body["exec"]) if body.get("exec") is not None else None,
        parameters=_key_values(body.get("parameters"), "parameters"),
        annotations=_key_values(body.get("annotations"), "annotations"),
        del_annotations=_names(body.get("delAnnotations")),
        version=_version(body.get("version")),
        publish=_boolean(body.get("publish"), "publish"),
        timeout_ms=limits.get("timeout"),
        memory_mb=limits.get("memory"),
        logs_mb=limits.get("logs"),
        concurrency=limits.get("concurrency"),
    )
    _check_limits(patch, bounds)
    _check_fallow_annotations(patch.annotations or [])
    return patch


def _exec(value: Any) -> Exec:
    if not isinstance(value, dict):
        raise malformed("exec must be an object with 'kind' and 'code'.")
    kind, code, main = value.get("kind"), value.get("code"), value.get("main")
    if not isinstance(kind, str) or not kind:
        raise malformed("'kind' must be a string defined in 'exec'.")
    if code is not None and not isinstance(code, str):
        raise malformed(f"'code' must be a string defined in 'exec' for '{kind}' actions.")
    if main is not None and (not isinstance(main, str) or not main):
        raise malformed("'main' must be a string if defined in 'exec'.")
    return Exec(kind=kind, code=code or "", main=main, image=_image(value) if kind == BLACKBOX else None)


def _image(value: dict[str, Any]) -> str:
    """The image of a blackbox, as Docker names one: [registry/]path[:tag][@digest]."""
    image = value.get("image")
    if not isinstance(image, str) or not image:
        raise malformed(f"'image' must be a string defined in 'exec' for '{BLACKBOX}' actions.")
    if len(image) > MAX_IMAGE_CHARACTERS or not _IMAGE.match(image):
        raise malformed(f"'image' is {image[:MAX_IMAGE_CHARACTERS]!r}, which is no name of a container image.")
    return image


def _key_values(value: Any, field: str) -> KeyValues | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > MAX_KEYS:
        raise malformed(f"{field} must be an array of at most {MAX_KEYS} objects with 'key' and 'value'.")
    by_key: dict[str, dict[str, Any]] = {}
    for item in value:
        if not isinstance(item, dict) or not isinstance(item.get("key"), str) or not item["key"]:
            raise malformed(f"every item of {field} must be an object with 'key' (a string) and 'value'.")
        kept = {"key": item["key"], "value": item.get("value")}
        if field == "parameters" and item.get("init") is True:
            kept["init"] = True
        by_key[item["key"]] = kept
    pairs = list(by_key.values())
    size = len(dump_given(pairs))
    if size > MAX_PARAMETERS_BYTES:
        raise too_large(field, size, MAX_PARAMETERS_BYTES)
    return pairs


def _names(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise malformed("delAnnotations must be an array of strings.")
    return tuple(value)


def _version(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not _VERSION.match(value):
        raise malformed("version must be a string of the form 'major.minor.patch'.")
    return value


def _boolean(value: Any, field: str) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise malformed(f"{field} must be true or false.")


def _limits(value: Any) -> dict[str, int]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise malformed("limits must be an object.")
    found: dict[str, int] = {}
    for name in ("timeout", "memory", "logs", "concurrency"):
        number = value.get(name)
        if number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, int):
            raise malformed(f"limit '{name}' must be a whole number.")
        found[name] = number
    return found


def _check_limits(patch: Patch, bounds: Bounds) -> None:
    _in_range(patch.timeout_ms, MIN_TIMEOUT_MS, bounds.max_timeout_ms, "duration", " milliseconds")
    _in_range(patch.memory_mb, MIN_MEMORY_MB, bounds.max_memory_mb, "memory size", " MB")
    _in_range(patch.logs_mb, 0, MAX_LOGS_MB, "log size", " MB")
    _in_range(patch.concurrency, 1, MAX_CONCURRENCY, "concurrency", "")


def _in_range(value: int | None, least: int, most: int, what: str, unit: str) -> None:
    if value is None:
        return
    if value > most:
        raise malformed(f"{what} {value}{unit} exceeds allowed threshold of {most}{unit}")
    if value < least:
        raise malformed(f"{what} {value}{unit} below allowed threshold of {least}{unit}")


def _check_fallow_annotations(annotations: KeyValues) -> None:
    """Annotations that steer placement are refused when their type is wrong: ignored ones would surprise later."""
    for item in annotations:
        key, value = item["key"], item["value"]
        if key in ("idempotent", "long", "final") and not isinstance(value, bool):
            raise malformed(f"annotation '{key}' must be true or false.")
        if key == "app" and not isinstance(value, str):
            raise malformed("annotation 'app' must be a string.")


def merged(
    old: ActionDoc | None, patch: Patch, code: Code | None, *, namespace: str, name: str, now_unix_ms: int
) -> ActionDoc:
    """The document after a PUT: given fields replace, limits and annotations merge, the patch version is bumped.

    `code` is None where the body has no `exec`. Raises ApiError 400 for a new action without one.
    """
    if old is None and code is None:
        raise malformed("exec undefined")
    base = old or ActionDoc(
        namespace=namespace, name=name, version="0.0.0", revision="", updated_unix_ms=0, kind=code.kind if code else ""
    )
    if code is not None and patch.exec is not None:
        base = replace(
            base,
            kind=code.kind,
            binary=code.binary,
            main=patch.exec.main,
            image=patch.exec.image,
            code_digest=code.digest,
            code_bytes=len(code.content),
        )
    return replace(
        base,
        version=patch.version or bumped(base.version),
        updated_unix_ms=now_unix_ms,
        publish=base.publish if patch.publish is None else patch.publish,
        parameters=base.parameters if patch.parameters is None else patch.parameters,
        annotations=_merged_annotations(base, patch),
        timeout_ms=patch.timeout_ms or base.timeout_ms,
        memory_mb=patch.memory_mb or base.memory_mb,
        logs_mb=base.logs_mb if patch.logs_mb is None else patch.logs_mb,
        concurrency=patch.concurrency or base.concurrency,
    )


def bumped(version: str) -> str:
    """The next patch version: "0.0.1" after "0.0.0"."""
    major, minor, patch = version.split(".")
    return f"{major}.{minor}.{int(patch) + 1}"


def _merged_annotations(base: ActionDoc, patch: Patch) -> KeyValues:
    merged_by_key = {item["key"]: item["value"] for item in base.annotations}
    for name in patch.del_annotations:
        merged_by_key.pop(name, None)
    merged_by_key.update({item["key"]: item["value"] for item in patch.annotations or []})
    merged_by_key.setdefault("provide-api-key", False)
    merged_by_key.pop("exec", None)
    pairs = [{"key": key, "value": value} for key, value in merged_by_key.items()]
    size = len(dump(pairs))
    if size > MAX_PARAMETERS_BYTES:
        raise too_large("annotations", size, MAX_PARAMETERS_BYTES)
    return [*pairs, {"key": "exec", "value": base.kind}]


def annotation(annotations: Sequence[dict[str, Any]], key: str) -> Any:
    """The value of an annotation; None where there is none."""
    return next((item["value"] for item in annotations if item["key"] == key), None)


def entity(doc: ActionDoc, code: str | None) -> dict[str, Any]:
    """The action as GET, PUT and DELETE show it; `code` None leaves `exec.code` out."""
    executable: dict[str, Any] = {"kind": doc.kind, "binary": doc.binary}
    if doc.image is not None:
        executable["image"] = doc.image
    if code is not None and (code or doc.kind != BLACKBOX):
        executable["code"] = code
    if doc.main is not None:
        executable["main"] = doc.main
    return {**_common(doc), "exec": executable, "parameters": doc.parameters}


def list_item(doc: ActionDoc) -> dict[str, Any]:
    return {**_common(doc), "exec": {"binary": doc.binary}}


def _common(doc: ActionDoc) -> dict[str, Any]:
    package, _, name = doc.name.rpartition("/")
    return {
        "namespace": f"{doc.namespace}/{package}" if package else doc.namespace,
        "name": name,
        "version": doc.version,
        "publish": doc.publish,
        "updated": doc.updated_unix_ms,
        "annotations": doc.annotations,
        "limits": {
            "timeout": doc.timeout_ms,
            "memory": doc.memory_mb,
            "logs": doc.logs_mb,
            "concurrency": doc.concurrency,
        },
    }
