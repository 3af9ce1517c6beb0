"""The feeds of whisk.system/alarms as a client uses them, and the loop that fires what is due."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from controller.alarms.fires import fires_with
from controller.alarms.loop import CLAIM_S, AlarmLoop
from controller.api.errors import not_found, throttled, unavailable
from fallow.core.alarms import GONE_AFTER, RETRY_MS, Alarm, Fired
from fallow.infra.records import RuleDoc, TriggerDoc
from fallow.infra.store import Store, StoreUnavailable

FEED = "/api/v1/namespaces/whisk.system/actions/alarms"
GUEST = "23bc46b1-71f6-4ed5-8c54-816aa4f8c502:123zO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP"
OTHER = "789c46b1-71f6-4ed5-8c54-816aa4f8c502:abczO3xZCLrMN6v2BKK1dXYFpXlPkccOFqm12CdAsMgRU4VrNZ9lyGVCGuMDGIwP"
SECOND = 1_000
NOON = 1_790_164_800_000  # 2026-09-23 12:00:00 UTC


async def put_trigger(store, name: str = "t", namespace: str = "guest", **fields) -> TriggerDoc:
    doc = TriggerDoc(namespace=namespace, name=name, version="0.0.1", revision="", updated_unix_ms=1, **fields)
    return await store.put_entity(doc, expect=None)


async def feed(cluster, event: str, name: str = "alarm", *, trigger: str = "/_/t", key: str = GUEST, **args):
    """The result of a blocking call of the feed action, as `wsk` makes it."""
    body = {"lifecycleEvent": event, "triggerName": trigger, "authKey": key, **args}
    answer = await cluster.client.call("POST", f"{FEED}/{name}?blocking=true&result=true", body)
    assert answer.status == (502 if "error" in answer.json else 200), answer.body
    return answer.json


@pytest.fixture
async def idle(redis: str) -> AsyncIterator[Store]:
    """A store without a controller, whose loop would take part."""
    store = await Store.open(redis)
    yield store
    await store.close()


@dataclass
class Bell:
    """A loop of a controller's own with a clock that stands, and what it fired."""

    store: Store
    now: int = NOON
    fired: list[tuple[str, int]] = field(default_factory=list)
    outcome: Fired | Exception = Fired.DONE
    stopping: set[str] = field(default_factory=set)

    def loop(self, controller_id: str = "c-1") -> AlarmLoop:
        return AlarmLoop(
            controller_id=controller_id,
            store=self.store,
            fire=self.fire,
            accepting=lambda: controller_id not in self.stopping,
            now_unix_ms=lambda: self.now,
        )

    async def fire(self, alarm: Alarm) -> Fired:
        self.fired.append((alarm.trigger, self.now - NOON))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def alarm(trigger: str = "t", **fields) -> Alarm:
    return Alarm(**{"namespace": "guest", "trigger": trigger, "subject": "s", "payload": {}, "shown": {}, **fields})


# ---- the feeds -------------------------------------------------------------------------------------------------------


async def test_the_life_of_a_feed(cluster) -> None:
    await put_trigger(cluster.store)
    made = await feed(cluster, "CREATE", trigger="/guest/t", cron="0 * * * *", trigger_payload={"a": 1})
    assert made == {"status": "success"}
    read = await feed(cluster, "READ")
    assert read["config"] == {"name": "t", "namespace": "guest", "payload": {"a": 1}, "cron": "0 * * * *"}
    assert read["status"]["active"] is True
    assert await feed(cluster, "UPDATE", cron="0 0 * * *") == {"status": "success"}
    assert (await feed(cluster, "READ"))["config"]["cron"] == "0 0 * * *"
    assert await feed(cluster, "PAUSE") == {"status": "success"}
    assert (await feed(cluster, "READ"))["status"]["active"] is False
    assert await feed(cluster, "UNPAUSE", trigger="t") == {"status": "success"}
    assert (await feed(cluster, "READ"))["status"]["active"] is True
    assert await feed(cluster, "DELETE") == {"status": "success"}
    assert "could not find" in (await feed(cluster, "READ"))["error"]
    assert await feed(cluster, "DELETE") == {"status": "success"}, "what is gone may be deleted again"


