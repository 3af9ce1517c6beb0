"""What actions, packages, triggers and rules have in common: fields of a PUT's body, versions, how they are shown,
and the way a document is read, merged and written."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from controller.api.errors import ApiError, malformed, too_large
from controller.api.http import dump_given
from fallow.infra.codec import CodecError
from fallow.infra.records import PackageDoc, RuleDoc, TriggerDoc
from fallow.infra.store import Conflict, Store

MAX_PARAMETERS_BYTES = 1 << 20
MAX_KEYS = 10_000  # of parameters and of annotations, each
FIRST_VERSION = "0.0.1"
EXISTS = "resource already exists"
OTHER_COLLECTION = "Resource by this name exists but is not in this collection."
CONCURRENT = "Concurrent modification to resource detected."
PUT_TRIES = 3
_COLLECTION: dict[type, str] = {PackageDoc: "packages", TriggerDoc: "triggers", RuleDoc: "rules"}
_VERSION = re.compile(r"\A(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\Z")

KeyValues = list[dict[str, Any]]
D = TypeVar("D", PackageDoc, TriggerDoc, RuleDoc)


class Entity(Protocol):
    """What documents of all collections have."""

    @property
    def namespace(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def publish(self) -> bool: ...
    @property
    def updated_unix_ms(self) -> int: ...
    @property
    def annotations(self) -> KeyValues: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What a PUT gives of the common fields; None = not given, so an update leaves it as it is."""

    parameters: KeyValues | None
    annotations: KeyValues | None
    del_annotations: tuple[str, ...]
    version: str | None
    publish: bool | None

    def next_version(self, old: str | None) -> str:
        """`old` is the standing document's version; None = there is none."""
        return self.version or (FIRST_VERSION if old is None else bumped(old))


def read_common(body: dict[str, Any]) -> Common:
    """Checks the common fields of a PUT's body. Raises ApiError 400, and 413 for sizes."""
    return Common(
        parameters=_key_values(body.get("parameters"), "parameters"),
        annotations=_key_values(body.get("annotations"), "annotations"),
        del_annotations=_names(body.get("delAnnotations")),
        version=_version(body.get("version")),
        publish=_boolean(body.get("publish"), "publish"),
    )


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
        if field == "parameters" and _boolean(item.get("init"), "'init' of a parameter"):
            kept["init"] = True
        by_key[item["key"]] = kept
    return bounded(list(by_key.values()), field)


def bounded(pairs: KeyValues, field: str) -> KeyValues:
    """`pairs` as they are. Raises ApiError 413 where they are larger than may be stored, 400 for what is no JSON."""
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


def bumped(version: str) -> str:
    """The next patch version: "0.0.1" after "0.0.0"."""
    major, minor, patch = version.split(".")
    return f"{major}.{minor}.{int(patch) + 1}"


def merged_annotations(old: KeyValues, given: Common) -> KeyValues:
    """Those that stand, without the ones to be deleted, under those given, key by key."""
    merged = {item["key"]: item["value"] for item in old}
    for name in given.del_annotations:
        merged.pop(name, None)
    merged.update({item["key"]: item["value"] for item in given.annotations or []})
    return [{"key": key, "value": value} for key, value in merged.items()]


def merged_parameters(*layers: Iterable[dict[str, Any]]) -> KeyValues:
    """Parameters of later layers stand over those of earlier ones, key by key."""
    return list({item["key"]: item for layer in layers for item in layer}.values())


def annotation(annotations: Sequence[dict[str, Any]], key: str) -> Any:
    """The value of an annotation; None where there is none."""
    return next((item["value"] for item in annotations if item["key"] == key), None)


def shown(doc: Entity) -> dict[str, Any]:
    """The fields that lists show of every entity."""
    package, _, name = doc.name.rpartition("/")
    return {
        "namespace": f"{doc.namespace}/{package}" if package else doc.namespace,
        "name": name,
        "version": doc.version,
        "publish": doc.publish,
        "updated": doc.updated_unix_ms,
        "annotations": doc.annotations,
    }


async def put_merged(
    store: Store,
    kind: type[D],
    namespace: str,
    name: str,
    merge: Callable[[D | None], Awaitable[D]],
    *,
    overwrite: bool,
) -> D:
    """Puts what `merge` makes of the standing document (None = there is none), if nobody changed it meanwhile.

    Raises ApiError 409 where one stands and may not be overwritten, where the name is an entity's of another
    collection, or where others change it again and again; and whatever `merge` raises.
    """
    collection = _COLLECTION[kind]
    for _ in range(PUT_TRIES):
        old = await store.get_entity(kind, namespace, name)
        if old is None:
            await refuse_other_collection(store, namespace, name, collection)
        elif not overwrite:
            raise ApiError(409, EXISTS)
        try:
            return await store.put_entity(await merge(old), expect=old.revision if old else None)
        except Conflict as e:
            refuse_conflict(e, collection, overwrite=overwrite)
        except CodecError as e:
            raise malformed(f"The entity holds a value that cannot be stored: {e}") from None
    raise ApiError(409, CONCURRENT)


def refuse_conflict(conflict: Conflict, collection: str, *, overwrite: bool) -> None:
    """Raises ApiError 409 unless what was to be put may be merged anew and put again."""
    if conflict.collection not in ("", collection):
        raise ApiError(409, OTHER_COLLECTION) from None
    if not overwrite:
        raise ApiError(409, EXISTS) from None


async def refuse_other_collection(store: Store, namespace: str, name: str, collection: str) -> None:
    """Raises ApiError 409 where the name is an entity's of another collection than this one."""
    if await store.entity_collection(namespace, name) not in (None, collection):
        raise ApiError(409, OTHER_COLLECTION)
