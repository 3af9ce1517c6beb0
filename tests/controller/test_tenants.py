"""Keys: made, restricted, revoked, and never the ones that everybody knows."""

from __future__ import annotations

import base64
import re

import pytest

from fallow.infra.tasks import FatalError
from fallow.infra.tenant_keys import OPENWHISK_GUEST, OPENWHISK_SYSTEM

FORM = re.compile(r"\A[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}:[A-Za-z0-9]{64}\Z")


def basic(key: str) -> str:
    return "Basic " + base64.b64encode(key.encode()).decode()


async def test_a_key_is_made_shown_once_and_revoked_everywhere(cluster, boot) -> None:
    async with boot() as second:
        made = await cluster.admin("POST", "keys", {"namespace": "ann"})
        key = made.json.pop("key")
        assert FORM.match(key)
        assert made.json | {"key": key} == {
            "namespace": "ann", "subject": "ann", "uuid": key.partition(":")[0], "key": key
        }  # fmt: skip
        assert key.partition(":")[2] not in (await cluster.admin("GET", "keys")).body.decode()
        for each in (cluster, second):
            assert (await each.client.call("GET", "/api/v1/namespaces", auth=basic(key))).json == ["ann"]
        assert (await cluster.admin("DELETE", f"keys/{made.json['uuid']}")).json["done"] == "revoked"
        for each in (cluster, second):
            assert (await each.client.call("GET", "/api/v1/namespaces", auth=basic(key))).status == 401
        assert (await cluster.admin("DELETE", f"keys/{made.json['uuid']}")).status == 404


async def test_a_key_that_is_replaced_works_no_longer(cluster, boot) -> None:
    async with boot() as second:
        old, new = (f"11111111-0000-4000-8000-000000000000:{letter * 64}" for letter in "ab")
        await cluster.admin("PUT", "keys", {"namespace": "ann", "key": old})
        assert (await second.client.call("GET", "/api/v1/namespaces", auth=basic(old))).status == 200
        await cluster.admin("PUT", "keys", {"namespace": "ann", "key": new})
        assert (await second.client.call("GET", "/api/v1/namespaces", auth=basic(old))).status == 401
        assert (await second.client.call("GET", "/api/v1/namespaces", auth=basic(new))).status == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"namespace": 1},
        {"namespace": "a:b"},
        {"namespace": "a", "rights": ["FLY"]},
        {"namespace": "a", "rights": 1},
    ],
)
async def test_bad_wishes_for_keys_are_refused(cluster, body) -> None:
    assert (await cluster.admin("POST", "keys", body)).status == 400


async def test_a_key_gives_the_rights_it_was_made_with(cluster) -> None:
    await cluster.join()
    await cluster.client.put_echo()
    made = await cluster.admin("POST", "keys", {"namespace": "guest", "rights": ["READ", "DELETE"]})
    assert made.json["rights"] == ["READ", "DELETE"]
    auth = basic(made.json["key"])
    assert (await cluster.client.call("GET", "actions/echo", auth=auth)).status == 200
    refused = await cluster.client.call("POST", "actions/echo", auth=auth)
    assert refused.status == 403
    assert refused.json["error"] == "The supplied authentication is not authorized to access 'guest/echo'."
    assert (await cluster.client.call("PUT", "actions/new", {}, auth=auth)).status == 403
    assert (await cluster.client.call("DELETE", "actions/echo", auth=auth)).status == 200


async def test_keys_that_everybody_knows_open_nothing(boot) -> None:
    """The fixture has put both into the store, as a cluster that took them would have left them there."""
    async with boot(allow_well_known_keys=False) as cluster:
        for key in (OPENWHISK_GUEST, OPENWHISK_SYSTEM):
            assert (await cluster.client.call("GET", "/api/v1/namespaces", auth=basic(key))).status == 401
            refused = await cluster.admin("PUT", "keys", {"namespace": "guest", "key": key})
            assert refused.status == 400
            assert "public repository" in refused.json["error"]
        with pytest.raises(FatalError, match="guest_key"):
            async with boot(allow_well_known_keys=False, guest_key=OPENWHISK_GUEST):
                pass
    async with boot(guest_key=OPENWHISK_GUEST) as cluster:
        answer = await cluster.client.call("GET", "/api/v1/namespaces", auth=basic(OPENWHISK_GUEST))
        assert answer.json == ["guest"]
