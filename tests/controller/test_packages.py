"""Packages, bindings, and actions in them: who sees what, which parameters count, what is refused."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import replace
from typing import Any

from fallow.infra.records import PackageDoc

CODE = "def main(args):\n    return args\n"
EXEC = {"kind": "python:3", "code": CODE}
OTHER = "/api/v1/namespaces/other"
GUEST = "/api/v1/namespaces/guest"
MISSING = "The requested resource does not exist."
CONFORMANCE = "Resource by this name exists but is not in this collection."


def pairs(**values: Any) -> list[dict[str, Any]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def by_key(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {item["key"]: item["value"] for item in items}


def refused(answer: Any) -> tuple[int, str]:
    assert set(answer.json) == {"error", "code"}
    return answer.status, answer.json["error"]


async def ok(answer: Any) -> Any:
    answer = await answer
    assert answer.status == 200, answer.body
    return answer.json


async def test_a_package_from_put_to_delete(cluster) -> None:
    call = cluster.client.call
    body = {"parameters": pairs(a=1), "annotations": pairs(x="1"), "namespace": "_", "name": "ignored"}
    made = await ok(call("PUT", "packages/pkg", body))
    assert {key: value for key, value in made.items() if key != "updated"} == {
        "namespace": "guest", "name": "pkg", "version": "0.0.1", "publish": False, "binding": {},
        "annotations": pairs(x="1"), "parameters": pairs(a=1),
    }  # fmt: skip
    assert refused(await call("PUT", "packages/pkg", body)) == (409, "resource already exists")
    updated = await ok(call("PUT", "packages/pkg?overwrite=true", {"publish": True, "annotations": pairs(y=2)}))
    assert (updated["version"], updated["publish"]) == ("0.0.2", True)
    assert (updated["annotations"], updated["parameters"]) == (pairs(y=2), pairs(a=1))
    assert await ok(call("GET", "packages/pkg")) == {**updated, "actions": [], "feeds": []}
    item = {key: value for key, value in updated.items() if key != "parameters"}
    assert await ok(call("GET", "packages")) == [{**item, "binding": False}]
    await ok(call("PUT", "packages/second", {"version": "1.2.3"}))
    assert [item["name"] for item in await ok(call("GET", "packages/?"))] == ["second", "pkg"]
    assert [item["name"] for item in await ok(call("GET", "packages?skip=1&limit=0"))] == ["pkg"]
    assert await ok(call("GET", "packages?count=true")) == {"packages": 2}
    assert await ok(call("GET", "packages?count=true&limit=1")) == {"packages": 1}
    assert await ok(call("DELETE", "packages/pkg")) == updated
    assert refused(await call("DELETE", "packages/pkg")) == (404, MISSING)
    assert refused(await call("GET", "packages/pkg")) == (404, "The requested resource 'guest/pkg' does not exist.")


async def test_what_is_no_package(cluster) -> None:
    call = cluster.client.call
    assert refused(await call("PUT", "packages/default", {})) == (400, "Package name 'default' is reserved.")
    assert (await call("PUT", "packages/x", data=b"{}", headers={"Content-Type": "text/plain"})).status == 415
    for body, text in (
        ([], "Object expected"),
        ({"parameters": {"a": 1}}, "parameters must be an array"),
        ({"binding": "x"}, "binding must be an object"),
        ({"binding": {"name": "x"}}, "binding must be an object with 'namespace' and 'name'"),
        ({"binding": {"namespace": "_", "name": " x"}}, "illegal characters"),
        ({"publish": 1}, "publish must be true or false"),
    ):
        status, error = refused(await call("PUT", "packages/x", body))
        assert (status, text in error) == (400, True), error
    text = json.dumps({"annotations": pairs(a="x" * (1 << 20))})
    large = await call("PUT", "packages/x", data=io.BytesIO(text.encode()))
    assert (large.status, "annotations larger than allowed" in large.json["error"]) == (413, True)
    for method, path in (
        ("POST", "packages/x"),
        ("POST", "packages/refresh"),
        ("PUT", "packages"),
        ("POST", "packages"),
    ):
        assert (await call(method, path, {})).status == 405
    assert (await call("GET", "packages/a/b")).status == 404
    assert (await call("GET", "packages?limit=201")).json["error"].endswith("0 to 200 for packages.")
    assert await ok(call("GET", "packages")) == []


async def test_actions_in_a_package(cluster) -> None:
    call = cluster.client.call
    await cluster.join()
    assert refused(await call("PUT", "actions/pkg/a", {"exec": EXEC})) == (404, MISSING)
    assert refused(await call("DELETE", "actions/pkg/a")) == (404, MISSING)
    assert refused(await call("POST", "actions/pkg/a", {})) == (404, MISSING)
    assert refused(await call("GET", "actions/pkg/")) == (404, "The requested resource 'guest/pkg' does not exist.")
    await ok(call("PUT", "packages/pkg", {"parameters": pairs(p="package", both="package")}))
    made = await ok(call("PUT", "actions/pkg/a", {"exec": EXEC, "parameters": pairs(both="action")}))
    assert (made["namespace"], made["name"], made["parameters"]) == ("guest/pkg", "a", pairs(both="action"))
    read = await ok(call("GET", "actions/pkg/a"))
    assert by_key(read["parameters"]) == {"p": "package", "both": "action"}
    assert {**read, "parameters": made["parameters"]} == made
    result = await ok(call("POST", "actions/pkg/a?blocking=true&result=true", {"c": "call"}))
    assert result == {"p": "package", "both": "action", "c": "call"}

    # The next call hears of a change to the package.
    await ok(call("PUT", "packages/pkg?overwrite=true", {"parameters": pairs(p="new")}))
    assert await ok(call("POST", "actions/pkg/a?blocking=true&result=true")) == {"p": "new", "both": "action"}

    await ok(call("PUT", "actions/pkg/feed", {"exec": EXEC, "annotations": pairs(feed=True)}))
    await ok(call("PUT", "actions/alone", {"exec": EXEC}))
    package = await ok(call("GET", "packages/pkg"))
    assert [(item["name"], item["version"]) for item in package["actions"]] == [("a", "0.0.1")]
    assert [set(item) for item in package["feeds"]] == [{"name", "version", "annotations"}]
    listed = await ok(call("GET", "actions"))
    assert [(item["namespace"], item["name"]) for item in listed] == [
        ("guest", "alone"), ("guest/pkg", "feed"), ("guest/pkg", "a"),
    ]  # fmt: skip
    for path in ("actions/pkg/", "actions/pkg//", "actions/pkg/?limit=2"):
        assert [item["name"] for item in await ok(call("GET", path))] == ["feed", "a"]
    assert [item["name"] for item in await ok(call("GET", "actions/pkg/?skip=1"))] == ["a"]
    assert await ok(call("GET", "actions/pkg/?count=true")) == {"actions": 2}
    assert (await call("POST", "actions/pkg/", {})).status == 404

    full = "Package not empty (contains {}). Set force param or delete package contents."
    assert refused(await call("DELETE", "packages/pkg")) == (409, full.format("2 entities"))
    await ok(call("DELETE", "actions/pkg/feed"))
    assert refused(await call("DELETE", "packages/pkg?force=false")) == (409, full.format("1 entity"))
    assert (await call("DELETE", "packages/pkg?force=true")).status == 200
    assert refused(await call("POST", "actions/pkg/a", {})) == (404, MISSING)
    assert [item["name"] for item in await ok(call("GET", "actions"))] == ["alone"]


async def test_through_a_binding(cluster) -> None:
    call = cluster.client.call
    await cluster.join()
    await ok(call("PUT", "packages/pkg", {"parameters": pairs(p="package", b="package", a="package", c="package")}))
    await ok(call("PUT", "actions/pkg/act", {"exec": EXEC, "parameters": pairs(a="action", c="action")}))
    body = {"binding": {"namespace": "_", "name": "pkg"}, "parameters": pairs(b="binding", a="binding", c="binding")}
    bound = await ok(call("PUT", "packages/bound", body))
    reference = {"namespace": "guest", "name": "pkg"}
    assert (bound["binding"], bound["annotations"]) == (reference, pairs(binding=reference))
    assert bound["parameters"] == body["parameters"]
    assert [item["binding"] for item in await ok(call("GET", "packages"))] == [reference, False]

    read = await ok(call("GET", "packages/bound"))
    assert by_key(read["parameters"]) == {"p": "package", "b": "binding", "a": "binding", "c": "binding"}
    assert (read["name"], [item["name"] for item in read["actions"]]) == ("bound", ["act"])
    action = await ok(call("GET", "actions/bound/act"))
    assert by_key(action["parameters"]) == {"p": "package", "b": "binding", "a": "action", "c": "action"}
    assert action["namespace"] == "guest/pkg"
    assert [item["namespace"] for item in await ok(call("GET", "actions/bound/"))] == ["guest/pkg"]
    result = await ok(call("POST", "actions/bound/act?blocking=true&result=true", {"c": "call"}))
    assert result == {"p": "package", "b": "binding", "a": "action", "c": "call"}

    for method in ("PUT", "DELETE"):
        answer = await call(method, "actions/bound/act", {"exec": EXEC})
        assert refused(answer) == (400, "Operation not permitted on package binding.")
    # An update leaves it a binding, to another package or to the same one, and a given annotation does not fake it.
    updated = await ok(call("PUT", "packages/bound?overwrite=true", {"annotations": pairs(binding="?", x=1)}))
    assert (updated["binding"], by_key(updated["annotations"])) == (reference, {"binding": reference, "x": 1})
    await ok(call("PUT", "packages/empty", {"binding": {}}))
    empty = {"binding": {"namespace": "guest", "name": "empty"}}
    assert (await ok(call("PUT", "packages/bound?overwrite=true", empty)))["version"] == "0.0.3"
    assert refused(await call("POST", "actions/bound/act", {})) == (404, MISSING)
    await ok(call("DELETE", "packages/empty"))
    assert refused(await call("GET", "packages/bound"))[0] == 404
    assert refused(await call("GET", "actions/bound/act"))[0] == 404
    await ok(call("DELETE", "packages/bound"))


async def test_what_cannot_be_bound(cluster) -> None:
    call = cluster.client.call

    async def bind(to: str, name: str = "new", namespace: str = "_") -> tuple[int, str]:
        body = {"binding": {"namespace": namespace, "name": to}}
        return refused(await call("PUT", f"packages/{name}?overwrite=true", body))

    await ok(call("PUT", "packages/pkg", {}))
    await ok(call("PUT", "packages/bound", {"binding": {"namespace": "guest", "name": "pkg"}}))
    await cluster.client.put_echo("act")
    assert await bind("none") == (400, "Binding references a package that does not exist.")
    assert await bind("bound") == (400, "Cannot bind to another package binding.")
    assert await bind("bound", "bound") == (400, "Cannot bind to another package binding.")
    assert await bind("act") == (409, "Cannot bind to a resource that is not a package.")
    assert await bind("pkg", "pkg") == (409, "Resource is a package and cannot be converted into a binding.")
    assert await bind("pkg", "act") == (409, CONFORMANCE)
    for namespace, name in (("other", "none"), ("nowhere", "x")):
        text = f"The supplied authentication is not authorized to access '{namespace}/{name}'."
        assert await bind(name, namespace=namespace) == (403, text)
    assert len(await ok(call("GET", "packages"))) == 2


async def test_a_binding_to_itself_is_told_from_one_that_works(cluster) -> None:
    call = cluster.client.call
    await ok(call("PUT", "packages/a", {}))
    await ok(call("PUT", "packages/b", {"binding": {"namespace": "_", "name": "a"}}))
    standing = await cluster.store.get_entity(PackageDoc, "guest", "b")
    await cluster.store.put_entity(replace(standing, binding="guest/b"), expect="*")
    text = "Package binding 'guest/b' contains a circular reference."
    for method, path in (("GET", "packages/b"), ("GET", "actions/b/x"), ("GET", "actions/b/"), ("POST", "actions/b/x")):
        assert refused(await call(method, path)) == (422, text)
    await ok(call("DELETE", "packages/b"))


async def test_what_other_namespaces_see(cluster, keys) -> None:
    call = cluster.client.call
    await cluster.join()

    async def by_other(method: str, path: str, body: Any = None) -> Any:
        return await call(method, f"{GUEST}/{path}", body, auth=keys["other"])

    def closed(name: str) -> tuple[int, str]:
        return 403, f"The supplied authentication is not authorized to access 'guest/{name}'."

    await ok(call("PUT", "packages/open", {"publish": True, "parameters": pairs(p="package")}))
    await ok(call("PUT", "packages/closed", {}))
    await ok(call("PUT", "packages/bound", {"publish": True, "binding": {"namespace": "_", "name": "open"}}))
    for package in ("open", "closed"):
        await ok(call("PUT", f"actions/{package}/a", {"exec": EXEC}))

    listed = (await by_other("GET", "packages")).json
    assert [(item["name"], item["binding"]) for item in listed] == [("open", False)]
    assert (await by_other("GET", "packages?count=true")).json == {"packages": 1}
    assert (await by_other("GET", "packages?skip=1")).json == []
    assert (await call("GET", "/api/v1/namespaces/nowhere/packages")).json == []
    assert (await by_other("GET", "packages/open")).json["actions"][0]["name"] == "a"
    assert by_key((await by_other("GET", "actions/open/a")).json["parameters"]) == {"p": "package"}
    assert [item["name"] for item in (await by_other("GET", "actions/open/")).json] == ["a"]
    result = await by_other("POST", "actions/open/a?blocking=true&result=true", {"x": 1})
    assert (result.status, result.json) == (200, {"p": "package", "x": 1})
    for name in ("closed", "bound", "none"):
        for method, path in (("GET", f"packages/{name}"), ("GET", f"actions/{name}/"), ("GET", f"actions/{name}/a")):
            assert refused(await by_other(method, path)) == closed(name)
        assert refused(await by_other("POST", f"actions/{name}/a", {})) == closed(name)
    for path in ("packages/open", "actions/open/a"):
        for method in ("PUT", "DELETE"):
            assert refused(await by_other(method, path, {})) == closed(path.partition("/")[2])
    assert refused(await by_other("GET", "actions"))[0] == 403
    assert refused(await by_other("GET", "actions/open"))[0] == 403

    # What is public can be bound, until it is private again.
    body = {"binding": {"namespace": "guest", "name": "open"}, "parameters": pairs(b="binding")}
    assert (await call("PUT", f"{OTHER}/packages/mine", body, auth=keys["other"])).status == 200
    through = f"{OTHER}/actions/mine/a?blocking=true&result=true"
    assert (await call("POST", through, {}, auth=keys["other"])).json == {"p": "package", "b": "binding"}
    await ok(call("PUT", "packages/open?overwrite=true", {"publish": False}))
    assert refused(await call("POST", through, {}, auth=keys["other"])) == closed("open")
    assert refused(await call("GET", f"{OTHER}/packages/mine", auth=keys["other"])) == closed("open")
    assert refused(await call("PUT", f"{OTHER}/packages/more", body, auth=keys["other"])) == closed("open")


async def test_one_name_in_one_collection(cluster) -> None:
    call = cluster.client.call
    await ok(call("PUT", "packages/pkg", {}))
    await cluster.client.put_echo("act")
    body = {"exec": EXEC}
    for method in ("GET", "PUT", "DELETE", "POST"):
        for path in ("actions/pkg", "actions/act/x"):
            assert refused(await call(method, path, body)) == (409, CONFORMANCE), (method, path)
    for method in ("GET", "PUT", "DELETE"):
        assert refused(await call(method, "packages/act", {})) == (409, CONFORMANCE)
    assert refused(await call("GET", "actions/act/")) == (409, CONFORMANCE)
    assert refused(await call("PUT", "actions/pkg?overwrite=true", body)) == (409, CONFORMANCE)
    await ok(call("DELETE", "packages/pkg"))
    await ok(call("PUT", "actions/pkg", body))


async def test_packages_put_at_once_are_put_one_after_the_other(cluster) -> None:
    call = cluster.client.call
    answers = await asyncio.gather(*[call("PUT", "packages/pkg", {"parameters": pairs(i=i)}) for i in range(8)])
    assert sorted(answer.status for answer in answers) == [200] + [409] * 7
    winner = next(answer.json for answer in answers if answer.status == 200)
    assert (await ok(call("GET", "packages/pkg")))["parameters"] == winner["parameters"]


async def test_no_action_outlives_its_package(cluster) -> None:
    call = cluster.client.call
    await ok(call("PUT", "packages/pkg", {}))
    puts = [call("PUT", f"actions/pkg/a{i}", {"exec": EXEC}) for i in range(12)]
    put = await asyncio.gather(*puts[:4], call("DELETE", "packages/pkg?force=true"), *puts[4:])
    assert {answer.status for answer in put} <= {200, 404, 409}
    left = [item["name"] for item in await ok(call("GET", "actions"))]
    package = await call("GET", "packages/pkg")
    if package.status == 404:
        assert left == []
    else:
        assert sorted(item["name"] for item in package.json["actions"]) == sorted(left)
        await ok(call("DELETE", "packages/pkg?force=true"))


async def test_many_and_large_ones(cluster) -> None:
    call = cluster.client.call
    large = json.dumps({"parameters": pairs(a="x" * 300_000), "publish": True}).encode()
    await ok(call("PUT", "packages/pkg", data=large))
    assert len((await ok(call("GET", "packages/pkg")))["parameters"][0]["value"]) == 300_000
    names = [f"a{i}" for i in range(51)]
    for name in names:
        await ok(call("PUT", f"actions/pkg/{name}", {"exec": EXEC}))
    assert sorted(item["name"] for item in (await ok(call("GET", "packages/pkg")))["actions"]) == sorted(names)
    assert len(await ok(call("GET", "actions/pkg/"))) == 30
    assert len(await ok(call("GET", "actions/pkg/?limit=0"))) == 51
    text = "Package not empty (contains 51 entities). Set force param or delete package contents."
    assert refused(await call("DELETE", "packages/pkg")) == (409, text)
    await ok(call("DELETE", "packages/pkg?force=true"))
    assert await ok(call("GET", "actions?count=true")) == {"actions": 0}


async def test_another_controller_hears_of_a_package(cluster, boot, until) -> None:
    await cluster.join()
    await ok(cluster.client.call("PUT", "packages/pkg", {"parameters": pairs(p=1)}))
    await ok(cluster.client.call("PUT", "actions/pkg/a", {"exec": EXEC}))
    async with boot() as second:
        await second.join("h2")
        path = "actions/pkg/a?blocking=true&result=true"
        assert await ok(second.client.call("POST", path)) == {"p": 1}
        await ok(cluster.client.call("PUT", "packages/pkg?overwrite=true", {"parameters": pairs(p=2)}))

        async def heard() -> bool:
            return await ok(second.client.call("POST", path)) == {"p": 2}

        await until(heard)
