"""The packages that every cluster has from its start, in the namespace whisk.system and open to all.

What is to stand there is told by the folder functions/system: a manifest, and the sources of actions that VMs run.
Sources are read as text and never imported.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any, TypeVar

from controller.actions_cache import BUILTIN
from controller.api.code import DEFAULT_PYTHON
from controller.api.entity import FIRST_VERSION, PUT_TRIES, bumped
from fallow.infra.clock import unix_ms
from fallow.infra.log import get_logger
from fallow.infra.records import ActionDoc, PackageDoc
from fallow.infra.store import Conflict, PackageMissing, Store

NAMESPACE = "whisk.system"
_FOLDER = "functions.system"
_SHOWN = ("description", "parameters", "sampleInput", "sampleOutput", "feed")  # of an action, as its annotations

_log = get_logger("controller.system_packages")
D = TypeVar("D", ActionDoc, PackageDoc)


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemAction:
    """An action as it is to stand. `code` None: the controller runs it itself."""

    doc: ActionDoc
    code: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemPackage:
    doc: PackageDoc
    actions: tuple[SystemAction, ...]


def system_packages() -> tuple[SystemPackage, ...]:
    """What is to stand; versions, revisions and times are the store's to say."""
    manifest = json.loads(files(_FOLDER).joinpath("manifest.json").read_text())
    return tuple(_package(name, wish) for name, wish in manifest.items())


def _package(name: str, wish: dict[str, Any]) -> SystemPackage:
    doc = PackageDoc(
        namespace=NAMESPACE,
        name=name,
        version=FIRST_VERSION,
        revision="",
        updated_unix_ms=0,
        publish=True,
        parameters=_pairs(wish["parameters"]),
        annotations=_pairs({"description": wish["description"]}),
    )
    return SystemPackage(doc=doc, actions=tuple(_action(name, action, w) for action, w in wish["actions"].items()))


def _action(package: str, name: str, wish: dict[str, Any]) -> SystemAction:
    builtin = wish.get("builtin", False)
    code = None if builtin else files(_FOLDER).joinpath(package, f"{name}.py").read_bytes()
    kind = BUILTIN if builtin else DEFAULT_PYTHON
    shown = {key: wish[key] for key in _SHOWN if key in wish}
    doc = ActionDoc(
        namespace=NAMESPACE,
        name=f"{package}/{name}",
        version=FIRST_VERSION,
        revision="",
        updated_unix_ms=0,
        kind=kind,
        code_digest=hashlib.sha256(code).hexdigest() if code else "",
        code_bytes=len(code) if code else 0,
        annotations=_pairs({**shown, "provide-api-key": False, "exec": kind}),
    )
    return SystemAction(doc=doc, code=code)


def _pairs(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value} for key, value in values.items()]


async def install(store: Store) -> None:
    """Puts what is absent or other than it should be; what stands as it should is left alone, its version too.

    Two controllers that do this at once put one revision of each: the later one finds what the earlier put. Raises
    StoreError.
    """
    put: list[str] = []
    for package in system_packages():
        if await _put_package(store, package.doc):
            put.append(package.doc.name)
        put += [action.doc.name for action in package.actions if await _put_action(store, action)]
    if put:
        _log.info("system entities put", namespace=NAMESPACE, names=put)


async def _put_package(store: Store, doc: PackageDoc) -> bool:
    return await _settle(
        doc,
        lambda: store.get_entity(PackageDoc, NAMESPACE, doc.name),
        lambda new, expect: store.put_entity(new, expect=expect),
    )


async def _put_action(store: Store, action: SystemAction) -> bool:
    return await _settle(
        action.doc,
        lambda: store.get_action(NAMESPACE, action.doc.name),
        lambda new, expect: store.put_action(new, action.code, expect=expect),
    )


async def _settle(
    wish: D, get: Callable[[], Awaitable[D | None]], put: Callable[[D, str | None], Awaitable[D]]
) -> bool:
    """Whether it had to be put."""
    for _ in range(PUT_TRIES):
        old = await get()
        if old is not None and _same(old, wish):
            return False
        version = wish.version if old is None else bumped(old.version)
        try:
            await put(replace(wish, version=version, updated_unix_ms=unix_ms()), old.revision if old else None)
        except (Conflict, PackageMissing) as e:
            why = str(e)  # another controller is at it too; or the name is taken by an entity of another collection
            continue
        return True
    _log.warning("system entity not put", name=f"{NAMESPACE}/{wish.name}", error=why)
    return False


def _same(old: D, wish: D) -> bool:
    mine = replace(wish, version=old.version, revision=old.revision, updated_unix_ms=old.updated_unix_ms)
    return mine == old
