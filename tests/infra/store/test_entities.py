"""Packages, triggers and rules: guarded by revision, one name space, packages kept while they hold actions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fallow.infra.records import ActionDoc, PackageDoc, RuleDoc, TriggerDoc
from fallow.infra.store import Conflict, NotEmpty, PackageMissing, Store

MakeDoc = Callable[..., ActionDoc]
COMMON: dict[str, Any] = {"namespace": "guest", "version": "0.0.1", "revision": "", "updated_unix_ms": 1}


def package(name: str = "pkg", **fields: Any) -> PackageDoc:
    return PackageDoc(name=name, **{**COMMON, **fields})


async def test_documents_come_back_as_put(store: Store) -> None:
    deep = [{"key": "k", "value": {"deep": [1, None, 2**70, "ü"]}}]
    wishes = (
        package(parameters=deep, annotations=deep, binding="other/p", publish=True),
        TriggerDoc(name="t", parameters=deep, rules={"r": {"action": "guest/a", "active": True}}, **COMMON),
        RuleDoc(name="r", trigger="guest/t", action="guest/pkg/a", annotations=deep, **COMMON),
    )
    for wish in wishes:
        put = await store.put_entity(wish, expect=None)
        assert put == replace(wish, revision=put.revision)
        assert await store.get_entity(type(wish), "guest", wish.name) == put
        assert await store.get_entity(type(wish), "other", wish.name) is None
        assert await store.delete_entity(type(wish), "guest", wish.name) == put
        assert await store.delete_entity(type(wish), "guest", wish.name) is None
        assert await store.entity_collection("guest", wish.name) is None


async def test_a_put_expects_a_revision(store: Store) -> None:
    first = await store.put_entity(package(), expect=None)
    with pytest.raises(Conflict) as exists:
        await store.put_entity(package(), expect=None)
    assert exists.value.collection == "packages"
    second = await store.put_entity(replace(first, version="0.0.2"), expect=first.revision)
    with pytest.raises(Conflict):
        await store.put_entity(replace(first, version="0.0.3"), expect=first.revision)
    with pytest.raises(Conflict):
        await store.delete_entity(PackageDoc, "guest", "pkg", expect=first.revision)
    assert await store.delete_entity(PackageDoc, "guest", "pkg", expect=second.revision) == second


async def test_collections_share_one_name_space(store: Store, doc: MakeDoc) -> None:
    await store.put_action(doc("taken"), b"1", expect=None)
    with pytest.raises(Conflict) as other:
        await store.put_entity(package("taken"), expect=None)
    assert other.value.collection == "actions"
    await store.put_entity(package("pkg"), expect=None)
    with pytest.raises(Conflict) as other:
        await store.put_action(doc("pkg"), b"1", expect=None)
    assert other.value.collection == "packages"
    with pytest.raises(Conflict):
        await store.put_entity(TriggerDoc(name="pkg", **COMMON), expect="*")


async def test_a_package_is_there_before_and_after_its_actions(store: Store, doc: MakeDoc) -> None:
    with pytest.raises(PackageMissing):
        await store.put_action(doc("pkg/a"), b"1", expect=None)
    await store.put_entity(package(), expect=None)
    for name, updated in (("pkg/a", 1), ("pkg/b", 2), ("a", 3)):
        await store.put_action(doc(name, updated_unix_ms=updated), b"1", expect=None)
    assert [found.name for found in await store.list_actions("guest", package="pkg")] == ["pkg/b", "pkg/a"]
    assert await store.count_actions("guest", package="pkg") == 2
    assert await store.count_actions("guest") == 3
    with pytest.raises(NotEmpty) as held:
        await store.delete_entity(PackageDoc, "guest", "pkg")
    assert held.value.count == 2
    await store.delete_action("guest", "pkg/a")
    await store.delete_action("guest", "pkg/b")
    assert await store.delete_entity(PackageDoc, "guest", "pkg") is not None


async def test_lists_are_newest_first(store: Store) -> None:
    for i in range(5):
        await store.put_entity(package(f"p{i}", updated_unix_ms=i), expect=None)
    await store.put_entity(package("p0", updated_unix_ms=9), expect="*")
    names = [found.name for found in await store.list_entities(PackageDoc, "guest", limit=200)]
    assert names == ["p0", "p4", "p3", "p2", "p1"]
    assert [p.name for p in await store.list_entities(PackageDoc, "guest", skip=1, limit=2)] == ["p4", "p3"]
    assert await store.list_entities(PackageDoc, "guest", limit=0) == []
    assert await store.count_entities(PackageDoc, "guest") == 5
    assert await store.count_entities(TriggerDoc, "guest") == 0
