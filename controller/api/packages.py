"""Packages and bindings: put, get, delete, list."""

from __future__ import annotations

from aiohttp import web

from controller.actions_cache import ActionsCache
from controller.api import params
from controller.api.bodies import Bodies
from controller.api.entity import CONCURRENT, PUT_TRIES, put_merged, refuse_other_collection
from controller.api.errors import ApiError, forbidden, not_found
from controller.api.http import Call, answer, dump, parse_object
from controller.api.package_schema import (
    PackagePatch,
    merged_package,
    package_contents,
    package_entity,
    package_item,
    read_package,
)
from controller.packaging import readable
from fallow.infra.clock import unix_ms
from fallow.infra.records import ActionDoc, PackageDoc
from fallow.infra.store import NotEmpty, Store

MAX_BODY_BYTES = 8 << 20  # parameters and annotations, however they are written
RESERVED = frozenset({"default"})  # what the paths of web actions call no package
NO_PROVIDER = "Binding references a package that does not exist."
NO_PACKAGE = "Cannot bind to a resource that is not a package."
NO_CHAIN = "Cannot bind to another package binding."
_CHUNK = 50  # documents read at once where all of them are wanted: each may hold a megabyte of parameters


class Packages:
    """The routes of the collection."""

    def __init__(self, *, store: Store, cache: ActionsCache, bodies: Bodies) -> None:
        self._store = store
        self._cache = cache
        self._bodies = bodies

    async def list(self, request: Call) -> web.Response:
        """Of another namespace, whether there is one or not, only what is public and no binding."""
        page = params.page(request.query, "packages")
        if request.foreign:
            docs = [doc for doc in await _all_of(self._store, request.namespace) if doc.publish and not doc.binding]
            return _listed(request, page, len(docs), docs[page.skip : page.skip + page.limit])
        if page.count:
            return _listed(request, page, await self._store.count_entities(PackageDoc, request.namespace), [])
        docs = await self._store.list_entities(PackageDoc, request.namespace, skip=page.skip, limit=page.limit)
        return _listed(request, page, 0, docs)

    async def get(self, request: Call, name: str) -> web.Response:
        documents = await readable(self._store, request.namespace, name, request.identity.namespace)
        provider = documents[0]
        actions: list[ActionDoc] = []
        while chunk := await self._store.list_actions(
            provider.namespace, package=provider.name, skip=len(actions), limit=_CHUNK
        ):
            actions += chunk
        return answer(200, dump(package_contents(documents, actions)), request.transaction_id)

    async def put(self, request: Call, name: str) -> web.Response:
        if name in RESERVED:
            raise ApiError(400, f"Package name '{name}' is reserved.")
        overwrite = params.flag(request.query, "overwrite", False)
        namespace = request.namespace
        patch = await self._bodies.read(
            request.request, lambda body: read_package(parse_object(body), namespace), MAX_BODY_BYTES
        )
        provider = await self._provider(namespace, patch)

        async def merge(old: PackageDoc | None) -> PackageDoc:
            doc = merged_package(old, patch, namespace=namespace, name=name, now_unix_ms=unix_ms())
            if provider is not None and provider.binding:
                raise ApiError(400, NO_CHAIN)
            return doc

        doc = await put_merged(self._store, PackageDoc, namespace, name, merge, overwrite=overwrite)
        self._cache.forget_packaged()
        return answer(200, dump(package_entity(doc)), request.transaction_id)

    async def _provider(self, namespace: str, patch: PackagePatch) -> PackageDoc | None:
        """The package to bind to; None = the body holds no binding.

        Raises ApiError 403 for what is not open to the namespace, whether it is there or not; of its own packages 400
        for a missing one, and 409 where the name is another entity's.
        """
        if not patch.binding:
            return None
        provider_namespace, _, name = patch.binding.partition("/")
        provider = await self._store.get_entity(PackageDoc, provider_namespace, name)
        if provider_namespace != namespace:
            if provider is None or provider.binding or not provider.publish:
                raise forbidden(patch.binding)
        elif provider is None:
            taken = await self._store.entity_collection(namespace, name)
            raise ApiError(409, NO_PACKAGE) if taken not in (None, "packages") else ApiError(400, NO_PROVIDER)
        return provider

    async def delete(self, request: Call, name: str) -> web.Response:
        """A package that holds actions is deleted with them where `force` is given, else not at all."""
        force = params.flag(request.query, "force", False)
        await refuse_other_collection(self._store, request.namespace, name, "packages")
        doc = await self._delete(request.namespace, name, force=force)
        if doc is None:
            raise not_found()
        return answer(200, dump(package_entity(doc)), request.transaction_id)

    async def _delete(self, namespace: str, name: str, *, force: bool) -> PackageDoc | None:
        for _ in range(PUT_TRIES):
            try:
                return await self._store.delete_entity(PackageDoc, namespace, name)
            except NotEmpty as e:
                if not force:
                    raise _not_empty(e.count) from None
            finally:
                self._cache.forget_packaged()
            while actions := await self._store.list_actions(namespace, package=name, limit=_CHUNK):
                for action in actions:
                    await self._store.delete_action(namespace, action.name)
        raise ApiError(409, CONCURRENT)


async def _all_of(store: Store, namespace: str) -> list[PackageDoc]:
    found: list[PackageDoc] = []
    while chunk := await store.list_entities(PackageDoc, namespace, skip=len(found), limit=_CHUNK):
        found += chunk
    return found


def _listed(request: Call, page: params.Page, count: int, docs: list[PackageDoc]) -> web.Response:
    body = {"packages": page.counted(count)} if page.count else [package_item(doc) for doc in docs]
    return answer(200, dump(body), request.transaction_id)


def _not_empty(count: int) -> ApiError:
    entities = "1 entity" if count == 1 else f"{count} entities"
    text = f"Package not empty (contains {entities}). Set force param or delete package contents."
    return ApiError(409, text)
