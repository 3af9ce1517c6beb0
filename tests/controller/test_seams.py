"""Where controller, store and link meet at a bad moment: no answer is lost, none is given twice, none is untrue."""

from __future__ import annotations

import pytest

from controller import leases
from controller.leases import Leases
from controller.stream_reader import StreamReader
from fallow.core.model import ActionSpec
from fallow.infra.messages import Recorded, Report
from fallow.infra.records import ControllerLease, StreamEntry
from fallow.infra.store import Store

FULL = Report(cores=4.0, memory_mb=4096.0, cpu_used=0.0, memory_used_mb=0.0, full=True)
SPEC = ActionSpec(namespace="guest", name="echo", version="0.0.1", revision="r", kind="python:3")


def entry(activation_id: str, **more) -> StreamEntry:
    return StreamEntry(
        activation_id=activation_id, action=SPEC, args=b"{}", subject="guest", transaction_id="t",
        accepted_unix_ms=1, **more,
    )  # fmt: skip


def after_accept(cluster, then) -> list[StreamEntry]:
    """Has `then` awaited between the store's answer to the first accept and the controller's hearing of it."""
    accept, entered = cluster.store.accept, []

    async def slow(call: StreamEntry):
        entered.append(call)
        answer = await accept(call)
        if len(entered) == 1:
            await then()
        return answer

    cluster.store.accept = slow
    return entered


async def test_a_call_refused_while_it_is_entered_was_accepted(boot, until) -> None:
    async with boot(max_wait_s=0.3) as cluster:
        await cluster.join("h1", report=FULL)
        await cluster.client.put_echo()

        async def refused() -> None:
            async def seen():
                return (await cluster.admin("GET", "status")).json["refused"]["waited"]

            await until(seen)

        after_accept(cluster, refused)
        answer = await cluster.client.call("POST", "actions/echo?blocking=true&timeout=20", {"n": 1})
        assert answer.status == 202
        await cluster.join("h2")

        async def record():
            got = await cluster.client.call("GET", f"activations/{answer.json['activationId']}")
            return got if got.status == 200 else None

        assert (await until(record)).json["response"]["result"] == {"n": 1}


async def test_a_call_started_while_it_is_entered_is_fenced(cluster) -> None:
    """Else a controller that claims the entry would take the call for one that never started."""
    await cluster.join("h1", report=FULL)
    await cluster.client.put_echo()
    started = []

    async def start() -> None:
        invoker = await cluster.join("h2", behaviour=lambda invoker, run: None)
        started.append((await invoker.got(1))[0])

    entered = after_accept(cluster, start)
    answer = await cluster.client.call("POST", "actions/echo?blocking=true&timeout=50", {})
    assert answer.status == 202
    assert [call.running_attempt for call in entered] == [0, 1]
    assert started[0].attempt == 1
    assert await cluster.store.read_fence(answer.json["activationId"]) == 1
    assert (await cluster.store.usage()).entries == 1


async def test_an_entry_handed_over_for_a_call_that_is_gone_is_run(cluster, until) -> None:
    invoker = await cluster.join()
    await cluster.client.put_echo()

    async def record(activation_id: str):
        invoker.link.send(invoker.report)  # or the VM is taken for lost
        return await cluster.store.get_record("guest", activation_id)

    first = (await cluster.client.call("POST", "actions/echo", {})).json["activationId"]
    await until(lambda: record(first))  # what was pending from the start has been looked at
    me, other = cluster.controller.id, "x"
    await cluster.store.renew_lease(ControllerLease(controller_id=other, link_url="", api_url=""), 60.0)
    invoker.link.send(FULL)  # so that the controller reads nothing new, once the read under way has ended
    taken = []
    for number in range(1000):
        await cluster.store.accept(entry(f"{number:032x}", controller_id=me))
        if taken := await cluster.store.read_entries(other, count=1, block_ms=0):
            break
    assert await cluster.store.hand_over(taken[0].entry_id, me)
    assert (await until(lambda: record(taken[0].activation_id))).status == 0


async def test_an_answer_whose_record_was_fenced_off_is_let_go(cluster, until) -> None:
    invoker = await cluster.join(behaviour=lambda invoker, run: invoker.finish(run, b"{}"))
    invoker.records = False
    await cluster.client.put_echo()
    assert (await cluster.client.call("POST", "actions/echo?blocking=true")).status == 200
    activation_id = invoker.runs[0].activation_id

    async def held() -> int:
        return (await cluster.admin("GET", "status")).json["held_calls"]

    invoker.link.send(Recorded(activation_ids=[], fenced=((activation_id, 2),)))
    invoker.link.send(Recorded(activation_ids=["b" * 32]))
    assert await held() == 1  # attempt 2 is not the one that was answered with
    invoker.link.send(Recorded(activation_ids=[], fenced=((activation_id, 1),)))

    async def none_held() -> bool:
        return await held() == 0

    await until(none_held)


@pytest.fixture
async def store(redis: str):
    opened = await Store.open(redis)
    yield opened
    await opened.close()


async def test_after_an_absence_of_the_store_nobody_is_taken_for_dead(store, monkeypatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(leases, "mono_s", lambda: now_s)
    mine = ControllerLease(controller_id="me", link_url="", api_url="")
    known = Leases(store=store, lease=mine, ttl_s=5.0, changed=lambda live: None)
    assert not known.is_lapsed("other")  # never looked up
    await known.renew()
    assert known.is_lapsed("other")
    now_s += 6.0
    assert not known.is_lapsed("other")  # looked up too long ago
    await known.renew()
    for _ in range(4):
        assert not known.is_lapsed("other")  # its lease lapsed while nobody could renew one
        now_s += 1.25
        await known.renew()
    assert known.is_lapsed("other")


async def test_a_controller_that_has_just_come_keeps_its_entries(store) -> None:
    mine = ControllerLease(controller_id="me", link_url="", api_url="")
    known = Leases(store=store, lease=mine, ttl_s=5.0, changed=lambda live: None)
    await known.renew()
    await store.renew_lease(ControllerLease(controller_id="new", link_url="", api_url=""), 60.0)
    await store.accept(entry("c" * 32))
    await store.read_entries("new", count=1, block_ms=0)
    taken = []
    reader = StreamReader(
        controller_id="me", store=store, dispatcher=_Taker(taken), ledger=_Ledger(), leases=known, room=lambda: 10
    )
    await reader.claim()
    assert (taken, await store.stream_owners()) == ([], {"new": 1})
    await store.release_lease("new")
    await known.renew()
    await reader.claim()
    assert [call.activation.id for call in taken] == ["c" * 32]


class _Taker:
    def __init__(self, taken: list) -> None:
        self.arrive = taken.append


class _Ledger:
    durable = 0

    def room(self) -> int:
        return 10

    def __contains__(self, activation_id: str) -> bool:
        return False
