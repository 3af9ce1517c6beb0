"""Deployed actions ready to be invoked: what every call of a revision has in common, worked out once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from controller.api.entity import annotation, merged_parameters
from controller.api.errors import ApiError, forbidden
from controller.invalidation import Invalidation
from controller.packaging import layers, missing
from fallow.core.model import ActionSpec
from fallow.infra import codec
from fallow.infra.records import ActionDoc, PackageDoc
from fallow.infra.store import Change, Store, StoreUnavailable

SEQUENCE = "sequence"
CONDUCTOR = "conductor"
BUILTIN = "builtin"  # the kind, too, of such an action; no client can put one
_KEPT = 20_000

_Key = tuple[str, str, str]  # who calls, and the action as it is addressed: namespace, "[package/]action"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """One revision of an action as one namespace may invoke it, perhaps through a package binding."""

    spec: ActionSpec
    encoded: bytes  # the spec as it travels
    parameters: dict[str, Any]  # stored arguments, package < binding < action; those marked init are not among them
    stored_args: bytes  # the same as JSON text
    final: frozenset[str]  # parameters that a call may not override
    annotations: dict[str, Any]
    components: tuple[str, ...] = ()  # of a sequence: "namespace/[package/]action"
    composition: str = ""  # SEQUENCE, CONDUCTOR or BUILTIN: the controller runs it itself; "" = an invoker does


class ActionsCache:
    """Deployed actions by caller, namespace and name.

    Changes by any controller are heard of (controller.invalidation). While none can be heard of, what is known counts
    as old: it is read again, and used as it is only where the store does not answer, so that warm calls survive the
    store's absence. Once that was noticed they do not even ask, for each would wait for its deadline.
    """

    def __init__(self, store: Store, invalidation: Invalidation) -> None:
        self._store = store
        self._invalidation = invalidation
        self._known: dict[_Key, Deployed] = {}
        self._fresh: set[_Key] = set()
        self._addressed: dict[tuple[str, str], set[_Key]] = {}  # where an action stands, by all ways to address it
        self._changes = 0  # heard of so far

    async def get(self, namespace: str, name: str, caller: str = "") -> Deployed | None:
        """`caller` is the invoking namespace, "" = the action's own. None = no such action.

        Raises ApiError 403 for what the caller may not invoke and 422 for a binding to itself, StoreUnavailable where
        it is not known here and the store is away.
        """
        key = (caller or namespace, namespace, name)
        if key in self._fresh and self._invalidation.current:
            return self._known[key]
        if key in self._known and self._invalidation.away:
            return self._known[key]
        changes_before = self._changes
        try:
            found = await self._read(namespace, name, key[0])
        except StoreUnavailable:
            if key in self._known:
                return self._known[key]
            raise
        if found is None:
            self._drop(key)
            return None
        return self._keep(key, found, fresh=changes_before == self._changes)

    async def _read(self, namespace: str, name: str, caller: str) -> Deployed | None:
        package_name, _, action_name = name.rpartition("/")
        if not package_name:
            if caller != namespace:
                raise forbidden(f"{namespace}/{name}")
            doc = await self._store.get_action(namespace, name)
            return None if doc is None else deploy(doc, caller=caller)
        packages = await layers(self._store, namespace, package_name, caller)
        if not packages:
            return None
        doc = await self._store.get_action(packages[0].namespace, f"{packages[0].name}/{action_name}")
        return None if doc is None else deploy(doc, packages, caller=caller)

    async def missing(self, namespace: str, name: str) -> ApiError:
        """What to answer about an action that `get` did not find: 404, or 409 where another entity has its name."""
        return await missing(self._store, namespace, name)

    def _keep(self, key: _Key, deployed: Deployed, *, fresh: bool) -> Deployed:
        """`fresh` is False where a change was heard of while the documents were on their way here."""
        if key not in self._known and len(self._known) >= _KEPT:
            self._drop(next(iter(self._known)))
        self._known[key] = deployed
        self._addressed.setdefault((deployed.spec.namespace, deployed.spec.name), set()).add(key)
        if fresh:
            self._fresh.add(key)
        return deployed

    def _drop(self, key: _Key) -> None:
        deployed = self._known.pop(key, None)
        self._fresh.discard(key)
        if deployed is not None:
            stands = (deployed.spec.namespace, deployed.spec.name)
            ways = self._addressed.get(stands, set())
            ways.discard(key)
            if not ways:
                self._addressed.pop(stands, None)

    def forget(self, namespace: str, name: str) -> None:
        """To be called after every own change of an action as well: the next call reads what stands."""
        self._changes += 1
        for key in tuple(self._addressed.get((namespace, name), ())):
            self._drop(key)

    def forget_packaged(self) -> None:
        """A package or binding was put or deleted, here or elsewhere: rare enough to forget every action in one."""
        self._changes += 1
        for key in [key for key in self._known if "/" in key[2]]:
            self._drop(key)

    def heard(self, change: Change | None) -> None:
        """What the change replaced counts as old from here on; None = everything does."""
        self._changes += 1
        if change is None:
            self._fresh.clear()
        elif change.collection == "packages":
            self._fresh.difference_update([key for key in self._fresh if "/" in key[2]])
        elif change.collection == "actions":
            self._fresh.difference_update(self._addressed.get((change.namespace, change.name), ()))


def deploy(doc: ActionDoc, packages: Sequence[PackageDoc] = (), *, caller: str = "") -> Deployed:
    """What the calls of this revision have in common. `packages`: the one it is in, then the binding to that."""
    items = merged_parameters(*(package.parameters for package in packages), doc.parameters)
    arguments = {item["key"]: item["value"] for item in items if not item.get("init")}
    annotations = {item["key"]: item["value"] for item in doc.annotations}
    spec = _spec(doc, packages, items, caller)
    composition = _composition(doc.kind, annotations)
    if composition == SEQUENCE:
        arguments.pop("_actions", None)
    final = annotations.get("final") is True
    return Deployed(
        spec=spec,
        encoded=codec.encode_action(spec),
        parameters=arguments,
        stored_args=json.dumps(arguments, separators=(",", ":")).encode(),
        final=frozenset(item["key"] for item in items if item["value"] is not None) if final else frozenset(),
        annotations=annotations,
        components=tuple(doc.components),
        composition=composition,
    )


def _composition(kind: str, annotations: dict[str, Any]) -> str:
    if kind in (SEQUENCE, BUILTIN):
        return kind
    return CONDUCTOR if _truthy(annotations.get("conductor")) else ""


def _spec(doc: ActionDoc, packages: Sequence[PackageDoc], items: list[dict[str, Any]], caller: str) -> ActionSpec:
    long = annotation(doc.annotations, "long")
    init_env = tuple((item["key"], _env(item["value"])) for item in items if item.get("init"))
    inherited = any(item.get("init") for package in packages for item in package.parameters)
    return ActionSpec(
        namespace=doc.namespace,
        name=doc.name,
        version=doc.version,
        # A container keeps the environment it was initialised with: another one is another revision.
        revision=f"{doc.revision}-{_digest(init_env)}" if inherited else doc.revision,
        kind=doc.kind,
        main=doc.main or "main",
        binary=doc.binary,
        code_digest=doc.code_digest,
        memory_mb=doc.memory_mb,
        timeout_s=doc.timeout_ms / 1000,
        logs_mb=doc.logs_mb,
        concurrency=doc.concurrency,
        idempotent=annotation(doc.annotations, "idempotent") is not False,
        long=long if isinstance(long, bool) else None,
        app=annotation(doc.annotations, "app") or doc.name.rpartition("/")[0],
        provide_api_key=_truthy(annotation(doc.annotations, "provide-api-key")),
        init_env=init_env,
        image=doc.image or "",
        caller=caller if caller != doc.namespace else "",
        binding=f"{packages[1].namespace}/{packages[1].name}" if len(packages) > 1 else "",
    )


def _digest(init_env: tuple[tuple[str, str], ...]) -> str:
    return hashlib.sha256(json.dumps(init_env).encode()).hexdigest()[:16]


def _truthy(value: Any) -> bool:
    """OpenWhisk takes everything but false, null, 0 and the empty string for a yes."""
    return value not in (None, False, 0, "")


def _env(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