async def test_interval_and_once(cluster) -> None:
    await put_trigger(cluster.store)
    await feed(cluster, "CREATE", "interval", minutes=5)
    assert (await feed(cluster, "READ", "interval"))["config"]["minutes"] == 5
    await feed(cluster, "CREATE", "once", date="2999-01-01T00:00:00Z")
    assert (await feed(cluster, "READ", "once"))["config"]["date"] == "2999-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("event", "args", "text"),
    [
        ("CREATE", {"cron": "nonsense"}, "cron pattern 'nonsense' is not valid"),
        ("CREATE", {"cron": "* * * * *", "trigger": "/_/missing"}, "The trigger 'guest/missing' does not exist."),
        ("CREATE", {"cron": "* * * * *", "key": OTHER, "trigger": "/guest/t"}, "not authorized to access 'guest/t'"),
        ("CREATE", {"cron": "* * * * *", "key": "a:b"}, "The supplied authentication is invalid"),
        ("CREATE", {"cron": "* * * * *", "key": "\ud800"}, "The supplied authentication is invalid"),
        ("CREATE", {"cron": "* * * * *", "key": ""}, "no authKey parameter was provided"),
        ("CREATE", {"cron": "* * * * *", "trigger": ""}, "no trigger name parameter was provided"),
        ("CREATE", {"cron": "* * * * *", "trigger": "/guest/t/x"}, "illegal characters"),
        ("READ", {}, "could not find the alarm of trigger 'guest/t'"),
        ("UPDATE", {"cron": "* * * * *"}, "could not find the alarm of trigger 'guest/t'"),
        ("EXPLODE", {}, "unsupported lifecycleEvent"),
        (["CREATE"], {}, "unsupported lifecycleEvent"),
    ],
)
async def test_what_a_feed_refuses(cluster, event, args, text) -> None:
    await put_trigger(cluster.store)
    assert text in (await feed(cluster, event, **args))["error"]
    assert await cluster.store.get_alarm("guest", "t") is None


async def test_a_key_that_may_not_fire_makes_no_alarm(cluster) -> None:
    reader = f"11111111-0000-4000-8000-000000000000:{'r' * 64}"
    await cluster.store.put_key("guest", reader, rights=("READ",))
    await put_trigger(cluster.store)
    assert "not authorized" in (await feed(cluster, "CREATE", cron="* * * * *", key=reader))["error"]
    await feed(cluster, "CREATE", cron="* * * * *")
    for event in ("DELETE", "PAUSE", "UNPAUSE", "UPDATE"):
        assert "not authorized" in (await feed(cluster, event, cron="0 * * * *", key=reader))["error"]
    assert (await feed(cluster, "READ", key=reader))["config"]["cron"] == "* * * * *"


@pytest.mark.parametrize("given", [{"maxTriggers": 10**30}, {"trigger_payload": {"n": 10**30}}, {"minutes": 10**30}])
async def test_numbers_beyond_reason(cluster, given) -> None:
    await put_trigger(cluster.store)
    answer = await feed(cluster, "CREATE", **({"cron": "* * * * *"} if "minutes" not in given else {}), **given)
    assert answer == {"status": "success"} or "must be" in answer["error"] or "cannot be stored" in answer["error"]


async def test_the_key_is_not_kept(cluster) -> None:
    await put_trigger(cluster.store)
    await feed(cluster, "CREATE", cron="* * * * *")
    stored = await cluster.store.get_alarm("guest", "t")
    assert stored.alarm.subject == "guest"
    assert GUEST.partition(":")[2].encode() not in stored.row


async def test_a_feed_leaves_a_record_like_any_action(cluster, until) -> None:
    await cluster.join()  # nothing is read from the queue while there is no VM
    await put_trigger(cluster.store)
    body = {"lifecycleEvent": "CREATE", "triggerName": "/_/t", "authKey": GUEST, "cron": "0 0 * * *"}
    taken = await cluster.client.call("POST", f"{FEED}/alarm", body)
    assert taken.status == 202

    async def recorded():
        answer = await cluster.client.call("GET", f"activations/{taken.json['activationId']}")
        return answer.json if answer.status == 200 else None

    record = await until(recorded)
    assert record["response"]["result"] == {"status": "success"}
    assert {item["key"]: item["value"] for item in record["annotations"]}["path"] == "whisk.system/alarms/alarm"


async def test_a_binding_may_hold_arguments_of_a_feed(cluster) -> None:
    await put_trigger(cluster.store)
    parameters = [{"key": "cron", "value": "0 0 * * *"}, {"key": "trigger_payload", "value": "hi"}]
    body = {"binding": {"namespace": "whisk.system", "name": "alarms"}, "parameters": parameters}
    assert (await cluster.client.call("PUT", "packages/mine", body)).status == 200
    args = {"lifecycleEvent": "CREATE", "triggerName": "/_/t", "authKey": GUEST}
    assert (await cluster.client.call("POST", "actions/mine/alarm?blocking=true", args)).status == 200
    assert (await feed(cluster, "READ"))["config"]["payload"] == {"payload": "hi"}


