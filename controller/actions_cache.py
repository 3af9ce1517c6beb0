"""Deployed actions ready to be invoked: what every call of a revision has in common, worked out once."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, NoReturn

from controller.api.schema import annotation
from fallow.core.model import ActionSpec
from fallow.infra import codec
from fallow.infra.log import get_logger
from fallow.infra.records import ActionDoc
from fallow.infra.store import Store, StoreError, StoreUnavailable

_KEPT = 20_000
_RETRY_S = 0.5

_log = get_logger("controller.actions")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """One revision of an action."""

    spec: ActionSpec
    encoded: bytes  # the spec as it travels
    parameters: dict[str, Any]  # stored arguments; those marked init are not among them
    stored_args: bytes  # the same as JSON text
    final: frozenset[str]  # parameters that a call may not override


class ActionsCache:
    """Deployed actions by (namespace, name).

    Changes by any controller are heard of. While none can be heard of, what is known counts as old: it is read again,
    and used as it is only where the store does not answer, so that warm calls survive the store's absence. Once that
    was noticed they do not even ask, for each would wait for its deadline.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[tuple[str, str], Deployed] = {}
        self._fresh: set[tuple[str, str]] = set()
        self._listening = False
        self._away = False  # the store, as the follower of changes found it
        self._changes = 0  # heard of so far

    async def get(self, namespace: str, name: str) -> Deployed | None:
        """None = no such action. Raises StoreUnavailable where it is not known here and the store is away."""
        key = (namespace, name)
        if key in self._fresh or (self._away and key in self._known):
            return self._known[key]
        changes_before = self._changes
        try:
            doc = await self._store.get_action(namespace, name)
        except StoreUnavailable:
            if key in self._known:
                return self._known[key]
            raise
        if doc is None:
            self.forget(namespace, name)
            return None
        return self._keep(doc, fresh=self._listening and changes_before == self._changes)

    def _keep(self, doc: ActionDoc, *, fresh: bool) -> Deployed:
        """`fresh` is False where a change was heard of while the document was on its way here."""
        key = (doc.namespace, doc.name)
        deployed = deploy(doc)
        if key not in self._known and len(self._known) >= _KEPT:
            oldest = next(iter(self._known))
            self.forget(*oldest)
        self._known[key] = deployed
        if fresh:
            self._fresh.add(key)
        return deployed

    def forget(self, namespace: str, name: str) -> None:
        """To be called after every own change as well: the next call reads what stands."""
        self._changes += 1
        self._known.pop((namespace, name), None)
        self._fresh.discard((namespace, name))

    async def follow_changes(self) -> NoReturn:
        """Hears of changes, for ever."""
        while True:
            try:
                async for change in self._store.action_changes():
                    self._changes += 1
                    if change is None:
                        self._fresh.clear()
                        self._listening, self._away = True, False
                    else:
                        self._fresh.discard((change.namespace, change.name))
            except StoreError as e:
                self._away = isinstance(e, StoreUnavailable)
                _log.warning("changes of actions are not heard of", error=str(e))
            self._listening = False
            self._fresh.clear()
            await asyncio.sleep(_RETRY_S)


def deploy(doc: ActionDoc) -> Deployed:
    """What the calls of this revision have in common."""
    arguments = {item["key"]: item["value"] for item in doc.parameters if not item.get("init")}
    spec = _spec(doc)
    final = annotation(doc.annotations, "final") is True
    return Deployed(
        spec=spec,
        encoded=codec.encode_action(spec),
        parameters=arguments,
        stored_args=json.dumps(arguments, separators=(",", ":")).encode(),
        final=frozenset(key for key, value in arguments.items() if value is not None) if final else frozenset(),
    )


def _spec(doc: ActionDoc) -> ActionSpec:
    long = annotation(doc.annotations, "long")
    package = doc.name.rpartition("/")[0]
    return ActionSpec(
        namespace=doc.namespace,
        name=doc.name,
        version=doc.version,
        revision=doc.revision,
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
        app=annotation(doc.annotations, "app") or package,
        provide_api_key=_truthy(annotation(doc.annotations, "provide-api-key")),
        init_env=tuple((item["key"], _env(item["value"])) for item in doc.parameters if item.get("init")),
        image=doc.image or "",
    )


def _truthy(value: Any) -> bool:
    """OpenWhisk takes everything but false, null, 0 and the empty string for a yes."""
    return value not in (None, False, 0, "")


def _env(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
