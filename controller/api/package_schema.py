"""The body of a package PUT: read, checked, merged into a document; how packages and bindings are shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from controller.api.entity import Common, KeyValues, merged_parameters, read_common, shown
from controller.api.errors import ApiError, malformed
from controller.api.params import check_name, check_namespace
from fallow.infra.records import ActionDoc, PackageDoc

NO_BINDING_MADE = "Resource is a package and cannot be converted into a binding."
BINDING = "binding"  # the annotation that tells clients which package a binding stands for
FEED = "feed"  # the annotation by which an action is a feed


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagePatch:
    """What a PUT gives. `binding`: "namespace/package", "" = none."""

    common: Common
    binding: str


def read_package(body: dict[str, Any], namespace: str) -> PackagePatch:
    """`namespace` is the one that `_` stands for in a binding. Raises ApiError 400, and 413 for sizes."""
    return PackagePatch(common=read_common(body), binding=_binding(body.get("binding"), namespace))


def _binding(value: Any, namespace: str) -> str:
    if value is None or value == {}:
        return ""
    if not isinstance(value, dict):
        raise malformed("binding must be an object with 'namespace' and 'name'.")
    provider_namespace, name = value.get("namespace"), value.get("name")
    if not isinstance(provider_namespace, str) or not isinstance(name, str):
        raise malformed("binding must be an object with 'namespace' and 'name', which are strings.")
    provider_namespace = namespace if provider_namespace == "_" else check_namespace(provider_namespace)
    return f"{provider_namespace}/{check_name(name)}"


def merged_package(
    old: PackageDoc | None, patch: PackagePatch, *, namespace: str, name: str, now_unix_ms: int
) -> PackageDoc:
    """The document after a PUT: given fields replace, the patch version is bumped, a binding stays one.

    Raises ApiError 409 for a package that is to become a binding.
    """
    if old is not None and patch.binding and not old.binding:
        raise ApiError(409, NO_BINDING_MADE)
    given, before = patch.common, old or _nothing(namespace, name)
    binding = patch.binding or before.binding
    annotations = before.annotations if given.annotations is None else given.annotations
    return PackageDoc(
        namespace=namespace,
        name=name,
        version=given.next_version(old.version if old else None),
        revision=before.revision,
        updated_unix_ms=now_unix_ms,
        publish=before.publish if given.publish is None else given.publish,
        parameters=before.parameters if given.parameters is None else given.parameters,
        annotations=_with_binding(annotations, binding),
        binding=binding,
    )


def _nothing(namespace: str, name: str) -> PackageDoc:
    return PackageDoc(namespace=namespace, name=name, version="", revision="", updated_unix_ms=0)


def _with_binding(annotations: KeyValues, binding: str) -> KeyValues:
    others = [item for item in annotations if item["key"] != BINDING]
    return [*others, {"key": BINDING, "value": _reference(binding)}] if binding else others


def _reference(binding: str) -> dict[str, str]:
    namespace, _, name = binding.partition("/")
    return {"namespace": namespace, "name": name}


def package_entity(doc: PackageDoc) -> dict[str, Any]:
    """The package as PUT and DELETE show it; `binding` is {} for one that is no binding."""
    return {**shown(doc), "parameters": doc.parameters, "binding": _reference(doc.binding) if doc.binding else {}}


def package_item(doc: PackageDoc) -> dict[str, Any]:
    """The package as lists show it."""
    return {**shown(doc), "binding": _reference(doc.binding) if doc.binding else False}


def package_contents(layers: tuple[PackageDoc, ...], actions: Iterable[ActionDoc]) -> dict[str, Any]:
    """The package as GET shows it: a binding's parameters stand over the package's, and its actions are that one's."""
    items: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    for doc in actions:
        is_feed = any(item["key"] == FEED for item in doc.annotations)
        name = doc.name.rpartition("/")[2]
        items[is_feed].append({"name": name, "version": doc.version, "annotations": doc.annotations})
    return {
        **package_entity(layers[-1]),
        "parameters": merged_parameters(*(layer.parameters for layer in layers)),
        "actions": items[False],
        "feeds": items[True],
    }