# ---- the loop --------------------------------------------------------------------------------------------------------


async def test_an_alarm_fires_once_at_each_of_its_times(idle) -> None:
    bell = Bell(idle)
    await idle.put_alarm(alarm(cron="*/5 * * * * *"), NOON)
    loop = bell.loop()
    for second in range(12):
        bell.now = NOON + second * SECOND
        await loop.step()
        await loop.step()
    assert bell.fired == [("t", 0), ("t", 5_000), ("t", 10_000)]


async def test_of_several_controllers_one_fires(idle) -> None:
    bell = Bell(idle)
    for name in ("a", "b", "c"):
        await idle.put_alarm(alarm(name, cron="*/5 * * * * *"), NOON)
    loops = [bell.loop(f"c-{i}") for i in range(3)]
    for second in range(6):
        bell.now = NOON + second * SECOND
        await asyncio.gather(*(loop.step() for loop in loops))
    assert sorted(bell.fired) == [(name, at) for name in "abc" for at in (0, 5_000)]
    holders = [await idle.release("alarms", f"c-{i}") for i in range(3)]
    assert holders.count(True) == 1


async def test_after_a_pause_of_all_controllers_one_fire_stands_for_the_missed(idle) -> None:
    bell = Bell(idle, now=NOON + 61 * SECOND)
    await idle.put_alarm(alarm(cron="*/5 * * * * *"), NOON)
    loop = bell.loop()
    for bell.now in (NOON + 61 * SECOND, NOON + 64 * SECOND, NOON + 65 * SECOND):
        await loop.step()
    assert bell.fired == [("t", 61_000), ("t", 65_000)]


async def test_an_alarm_outlives_the_controller_that_claimed_it(idle) -> None:
    bell = Bell(idle)
    await idle.put_alarm(alarm(date_unix_ms=NOON), NOON)
    until_unix_ms = NOON + round(CLAIM_S * 1000)
    taken = await idle.claim_alarms(now_unix_ms=NOON, until_unix_ms=until_unix_ms, count=10)
    assert len(taken) == 1, "claimed by a controller that dies now"
    loop = bell.loop()
    await loop.step()
    assert bell.fired == []
    bell.now = until_unix_ms
    await loop.step()
    assert [name for name, _ in bell.fired] == ["t"]


async def test_a_fire_that_fails_for_the_moment_comes_again(idle) -> None:
    bell = Bell(idle, outcome=Fired.NOT_NOW)
    await idle.put_alarm(alarm(date_unix_ms=NOON), NOON)
    loop = bell.loop()
    await loop.step()
    bell.now = NOON + RETRY_MS
    bell.outcome = StoreUnavailable("away")
    await loop.step()
    bell.now += round(CLAIM_S * 1000)
    bell.outcome = Fired.DONE
    await loop.step()
    assert len(bell.fired) == 3
    ended = (await idle.get_alarm("guest", "t")).alarm
    assert (ended.active, ended.reason) == (False, "Automatically disabled after firing once")


async def test_an_alarm_whose_trigger_is_gone_removes_itself(idle) -> None:
    bell = Bell(idle, outcome=Fired.NO_TRIGGER)
    await idle.put_alarm(alarm(cron="* * * * * *"), NOON)
    loop = bell.loop()
    for second in range(GONE_AFTER + 3):
        bell.now = NOON + second * SECOND
        await loop.step()
    assert len(bell.fired) == GONE_AFTER
    assert await idle.get_alarm("guest", "t") is None


@pytest.mark.parametrize(("wish", "rule_stays"), [("true", True), ("rules", False)])
async def test_one_that_fires_once_may_delete_its_trigger(idle, wish, rule_stays) -> None:
    store, bell = idle, Bell(idle)
    await put_trigger(store, rules={"r": {"action": "guest/a", "active": True}})
    rule = RuleDoc(
        namespace="guest",
        name="r",
        version="0.0.1",
        revision="",
        updated_unix_ms=1,
        trigger="guest/t",
        action="guest/a",
    )
    await store.put_entity(rule, expect=None)
    await store.put_alarm(alarm(date_unix_ms=NOON, delete_after_fire=wish), NOON)
    await bell.loop().step()
    assert bell.fired == [("t", 0)]
    assert await store.get_entity(TriggerDoc, "guest", "t") is None
    assert (await store.get_entity(RuleDoc, "guest", "r") is not None) is rule_stays
    assert await store.get_alarm("guest", "t") is None


