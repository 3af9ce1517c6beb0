"""The packages in whisk.system: there from the start, open to all, the same after every start."""

from __future__ import annotations

import asyncio
import importlib
from dataclasses import replace

from controller import system_packages
from fallow.infra.records import ActionDoc, PackageDoc
from support.functions import functions

SYSTEM = "/api/v1/namespaces/whisk.system"
UTILS = ("cat", "date", "echo", "head", "namespace", "smash", "sort", "split")
FEEDS = ("alarm", "interval", "once")


def notes(entity) -> dict:
    return {item["key"]: item["value"] for item in entity["annotations"]}


async def everything(store) -> list[ActionDoc | PackageDoc]:
    packages = await store.list_entities(PackageDoc, system_packages.NAMESPACE, limit=200)
    return [*packages, *await store.list_actions(system_packages.NAMESPACE, limit=200)]


async def test_they_are_public_and_show_what_is_in_them(cluster) -> None:
    listed = await cluster.client.call("GET", f"{SYSTEM}/packages")
    assert {item["name"]: item["publish"] for item in listed.json} == {"utils": True, "alarms": True}
    utils = (await cluster.client.call("GET", f"{SYSTEM}/packages/utils")).json
    assert sorted(item["name"] for item in utils["actions"]) == sorted(UTILS)
    assert utils["feeds"] == []
    alarms = (await cluster.client.call("GET", f"{SYSTEM}/packages/alarms")).json
    assert sorted(item["name"] for item in alarms["feeds"]) == sorted(FEEDS)
    assert alarms["actions"] == []


async def test_an_action_of_them_tells_how_it_is_called(cluster) -> None:
    sort = (await cluster.client.call("GET", f"{SYSTEM}/actions/utils/sort")).json
    assert sort["exec"]["kind"] == "python:3"
    assert "def main(args" in sort["exec"]["code"]
    assert notes(sort)["sampleOutput"] == {"lines": [2, 3, 4], "length": 3}
    alarm = (await cluster.client.call("GET", f"{SYSTEM}/actions/alarms/alarm")).json
    assert alarm["exec"]["kind"] == "builtin"
    assert notes(alarm)["feed"] is True


async def test_guests_may_not_change_them(cluster) -> None:
    body = {"exec": {"kind": "python:3", "code": "def main(args): return args"}}
    assert (await cluster.client.call("PUT", f"{SYSTEM}/actions/utils/sort?overwrite=true", body)).status == 403
    assert (await cluster.client.call("DELETE", f"{SYSTEM}/actions/utils/sort")).status == 403
    assert (await cluster.client.call("DELETE", f"{SYSTEM}/packages/utils")).status == 403


async def test_nobody_makes_actions_of_the_kind_that_controllers_run(cluster) -> None:
    answer = await cluster.client.call("PUT", "actions/mine", {"exec": {"kind": "builtin", "code": ""}})
    assert answer.status == 400
    assert "The specified runtime 'builtin' is not supported by this platform." in answer.json["error"]
    assert "'builtin'" not in answer.json["error"].partition("Valid values are:")[2]
    await cluster.join()
    info = await cluster.client.call("GET", "/", auth=None)
    assert b"builtin" not in info.body


async def test_a_guest_runs_them_one_after_the_other(cluster) -> None:
    code = {name: importlib.import_module(f"functions.system.utils.{name}").main for name in ("split", "sort", "cat")}
    await cluster.join(behaviour=functions(**code))
    names = [f"/whisk.system/utils/{name}" for name in ("split", "sort", "cat")]
    made = await cluster.client.call("PUT", "actions/tidy", {"exec": {"kind": "sequence", "components": names}})
    assert made.status == 200, made.body
    args = {"payload": "c b a", "separator": " "}
    answer = await cluster.client.call("POST", "actions/tidy?blocking=true&result=true", args)
    assert (answer.status, answer.json) == (200, {"lines": ["a", "b", "c"], "payload": "a\nb\nc"})
    alone = await cluster.client.call("POST", f"{SYSTEM}/actions/utils/echo?blocking=true&result=true", {"x": 1})
    assert (alone.status, alone.json) == (200, {"x": 1})


async def test_a_binding_to_them_works_as_to_any_package(cluster) -> None:
    await cluster.join()
    binding = {"namespace": "whisk.system", "name": "utils"}
    body = {"binding": binding, "parameters": [{"key": "x", "value": 1}]}
    made = await cluster.client.call("PUT", "packages/mine", body)
    assert made.status == 200, made.body
    answer = await cluster.client.call("POST", "actions/mine/echo?blocking=true&result=true", {"y": 2})
    assert (answer.status, answer.json) == (200, {"x": 1, "y": 2})


async def test_a_start_leaves_what_stands_alone(cluster, boot) -> None:
    before, number = await everything(cluster.store), await cluster.store.change_number()
    assert {doc.version for doc in before} == {"0.0.1"}
    await system_packages.install(cluster.store)
    assert await cluster.store.change_number() == number
    async with boot() as second:
        assert await everything(second.store) == before


async def test_a_start_mends_what_is_other_or_gone(cluster, boot) -> None:
    store, namespace = cluster.store, system_packages.NAMESPACE
    sort = await store.get_action(namespace, "utils/sort")
    await store.put_action(replace(sort, version="0.0.7"), b"def main(args): return {}", expect=sort.revision)
    utils = await store.get_entity(PackageDoc, namespace, "utils")
    await store.put_entity(replace(utils, publish=False), expect=utils.revision)
    await store.delete_action(namespace, "utils/cat")
    async with boot():
        mended = await store.get_action(namespace, "utils/sort")
        assert (mended.version, mended.code_digest) == ("0.0.8", sort.code_digest)
        assert (await store.get_entity(PackageDoc, namespace, "utils")).publish
        assert await store.get_action(namespace, "utils/cat") is not None
        assert (await store.get_action(namespace, "utils/head")).version == "0.0.1"


async def test_two_that_start_at_once_put_one_revision(cluster) -> None:
    namespace, store = system_packages.NAMESPACE, cluster.store
    for doc in await store.list_actions(namespace, limit=200):
        await store.delete_action(namespace, doc.name)
    for doc in await store.list_entities(PackageDoc, namespace, limit=200):
        await store.delete_entity(PackageDoc, namespace, doc.name)
    number = await store.change_number()
    await asyncio.gather(*(system_packages.install(store) for _ in range(4)))
    docs = await everything(store)
    assert len(docs) == len(UTILS) + len(FEEDS) + 2
    assert {doc.version for doc in docs} == {"0.0.1"}
    assert await store.change_number() == number + len(docs)


async def test_a_name_that_is_taken_does_not_end_the_start(boot) -> None:
    async with boot() as first:
        store, namespace = first.store, system_packages.NAMESPACE
        for name in FEEDS:
            await store.delete_action(namespace, f"alarms/{name}")
        await store.delete_entity(PackageDoc, namespace, "alarms")
        sort = await store.get_action(namespace, "utils/sort")
        await store.put_action(replace(sort, name="alarms"), None, expect=None)
        async with boot() as second:
            assert (await second.client.call("GET", f"{SYSTEM}/packages/utils")).status == 200
