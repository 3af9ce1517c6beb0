"""The body of an action PUT: read, checked, merged into a document."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from controller.actions_cache import SEQUENCE
from controller.api.code import BLACKBOX, Code
from controller.api.entity import Common, KeyValues, bounded, merged_annotations, merged_parameters, read_common, shown
from controller.api.errors import ApiError, malformed
from fallow.infra.records import ActionDoc

MAX_CODE_BYTES = 48 << 20
MIN_TIMEOUT_MS = 100
MIN_MEMORY_MB = 128
MAX_LOGS_MB = 10
MAX_CONCURRENCY = 1
MAX_IMAGE_CHARACTERS = 512

_IMAGE = re.compile(
    r"\A(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?/)?"  # registry
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"  # path
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?\Z"  # tag, digest
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What an action may ask for here."""

    max_timeout_ms: int
    max_memory_mb: int
    deprecated_kinds: frozenset[str] = frozenset()  # may be read and deleted, neither put nor invoked


@dataclass(frozen=True, slots=True, kw_only=True)
class Exec:
    """`exec` of the body: which runtime, what code. `kind` is as the client named it."""

    kind: str
    code: str
    main: str | None
    image: str | None = None  # blackbox only
    components: tuple[str, ...] | None = None  # of a sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """What a PUT gives; None = not given, so an update leaves it as it is."""

    exec: Exec | None
    common: Common
    timeout_ms: int | None
    memory_mb: int | None
    logs_mb: int | None
    concurrency: int | None
    instances: int | None


def read_patch(body: dict[str, Any], bounds: Bounds) -> Patch:
    """Checks every field. Raises ApiError 400 (413 for sizes); unknown fields are ignored, as clients send some."""
    limits = _limits(body.get("limits"))
    patch = Patch(
        exec=_exec(body["exec"]) if body.get("exec") is not None else None,
        common=read_common(body),
        timeout_ms=limits.get("timeout"),
        memory_mb=limits.get("memory"),
        logs_mb=limits.get("logs"),
        concurrency=limits.get("concurrency"),
        instances=limits.get("instances"),
    )
    _check_limits(patch, bounds)
    _check_fallow_annotations(patch.common.annotations or [])
    return patch


def _exec(value: Any) -> Exec:
    if not isinstance(value, dict):
        raise malformed("exec must be an object with 'kind' and 'code'.")
    kind, code, main = value.get("kind"), value.get("code"), value.get("main")
    if not isinstance(kind, str) or not kind:
        raise malformed("'kind' must be a string defined in 'exec'.")
    if kind == SEQUENCE:
        return Exec(kind=kind, code="", main=None, components=_components(value.get("components")))
    if code is not None and not isinstance(code, str):
        raise malformed(f"'code' must be a string defined in 'exec' for '{kind}' actions.")
    if main is not None and (not isinstance(main, str) or not main):
        raise malformed("'main' must be a string if defined in 'exec'.")
    return Exec(kind=kind, code=code or "", main=main, image=_image(value) if kind == BLACKBOX else None)


def _components(value: Any) -> tuple[str, ...]:
    """As the client named them."""
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise malformed("'components' must be an array of strings defined in 'exec' for 'sequence' actions.")
    return tuple(value)


def _image(value: dict[str, Any]) -> str:
    """The image of a blackbox, as Docker names one: [registry/]path[:tag][@digest]."""
    image = value.get("image")
    if not isinstance(image, str) or not image:
        raise malformed(f"'image' must be a string defined in 'exec' for '{BLACKBOX}' actions.")
    if len(image) > MAX_IMAGE_CHARACTERS or not _IMAGE.match(image):
        raise malformed(f"'image' is {image[:MAX_IMAGE_CHARACTERS]!r}, which is no name of a container image.")
    return image


def _limits(value: Any) -> dict[str, int]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise malformed("limits must be an object.")
    found: dict[str, int] = {}
    for name in ("timeout", "memory", "logs", "concurrency", "instances"):
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
    _in_range(patch.instances, 1, None, "max action instance concurrency", "")


def check_instances(patch: Patch, most: int) -> None:
    """Raises ApiError 400 for more containers than the action's namespace may have calls at once."""
    if patch.instances is not None and patch.instances > most:
        raise ApiError(400, f"Max action instance concurrency must not exceed your namespace concurrency of {most}.")


def _in_range(value: int | None, least: int, most: int | None, what: str, unit: str) -> None:
    if value is None:
        return
    if most is not None and value > most:
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
        raise ApiError(400, "exec undefined")
    common = patch.common
    base = old or ActionDoc(
        namespace=namespace, name=name, version="", revision="", updated_unix_ms=0, kind=code.kind if code else ""
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
            components=list(patch.exec.components or ()),
        )
    return replace(
        base,
        version=common.next_version(old.version if old else None),
        updated_unix_ms=now_unix_ms,
        publish=base.publish if common.publish is None else common.publish,
        parameters=_parameters(old, patch),
        annotations=_annotations(base, common, new=old is None),
        timeout_ms=patch.timeout_ms or base.timeout_ms,
        memory_mb=patch.memory_mb or base.memory_mb,
        logs_mb=base.logs_mb if patch.logs_mb is None else patch.logs_mb,
        concurrency=patch.concurrency or base.concurrency,
        instances=patch.instances or base.instances,
    )


def _parameters(old: ActionDoc | None, patch: Patch) -> KeyValues:
    """A sequence's name its components: they are no action's that it is changed into, and cannot be put alone."""
    given = patch.common.parameters
    if old is None:
        return given or []
    if old.kind == SEQUENCE:
        return old.parameters if patch.exec is None else given or []
    return old.parameters if given is None else given


def _annotations(base: ActionDoc, common: Common, *, new: bool) -> KeyValues:
    merged_by_key = {item["key"]: item["value"] for item in merged_annotations(base.annotations, common)}
    if new:
        merged_by_key.setdefault("provide-api-key", False)
    merged_by_key.pop("exec", None)
    pairs = [{"key": key, "value": value} for key, value in merged_by_key.items()]
    return [*bounded(pairs, "annotations"), {"key": "exec", "value": base.kind}]


def entity(doc: ActionDoc, code: str | None, inherited: Sequence[KeyValues] = ()) -> dict[str, Any]:
    """The action as GET, PUT and DELETE show it; `code` None leaves `exec.code` out.

    `inherited`: parameters of its package, and of the binding to that through which it is read.
    """
    if doc.kind == SEQUENCE:
        executable: dict[str, Any] = {"kind": SEQUENCE, "components": [f"/{name}" for name in doc.components]}
        return {**_common(doc), "exec": executable, "parameters": merged_parameters(*inherited, doc.parameters)}
    executable = {"kind": doc.kind, "binary": doc.binary}
    if doc.image is not None:
        executable["image"] = doc.image
    if code is not None and (code or doc.kind != BLACKBOX):
        executable["code"] = code
    if doc.main is not None:
        executable["main"] = doc.main
    return {**_common(doc), "exec": executable, "parameters": merged_parameters(*inherited, doc.parameters)}


def list_item(doc: ActionDoc) -> dict[str, Any]:
    return {**_common(doc), "exec": {"binary": doc.binary}}


def _common(doc: ActionDoc) -> dict[str, Any]:
    limits = {"timeout": doc.timeout_ms, "memory": doc.memory_mb, "logs": doc.logs_mb, "concurrency": doc.concurrency}
    if doc.instances is not None:
        limits["instances"] = doc.instances
    return {**shown(doc), "limits": limits}