async def test_a_change_while_it_fires_stands(idle) -> None:
    store, bell = idle, Bell(idle)
    await store.put_alarm(alarm(cron="* * * * * *"), NOON)
    fire = bell.fire

    async def deleted_meanwhile(fired: Alarm) -> Fired:
        await store.delete_alarm(fired.namespace, fired.trigger)
        return await fire(fired)

    bell.fire = deleted_meanwhile
    loop = bell.loop()
    await loop.step()
    assert await store.get_alarm("guest", "t") is None
    bell.now = NOON + 10 * SECOND
    await loop.step()
    assert bell.fired == [("t", 0)]


async def test_a_controller_that_stops_leaves_alarms_to_another(idle) -> None:
    bell = Bell(idle)
    await idle.put_alarm(alarm(cron="* * * * * *"), NOON)
    bell.stopping.add("c-1")
    await bell.loop("c-1").step()
    assert bell.fired == []
    await bell.loop("c-2").step()
    assert bell.fired == [("t", 0)]


async def test_more_than_are_taken_at_once_all_fire(idle) -> None:
    bell = Bell(idle)
    names = {f"t{i}" for i in range(120)}
    for name in names:
        await idle.put_alarm(alarm(name, date_unix_ms=NOON), NOON)
    await bell.loop().step()
    assert sorted(name for name, _ in bell.fired) == sorted(names)


# ---- both ------------------------------------------------------------------------------------------------------------


async def put_rule(client, name: str = "t") -> None:
    await client.put_echo("heard")
    for path, body in (
        (f"triggers/{name}", {"parameters": [{"key": "from", "value": "trigger"}]}),
        (f"rules/{name}-rule", {"trigger": f"/_/{name}", "action": "/_/heard"}),
    ):
        answer = await client.call("PUT", path, body)
        assert answer.status == 200, answer.body


async def fires_of(client, name: str = "t") -> list[dict]:
    listed = (await client.call("GET", f"activations?name={name}&docs=true")).json
    return [record for record in listed if record["name"] == name]


async def test_two_controllers_fire_a_trigger_once_and_its_action_hears_of_it(cluster, boot, until) -> None:
    invoker = await cluster.join()
    await put_rule(cluster.client)
    async with boot():
        wish = {"cron": "* * * * * *", "maxTriggers": 1, "trigger_payload": {"a": 1}}
        assert await feed(cluster, "CREATE", **wish) == {"status": "success"}

        async def ended():
            status = (await feed(cluster, "READ"))["status"]
            return None if status["active"] else status

        status = await until(ended)
        assert status["reason"] == {"kind": "AUTO", "message": "Automatically disabled after reaching max triggers"}
        (run,) = await invoker.got(1)
        assert json.loads(run.args) == {"from": "trigger", "a": 1}
        (fire,) = await fires_of(cluster.client)
        assert (fire["subject"], fire["response"]["result"]) == ("guest", {"a": 1})
        assert run.cause == fire["activationId"]


async def test_an_alarm_outlives_every_controller(redis, boot, until) -> None:
    async with boot(controller_id="c-1") as first:
        await put_rule(first.client)
        await feed(first, "CREATE", "once", date="2999-01-01T00:00:00Z", trigger_payload="hi")
    store = await Store.open(redis)
    stored = await store.get_alarm("guest", "t")
    await store.put_alarm(stored.alarm, 1, expect=stored)  # as if its time had come meanwhile
    await store.close()
    async with boot(controller_id="c-1") as second:
        (fire,) = await until(lambda: fires_of(second.client))
        assert fire["response"]["result"] == {"payload": "hi"}


@pytest.mark.parametrize(
    ("over", "refused", "came"),
    [
        (None, None, Fired.DONE),
        (throttled("Too many requests in the last minute."), None, Fired.NOT_NOW),
        (None, unavailable("stopping"), Fired.NOT_NOW),
        (None, not_found(), Fired.NO_TRIGGER),
    ],
)
async def test_what_comes_of_a_fire(over, refused, came) -> None:
    asked = []

    class Firing:
        async def fire(self, caller, name, payload):
            asked.append((caller.namespace, caller.subject, caller.api_key, name, payload))
            if refused is not None:
                raise refused

    async def throttle(namespace: str) -> None:
        if over is not None:
            raise over

    assert await fires_with(Firing(), throttle)(alarm(payload={"a": 1})) is came
    assert asked == ([] if over else [("guest", "s", "", "t", {"a": 1})])
