"""Which documents stand behind the name of a package, for whoever asks."""

from __future__ import annotations

from controller.api.entity import OTHER_COLLECTION, refuse_other_collection
from controller.api.errors import ApiError, forbidden, not_found
from fallow.infra.records import PackageDoc
from fallow.infra.store import Store


async def layers(store: Store, namespace: str, name: str, caller: str) -> tuple[PackageDoc, ...]:
    """The package, or the one that a binding stands for and the binding: what comes later stands over what is before.

    () = there is no such package, or it is a binding to none. Raises ApiError 403 where the namespace `caller` may not
    read it, for only packages that are public and no bindings are open to others; 422 for a binding to itself.
    """
    package = await store.get_entity(PackageDoc, namespace, name)
    if namespace != caller and not _open(package):
        raise forbidden(f"{namespace}/{name}")
    if package is None:
        return ()
    if not package.binding:
        return (package,)
    provider_namespace, _, provider_name = package.binding.partition("/")
    provider = await store.get_entity(PackageDoc, provider_namespace, provider_name)
    if provider is not None and provider.binding == f"{namespace}/{name}":
        raise ApiError(422, f"Package binding '{package.binding}' contains a circular reference.")
    if provider_namespace != caller and not _open(provider):
        raise forbidden(package.binding)
    return () if provider is None or provider.binding else (provider, package)


def _open(package: PackageDoc | None) -> bool:
    """Other namespaces may read and use it."""
    return package is not None and package.publish and not package.binding


async def readable(store: Store, namespace: str, name: str, caller: str) -> tuple[PackageDoc, ...]:
    """`layers`, at least one: raises ApiError 404 where there are none, 409 where the name is no package's, too."""
    found = await layers(store, namespace, name, caller)
    if not found:
        await refuse_other_collection(store, namespace, name, "packages")
        raise not_found(f"{namespace}/{name}")
    return found


async def missing(store: Store, namespace: str, name: str) -> ApiError:
    """What to answer about an action "[package/]action" that is not there: 404, or 409 where the name is an entity's of
    another collection."""
    package, _, _ = name.rpartition("/")
    collection = await store.entity_collection(namespace, package or name)
    if collection in (None, "packages" if package else "actions"):
        return not_found()
    return ApiError(409, OTHER_COLLECTION)
