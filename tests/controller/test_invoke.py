"""Calls through a real controller: what the client is told, and what stays in the store."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import replace

import pytest

from fallow.core.model import Status
from fallow.infra import codec
from fallow.infra.log import LineLog
from fallow.infra.messages import Report


def hold(invoker, run) -> None:
    """Answers nothing: the test does."""


async def test_blocking_echo_gives_the_record(cluster) -> None:
    invoker = await cluster.join()
    await cluster.client.put_echo()
    answer = await cluster.client.call("POST", "actions/echo?blocking=true", {"a": 1})
    assert answer.status == 200, answer.body
    record = answer.json
    assert record["response"] == {"status": "success", "success": True, "result": {"a": 1}, "size": 8}
    assert record["logs"] == []
    assert record["activationId"] == answer.headers["X-Openwhisk-Activation-Id"] == invoker.runs[0].activation_id
    annotations = {item["key"]: item["value"] for item in record["annotations"]}
    assert annotations["path"] == "guest/echo"
    assert annotations["kind"] == "python:3"
    assert annotations["vm"] == "h1"
    assert annotations["initTime"] == 20
    assert json.loads(invoker.runs[0].args) == {"a": 1}


@pytest.mark.parametrize(
    ("status", "http"),
    [(Status.APPLICATION_ERROR, 502), (Status.DEVELOPER_ERROR, 502), (Status.WHISK_ERROR, 500)],
)
async def test_errors_answer_with_the_record_or_only_the_result(cluster, status, http) -> None:
    await cluster.join(behaviour=lambda invoker, run: invoker.finish(run, b'{"error":"boom"}', status))
    await cluster.client.put_echo()
    whole = await cluster.client.call("POST", "actions/echo?blocking=true")
    assert (whole.status, whole.json["response"]["status"]) == (http, status.text)
    bare = await cluster.client.call("POST", "actions/echo?blocking=true&result=true")
    assert (bare.status, bare.json) == (http, {"error": "boom"})
    assert len(bare.headers["X-Openwhisk-Activation-Id"]) == 32


async def test_an_array_result_stands_alone(cluster) -> None:
    await cluster.join(behaviour=lambda invoker, run: invoker.finish(run, b"[1, 2]"))
    await cluster.client.put_echo()
    answer = await cluster.client.call("POST", "actions/echo?blocking=true", {})
    assert (answer.status, answer.body) == (200, b"[1, 2]")


async def test_arguments_are_merged_and_final_ones_defended(cluster) -> None:
    invoker = await cluster.join()
    parameters = [
        {"key": "a", "value": 1},
        {"key": "b", "value": 2},
        {"key": "SECRET", "value": {"x": 1}, "init": True},
    ]
    await cluster.client.put_echo("plain", parameters=parameters)
    await cluster.client.put_echo(
        "closed",
        parameters=[*parameters, {"key": "open", "value": None}],
        annotations=[{"key": "final", "value": True}],
    )
    answer = await cluster.client.call("POST", "actions/plain?blocking=true&result=true", {"b": 3, "c": 4})
    assert answer.json == {"a": 1, "b": 3, "c": 4}
    none = await cluster.client.call("POST", "actions/plain?blocking=true&result=true")
    assert none.json == {"a": 1, "b": 2}
    refused = await cluster.client.call("POST", "actions/closed?blocking=true", {"a": 5})
    assert refused.status == 400
    assert "not allowed" in refused.json["error"]
    fine = await cluster.client.call("POST", "actions/closed?blocking=true&result=true", {"open": 5})
    assert fine.json == {"a": 1, "b": 2, "open": 5}
    assert codec.decode_action(invoker.runs[0].action).init_env == (("SECRET", '{"x":1}'),)


async def test_the_body_passes_untouched(cluster) -> None:
    invoker = await cluster.join()
    await cluster.client.put_echo()
    body = b'{ "z" : 1.50, "a":"\\u00e9" }'
    await cluster.client.call("POST", "actions/echo?blocking=true", data=body)
    assert invoker.runs[0].args == body


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "malformed"),
        (b"[1]", "Object expected, not an array"),
        (b"3", "Object expected"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": Infinity}', "Infinity"),
        (b'{"a": -1e999}', "out of range"),
        (b"\xff\xfe", "malformed"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"a":' + b"9" * 6000 + b"}", "malformed"),
    ],
)
async def test_bad_bodies_are_the_clients_fault(cluster, body, text) -> None:
    await cluster.client.put_echo()
    answer = await cluster.client.call("POST", "actions/echo?blocking=true", data=body)
    assert answer.status == 400, answer.body[:200]
    assert text in answer.json["error"]


async def test_large_and_mistyped_bodies(cluster) -> None:
    await cluster.client.put_echo()
    declared = await cluster.client.call(
        "POST", "actions/nothere?blocking=true", data=io.BytesIO(b" " * ((1 << 20) + 1))
    )
    assert (declared.status, declared.json["error"]) == (413, "Request larger than allowed: 1048577 > 1048576 bytes.")

    async def endless():
        for _ in range(40):
            yield b" " * 65536

    chunked = await cluster.client.call("POST", "actions/echo", data=endless())
    assert chunked.status == 413
    typed = await cluster.client.call(
        "POST", "actions/echo", data=b"a=1", headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert typed.status == 415
    for timeout in ("0", "60001", "x", "-1"):
        answer = await cluster.client.call("POST", f"actions/echo?blocking=true&timeout={timeout}")
        assert answer.status == 400
        assert "Timeout must be number of milliseconds up to 60000." in answer.json["error"]


async def test_unknown_action_and_no_vm(boot) -> None:
    async with boot() as cluster:
        assert (await cluster.client.call("POST", "actions/echo?blocking=true")).status == 404
        assert (await cluster.client.call("POST", "actions/pkg/echo?blocking=true")).status == 404
        await cluster.client.put_echo()
        answer = await cluster.client.call("POST", "actions/echo?blocking=true")
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert "no VM" in answer.json["error"]


async def test_a_strategy_that_forbids_every_vm_says_so(boot) -> None:
    async with boot(strategy="no-failures", lost_after_s=60.0) as cluster:
        await cluster.join("h1")
        await cluster.client.put_echo("short")
        await cluster.client.put_echo("long", annotations=[{"key": "long", "value": True}])
        answer = await cluster.client.call("POST", "actions/long?blocking=true")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert answer.json["error"] == (
            "The invocation could not be placed: the eviction strategy allows none of the VMs that are there: "
            "a long call may need a regular one."
        )
        assert (await cluster.client.call("POST", "actions/short?blocking=true")).status == 200
        await cluster.join("r1", kind="regular")
        answer = await cluster.client.call("POST", "actions/long?blocking=true")
        assert answer.status == 200
        status = (await cluster.admin("GET", "status")).json
        assert status["refused"]["forbidden"] == 1
        assert (status["placements"]["short_harvest"], status["placements"]["long_regular"]) == (1, 1)
        assert status["strategy"] == "no-failures"


async def test_an_action_larger_than_every_vm_is_refused_in_numbers(cluster) -> None:
    invoker = await cluster.join()  # 4096 MB
    await cluster.join("h2", report=Report(cores=4.0, memory_mb=511.0, cpu_used=0.0, memory_used_mb=0.0))
    await cluster.client.put_echo("fits", limits={"memory": 512})
    for _ in range(4):
        assert (await cluster.client.call("POST", "actions/fits?blocking=true")).status == 200
    assert len(invoker.runs) == 4, "never on the VM that is too small"
    await cluster.store.put_action(
        replace(await cluster.store.get_action("guest", "fits"), name="huge", memory_mb=4097), b"", expect="*"
    )
    for query in ("?blocking=true", ""):
        answer = await cluster.client.call("POST", f"actions/huge{query}")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert answer.json["error"] == "The action's memory limit is 4097 MB, and the largest VM has 4096 MB."
    assert (await cluster.admin("GET", "status")).json["refused"]["too_large"] == 2


async def test_refused_calls_leave_a_log_line(boot, monkeypatch, capsys) -> None:
    monkeypatch.setattr(LineLog, "process", "controller")  # lines of calls as JSON
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {"traceparent": parent, "X-Request-ID": "mine"}
    async with boot(waiting_calls=0, stream_entries=0) as cluster:
        full = Report(cores=4.0, memory_mb=4096.0, cpu_used=0.0, memory_used_mb=0.0, full=True)
        await cluster.join("h1", report=full)
        await cluster.client.put_echo()
        assert (await cluster.client.call("POST", "actions/echo?blocking=true", headers=headers)).status == 429
        assert (await cluster.client.call("POST", "actions/echo", headers={"X-Request-ID": "mine"})).status == 429
        await cluster.join("h2")
        assert (await cluster.client.call("POST", "actions/echo?blocking=true", headers=headers)).status == 200
    lines = [line for line in capsys.readouterr().err.splitlines() if '"event": "activation"' in line]
    first, second, third = map(json.loads, lines)
    assert first["reason"] == "every VM is full and the waiting room is full"
    assert second["reason"] == "The queue of accepted invocations is full. Try again shortly."
    assert {(line["status"], line["transaction"], line["action"]) for line in (first, second)} == {
        ("refused", "mine", "guest/echo")
    }
    assert (len(first["activation"]), second["activation"]) == (32, "")
    assert first["traceparent"] == third["traceparent"] == parent
    assert "traceparent" not in second
    assert third["status"] == "success"


async def test_a_bounded_waiting_room_refuses_with_retry_after(boot) -> None:
    async with boot(waiting_calls=1) as cluster:
        full = Report(cores=4.0, memory_mb=4096.0, cpu_used=0.0, memory_used_mb=0.0, full=True)
        await cluster.join("h1", report=full)
        await cluster.client.put_echo()
        first = asyncio.ensure_future(cluster.client.call("POST", "actions/echo?blocking=true"))
        second = asyncio.ensure_future(cluster.client.call("POST", "actions/echo?blocking=true"))
        await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
        refused, waiting = (first, second) if first.done() else (second, first)
        assert refused.result().status == 429
        assert "Retry-After" in refused.result().headers
        await cluster.join("h2")
        assert (await waiting).status == 200


async def test_in_flight_bound_counts_unrecorded_outcomes(boot, until) -> None:
    async with boot(in_flight_calls=2) as cluster:
        invoker = await cluster.join()
        invoker.records = False
        await cluster.client.put_echo()
        for _ in range(2):
            assert (await cluster.client.call("POST", "actions/echo?blocking=true")).status == 200
        answer = await cluster.client.call("POST", "actions/echo?blocking=true")
        assert (answer.status, "Retry-After" in answer.headers) == (503, True)
        await invoker.link.close()  # the VM is lost: the controller writes the records itself

        async def recorded():
            found = await cluster.client.call("GET", "activations?docs=true")
            return found.json if len(found.json) == 2 else None

        for record in await until(recorded):
            assert record["logs"] == ["There was an issue while collecting your logs. Data might be missing."]
            assert {"key": "logsMissing", "value": True} in record["annotations"]


async def test_non_blocking_call_is_answered_once_it_is_in_the_stream(cluster, until) -> None:
    await cluster.client.put_echo()
    accepted = await cluster.client.call("POST", "actions/echo?result=true", {"n": 1})
    assert accepted.status == 202
    activation_id = accepted.json["activationId"]
    assert (await cluster.store.usage()).entries == 1
    await cluster.join()

    async def found():
        answer = await cluster.client.call("GET", f"activations/{activation_id}")
        return answer if answer.status == 200 else None

    record = (await until(found)).json
    assert record["response"]["result"] == {"n": 1}
    assert (await cluster.store.usage()).entries == 0


async def test_full_stream_is_429(boot) -> None:
    async with boot(stream_entries=1) as cluster:
        await cluster.client.put_echo()
        assert (await cluster.client.call("POST", "actions/echo")).status == 202
        answer = await cluster.client.call("POST", "actions/echo")
        assert (answer.status, "Retry-After" in answer.headers) == (429, True)


async def test_expired_wait_enters_the_stream_and_the_call_goes_on(cluster, until) -> None:
    invoker = await cluster.join(behaviour=hold)
    await cluster.client.put_echo()
    answer = await cluster.client.call("POST", "actions/echo?blocking=true&timeout=50", {"n": 2})
    assert answer.status == 202
    activation_id = answer.json["activationId"]
    assert answer.headers["X-Openwhisk-Activation-Id"] == activation_id
    assert await cluster.store.read_fence(activation_id) == 1
    invoker.finish(invoker.runs[0], b'{"late":true}')

    async def found():
        got = await cluster.client.call("GET", f"activations/{activation_id}/result")
        return got if got.status == 200 else None

    assert (await until(found)).json["result"] == {"late": True}
    assert len(invoker.runs) == 1
    assert (await cluster.store.usage()).entries == 0


async def test_a_full_stream_keeps_an_expired_client_waiting(boot) -> None:
    async with boot(stream_entries=0) as cluster:
        invoker = await cluster.join(behaviour=hold)
        await cluster.client.put_echo()
        waiting = asyncio.ensure_future(cluster.client.call("POST", "actions/echo?blocking=true&timeout=20", {}))
        run = (await invoker.got(1))[0]
        await asyncio.wait([waiting], timeout=0.3)
        assert not waiting.done()  # no 202: nothing durable stands behind one
        invoker.finish(run, b'{"ok":1}')
        answer = await waiting
        assert (answer.status, answer.json["response"]["result"]) == (200, {"ok": 1})


async def test_cut_off_call_is_replaced_and_a_late_result_discarded(cluster) -> None:
    first = await cluster.join("h1", behaviour=hold)
    await cluster.client.put_echo()
    waiting = asyncio.ensure_future(cluster.client.call("POST", "actions/echo?blocking=true&result=true", {"n": 3}))
    run = (await first.got(1))[0]
    second = await cluster.join("h2")
    await first.link.close()
    answer = await waiting
    assert (answer.status, answer.json) == (200, {"n": 3})
    assert second.runs[0].attempt == 2
    assert second.runs[0].activation_id == run.activation_id
    status = (await cluster.admin("GET", "status")).json
    assert status["replaced"] == 1
    assert status["placements"]["short_harvest"] == 2


async def test_non_idempotent_call_ends_once_with_the_reason(cluster, until) -> None:
    first = await cluster.join("h1", behaviour=hold)
    second = await cluster.join("h2", behaviour=hold)
    await cluster.client.put_echo("once", annotations=[{"key": "idempotent", "value": False}])
    waiting = asyncio.ensure_future(cluster.client.call("POST", "actions/once?blocking=true", {}))
    async with asyncio.timeout(5):
        done, other = await asyncio.wait(
            [asyncio.ensure_future(first.got(1)), asyncio.ensure_future(second.got(1))],
            return_when=asyncio.FIRST_COMPLETED,
        )
    for task in other:
        task.cancel()
    holder = first if first.runs else second
    await holder.link.close()
    answer = await waiting
    assert answer.status == 500
    assert answer.json["response"]["status"] == "whisk internal error"
    assert "idempotent" in answer.json["response"]["result"]["error"]
    stored = await cluster.client.call("GET", f"activations/{answer.json['activationId']}")
    assert stored.json["response"] == answer.json["response"]
    notes = {note["key"]: note["value"] for note in stored.json["annotations"]}
    assert (notes["vm"], notes["vmKind"]) == (holder.vm_id, "harvest")
    assert "runTime" not in notes, "nobody measured it"
    assert 0 <= notes["waitTime"] == stored.json["start"] - holder.runs[0].accepted_unix_ms
    assert len(first.runs) + len(second.runs) == 1
    assert len(done) == 1


async def test_returned_dispatch_goes_elsewhere_as_the_same_attempt(cluster) -> None:
    first = await cluster.join("h1", behaviour=lambda invoker, run: invoker.give_back(run, "draining"))
    await cluster.client.put_echo()
    waiting = asyncio.ensure_future(cluster.client.call("POST", "actions/echo?blocking=true&result=true", {"n": 4}))
    await first.got(1)
    second = await cluster.join("h2")
    assert (await waiting).json == {"n": 4}
    assert [run.attempt for run in second.runs] == [1]


async def test_a_record_written_by_a_lost_vm_is_the_answer(cluster) -> None:
    """The VM recorded its result and died before the controller heard of it: the fence is refused."""
    first = await cluster.join("h1", behaviour=hold)
    second = await cluster.join("h2", behaviour=hold)
    await cluster.client.put_echo()
    waiting = asyncio.ensure_future(cluster.client.call("POST", "actions/echo?blocking=true&result=true", {}))
    while not (first.runs or second.runs):
        await asyncio.sleep(0.01)
    holder = first if first.runs else second
    sent = []
    link, holder.link = holder.link, type("Deaf", (), {"send": sent.append, "close": holder.link.close})()
    holder.finish(holder.runs[0], b'{"from":"record"}')
    while not any(type(message).__name__ == "Recorded" for message in sent):
        await asyncio.sleep(0.01)
    await link.close()
    answer = await waiting
    assert (answer.status, answer.json) == (200, {"from": "record"})
    assert len(first.runs) + len(second.runs) == 1


async def test_client_that_leaves_does_not_end_its_call(cluster, until) -> None:
    invoker = await cluster.join(behaviour=hold)
    await cluster.client.put_echo()
    waiting = asyncio.ensure_future(cluster.client.call("POST", "actions/echo?blocking=true", {}))
    run = (await invoker.got(1))[0]
    waiting.cancel()
    await asyncio.wait([waiting])
    invoker.finish(run, b'{"kept":1}')

    async def found():
        got = await cluster.client.call("GET", f"activations/{run.activation_id}")
        return got if got.status == 200 else None

    assert (await until(found)).json["response"]["result"] == {"kept": 1}


async def test_an_update_is_used_by_the_next_call_through_another_controller(boot, until) -> None:
    async with boot() as one, boot() as two:
        await one.join()
        invoker = await two.join()
        await one.client.put_echo()
        assert (await two.client.call("POST", "actions/echo?blocking=true")).json["version"] == "0.0.1"
        await one.client.put_echo()

        async def updated():
            answer = await two.client.call("POST", "actions/echo?blocking=true")
            return answer.json["version"] == "0.0.2"

        await until(updated)
        assert (await one.client.call("DELETE", "actions/echo")).status == 200

        async def gone():
            return (await two.client.call("POST", "actions/echo?blocking=true")).status == 404

        await until(gone)
        assert len({run.action for run in invoker.runs}) == 2
