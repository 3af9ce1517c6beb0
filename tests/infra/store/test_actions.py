"""Actions: guarded by revision, code kept while used, changes told."""

from __future__ import annotations

import asyncio
import hashlib
import re
import signal
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from fallow.infra.records import ActionDoc, PackageDoc
from fallow.infra.store import Change, CodeMissing, Conflict, Store, StoreError, StoreUnavailable, entities, keys
from fallow.infra.store.actions import CODE_TTL_S

MakeDoc = Callable[..., ActionDoc]


def package(name: str = "pkg") -> PackageDoc:
    return PackageDoc(namespace="guest", name=name, version="0.0.1", revision="", updated_unix_ms=1)


async def code_ttl(store: Store, doc: ActionDoc) -> int:
    """Seconds; -1 = for ever, -2 = there is none."""
    return int(await store._connection.call("TTL", keys.code(doc.code_digest)))


async def test_action_comes_back_as_put(store: Store, doc: MakeDoc) -> None:
    wish = doc(
        "pkg/echo",
        parameters=[{"key": "k", "value": {"deep": [1, None, 2**70, "ü"]}, "init": True}],
        annotations=[{"key": "long", "value": True}],
        main="m",
        timeout_ms=5,
    )
    await store.put_entity(package(), expect=None)
    put = await store.put_action(wish, b"code", expect=None)
    assert put.revision
    assert put == replace(
        wish, revision=put.revision, code_digest=hashlib.sha256(b"code").hexdigest(), code_bytes=len(b"code")
    )
    assert await store.get_action("guest", "pkg/echo") == put
    assert await store.get_action("guest", "echo") is None
    assert await store.get_code(put.code_digest) == b"code"
    assert await store.entity_collection("guest", "pkg/echo") == "actions"


async def test_put_is_guarded_by_revision(store: Store, doc: MakeDoc) -> None:
    first = await store.put_action(doc(), b"1", expect=None)
    with pytest.raises(Conflict, match="exists"):
        await store.put_action(doc(), b"2", expect=None)
    second = await store.put_action(doc(), b"2", expect=first.revision)
    with pytest.raises(Conflict, match="changed meanwhile"):
        await store.put_action(doc(), b"3", expect=first.revision)
    assert await store.get_action("guest", "hello") == second
    third = await store.put_action(doc(), b"3", expect="*")
    assert third.revision != second.revision
    with pytest.raises(Conflict):
        await store.put_action(doc("new"), b"", expect="gone")


async def test_one_of_many_creators_creates(store: Store, doc: MakeDoc) -> None:
    answers = await asyncio.gather(
        *(store.put_action(doc(), str(i).encode(), expect=None) for i in range(20)), return_exceptions=True
    )
    (winner,) = [answer for answer in answers if isinstance(answer, ActionDoc)]
    assert sum(isinstance(answer, Conflict) for answer in answers) == 19
    assert await store.get_action("guest", "hello") == winner


async def test_name_of_another_collection_conflicts(store: Store, doc: MakeDoc) -> None:
    await store._connection.call("HSET", keys.entities("guest"), "hello", "triggers")
    with pytest.raises(Conflict) as caught:
        await store.put_action(doc(), b"1", expect="*")
    assert caught.value.collection == "triggers"


async def test_code_stays_while_an_action_uses_it(store: Store, doc: MakeDoc) -> None:
    one = await store.put_action(doc("one"), b"same", expect=None)
    two = await store.put_action(doc("two"), b"same", expect=None)
    assert one.code_digest == two.code_digest
    await store.delete_action("guest", "one")
    assert await code_ttl(store, two) == -1
    await store.put_action(doc("two"), b"other", expect="*")
    assert 0 < await code_ttl(store, one) <= CODE_TTL_S
    again = await store.put_action(replace(one, name="three"), None, expect=None)
    assert again.code_digest == one.code_digest
    assert await code_ttl(store, one) == -1
    await store.delete_action("guest", "three")
    assert 0 < await code_ttl(store, one) <= CODE_TTL_S
    assert await store.get_code(one.code_digest) == b"same"


