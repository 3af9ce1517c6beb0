"""Keys of tenants, leases and roles."""

from __future__ import annotations

import asyncio

import pytest

from fallow.infra.records import ControllerLease, Identity
from fallow.infra.store import Store, StoreError, keys

SECRET = "s" * 64


async def test_key_opens_for_its_secret_only(store: Store) -> None:
    identity = Identity(namespace="guest", subject="ann", uuid="u1")
    assert await store.put_key("guest", f"u1:{SECRET}", "ann") == identity
    assert await store.authenticate("u1", SECRET) == identity
    assert await store.authenticate("u1", SECRET[:-1]) is None
    assert await store.authenticate("u1", "") is None
    assert await store.authenticate("u2", SECRET) is None


async def test_secret_is_not_kept(store: Store) -> None:
    await store.put_key("guest", f"u1:{SECRET}")
    kept = await store._connection.call("HGETALL", keys.identity("u1"))
    assert SECRET.encode() not in b"".join(kept)


async def test_key_is_replaced_and_revoked(store: Store) -> None:
    await store.put_key("guest", f"u1:{SECRET}")
    await store.put_key("guest", f"u1:{'t' * 64}")
    await store.put_key("alpha", f"u2:{SECRET}", "bob")
    assert await store.authenticate("u1", SECRET) is None
    assert await store.list_keys() == [
        Identity(namespace="alpha", subject="bob", uuid="u2"),
        Identity(namespace="guest", subject="guest", uuid="u1"),
    ]
    assert await store.delete_key("u1") is True
    assert await store.delete_key("u1") is False
    assert await store.authenticate("u1", "t" * 64) is None


@pytest.mark.parametrize("key", ["", "u1", f":{SECRET}", "u1:short"])
async def test_malformed_key_is_refused(store: Store, key: str) -> None:
    with pytest.raises(StoreError, match="uuid:secret"):
        await store.put_key("guest", key)


async def lapse(store: Store, key: str) -> None:
    """As if its time had passed."""
    assert await store._connection.call("PTTL", key) > 0
    await store._connection.call("PEXPIRE", key, 0)


async def test_lease_stands_until_it_lapses(store: Store) -> None:
    leases = [ControllerLease(controller_id=f"c{i}", link_url=f"ws://h:{i}/link", api_url="") for i in range(3)]
    assert await store.live_controllers() == []
    for lease in leases:
        await store.renew_lease(lease, 5.0)
    assert await store.live_controllers() == leases
    await lapse(store, keys.lease("c1"))
    await store.release_lease("c0")
    assert await store.live_controllers() == [leases[2]]
    await store.renew_lease(leases[1], 5.0)
    assert await store.live_controllers() == leases[1:]


async def test_role_has_one_holder(store: Store) -> None:
    held = await asyncio.gather(*(store.hold("monitor", f"c{i}", 5.0) for i in range(10)))
    assert held.count(True) == 1
    owner = f"c{held.index(True)}"
    assert await store.hold("monitor", owner, 5.0) is True
    assert await store.hold("other role", "c99", 5.0) is True
    assert await store.release("monitor", "c99") is False
    await lapse(store, keys.role("monitor"))
    assert await store.hold("monitor", "c99", 5.0) is True
    assert await store.release("monitor", "c99") is True
    assert await store.hold("monitor", owner, 5.0) is True
