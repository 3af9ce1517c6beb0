"""The npm package `openwhisk`: triggers, rules, feeds, and all that there is in a namespace."""

from __future__ import annotations

import json

import pytest

from support.cluster import Up
from support.openwhisk_js import ClientError, OpenWhisk

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELLO = "function main(args) { return { hello: args.name } }"
# Fires its trigger once, with the key that it is given, as feeds do.
FEED = """
const request = (name, data) => new Promise((resolve, reject) => {
  const url = new URL(process.env.__OW_API_HOST + '/api/v1/namespaces' + name)
  const headers = { Authorization: 'Basic ' + btoa(data.authKey), 'Content-Type': 'application/json' }
  const sent = require('http').request(url, { method: 'POST', headers }, answer => resolve(answer.statusCode))
  sent.on('error', reject)
  sent.end(JSON.stringify({ name: data.who }))
})
const main = async args => {
  if (args.lifecycleEvent !== 'CREATE') return { event: args.lifecycleEvent, who: args.who }
  if (!args.who) return { error: 'who?' }
  const [namespace, trigger] = args.triggerName.split('/').slice(1)
  return { event: 'CREATE', status: await request(`/${namespace}/triggers/${trigger}`, args) }
}
"""


async def test_a_trigger_runs_the_actions_of_its_active_rules(ow: OpenWhisk, up: Up) -> None:
    await ow("actions", "update", {"name": "greet", "action": HELLO})
    trigger = {"parameters": [{"key": "name", "value": "stored"}]}
    assert (await ow("triggers", "create", {"name": "bell", "trigger": trigger}))["name"] == "bell"
    rule = await ow("rules", "create", {"name": "ring", "action": "greet", "trigger": "bell"})
    assert (rule["status"], rule["trigger"]["name"], rule["action"]["name"]) == ("active", "bell", "greet")
    fired = (await ow("triggers", "invoke", {"name": "bell", "params": {"name": "you"}}))["activationId"]

    async def greeted() -> list[object]:
        listed = await ow("activations", "list", {"name": "greet", "docs": True})
        return [item["response"]["result"] for item in listed if item.get("cause") == fired]

    assert await up.until(greeted) == [{"hello": "you"}]
    record = await up.record(fired)
    assert record["response"]["result"] == {"name": "you"}
    assert [json.loads(line)["rule"] for line in record["logs"]] == ["guest/ring"]

    assert (await ow("rules", "disable", {"name": "ring"}))["status"] == "inactive"
    assert (await ow("rules", "get", "ring"))["status"] == "inactive"
    assert not await ow("triggers", "invoke", {"name": "bell"})
    assert (await ow("rules", "enable", {"name": "ring"}))["status"] == "active"
    assert [item["name"] for item in await ow("rules", "list")] == ["ring"]
    assert [item["name"] for item in await ow("triggers", "list")] == ["bell"]
    assert "guest/ring" in (await ow("triggers", "get", "bell"))["rules"]

    contents = await ow("namespaces", "get", {"name": "guest"})
    assert [item["name"] for item in contents["triggers"]] == ["bell"]
    assert (await ow("rules", "delete", {"name": "ring"}))["status"] == "inactive"
    assert (await ow("triggers", "delete", {"name": "bell"}))["name"] == "bell"


async def test_a_rule_needs_what_it_joins(ow: OpenWhisk) -> None:
    with pytest.raises(ClientError, match="trigger /guest/absent does not exist") as refused:
        await ow("rules", "create", {"name": "loose", "action": "absent", "trigger": "absent"})
    assert refused.value.status == 400


async def test_a_feed_lives_and_fires_its_trigger(ow: OpenWhisk, up: Up) -> None:
    await ow("actions", "update", {"name": "greet", "action": HELLO})
    await ow("actions", "update", {"name": "clock", "action": FEED, "annotations": {"feed": True}})
    fed = {"annotations": [{"key": "feed", "value": "/_/clock"}]}
    await ow("triggers", "create", {"name": "tick", "trigger": fed})
    await ow("rules", "create", {"name": "on-tick", "action": "greet", "trigger": "tick"})
    feed = {"name": "clock", "trigger": "tick"}
    started = await ow("feeds", "create", {**feed, "params": {"who": "the feed"}})
    assert started["response"]["result"] == {"event": "CREATE", "status": 202}

    async def greeted() -> bool:
        listed = await ow("activations", "list", {"name": "greet", "docs": True})
        return {"hello": "the feed"} in [item["response"]["result"] for item in listed]

    assert await up.until(greeted)
    for verb, event in (("get", "READ"), ("update", "UPDATE"), ("delete", "DELETE")):
        told = await ow("feeds", verb, {**feed, "params": {"who": "w"}})
        assert told["response"]["result"] == {"event": event, "who": "w"}
    with pytest.raises(ClientError) as failed:
        await ow("feeds", "create", feed)
    assert failed.value.body["response"]["result"] == {"error": "who?"}