async def test_code_must_be_stored(store: Store, doc: MakeDoc) -> None:
    with pytest.raises(CodeMissing, match="guest/hello"):
        await store.put_action(doc(code_digest="0" * 64), None, expect=None)
    assert await store.get_action("guest", "hello") is None
    assert await store.get_code("0" * 64) is None


async def test_action_without_code(store: Store, doc: MakeDoc) -> None:
    put = await store.put_action(doc(image="busybox"), None, expect=None)
    assert put.code_digest == ""
    assert await store.delete_action("guest", "hello") == put


async def test_deleted_action_is_gone_and_its_name_free(store: Store, doc: MakeDoc) -> None:
    put = await store.put_action(doc(), b"1", expect=None)
    assert await store.delete_action("guest", "hello") == put
    assert await store.delete_action("guest", "hello") is None
    assert await store.get_action("guest", "hello") is None
    assert await store.entity_collection("guest", "hello") is None
    assert await store.list_actions("guest") == []
    await store.put_action(doc(), b"1", expect=None)


async def test_list_is_last_updated_first(store: Store, doc: MakeDoc) -> None:
    for i in range(5):
        await store.put_action(doc(f"a{i}", updated_unix_ms=1_000 + i), b"", expect=None)
    await store.put_action(doc("a0", updated_unix_ms=2_000), b"", expect="*")
    await store.put_action(doc("x", namespace="other"), b"", expect=None)
    assert [found.name for found in await store.list_actions("guest")] == ["a0", "a4", "a3", "a2", "a1"]
    assert [found.name for found in await store.list_actions("guest", skip=1, limit=2)] == ["a4", "a3"]
    assert await store.list_actions("guest", limit=0) == []
    assert await store.count_actions("guest") == 5


async def test_changes_are_told(store: Store, doc: MakeDoc) -> None:
    async with aclosing(store.changes()) as changes:
        assert await anext(changes) is None
        await store.put_entity(package(), expect=None)
        await store.put_action(doc("pkg/two words"), b"1", expect=None)
        await store.delete_action("guest", "pkg/two words")
        await store.delete_action("guest", "never was")
        await store.put_action(doc(), b"1", expect=None)
        heard = [await anext(changes) for _ in range(4)]
    named = [("packages", "pkg"), ("actions", "pkg/two words"), ("actions", "pkg/two words"), ("actions", "hello")]
    assert heard == [
        Change(number=number, collection=collection, namespace="guest", name=name)
        for number, (collection, name) in enumerate(named, start=1)
    ]
    assert await store.change_number() == 4


async def test_lost_subscription_is_an_error(store: Store) -> None:
    async with aclosing(store.changes()) as changes:
        assert await anext(changes) is None
        await store._connection.call("CLIENT", "KILL", "TYPE", "pubsub")
        with pytest.raises(StoreUnavailable):
            await anext(changes)


async def pings(store: Store) -> int:
    stats = (await store._connection.call("INFO", "commandstats")).decode()
    found = re.search(r"cmdstat_ping:calls=(\d+)", stats)
    return int(found[1]) if found else 0


async def test_quiet_subscription_stays(store: Store, doc: MakeDoc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entities, "_PING_S", 0.01)
    async with aclosing(store.changes()) as changes:
        assert await anext(changes) is None
        before = await pings(store)
        change = asyncio.ensure_future(anext(changes))
        while await pings(store) < before + 3:
            assert not change.done()
        await store.put_action(doc(), b"1", expect=None)
        assert await change == Change(number=1, collection="actions", namespace="guest", name="hello")


async def test_silent_server_ends_the_subscription(server: Any, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entities, "_PING_S", 0.05)
    async with aclosing(store.changes()) as changes:
        assert await anext(changes) is None
        server.signal(signal.SIGSTOP)
        try:
            with pytest.raises(StoreUnavailable, match="fell silent"):
                await anext(changes)
        finally:
            server.signal(signal.SIGCONT)


async def test_unreadable_action_is_named(store: Store, doc: MakeDoc) -> None:
    await store.put_action(doc(), b"1", expect=None)
    await store._connection.call("HSET", keys.action("guest", "hello"), "doc", b"\x91\xc0")
    with pytest.raises(StoreError, match=keys.action("guest", "hello")):
        await store.get_action("guest", "hello")
