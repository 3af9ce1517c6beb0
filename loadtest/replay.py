"""Replays a plan over HTTP, open loop: each call is sent when it is due, whatever became of the earlier ones.

A call is lost only if the server took it and no final record is known 30 s after the last arrival (for a call that by
the trace takes longer than that: 30 s after it was due to end).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from fallow.core.model import Status
from fallow.report.run import CallRecord, Ending
from fallow.traces.model import Arrival, ReplayPlan

DRAIN_S = 30.0
MAX_BLOCKING_S = 60.0  # the longest wait OpenWhisk's API allows a blocking invocation
HAND_OVER_S = 3.0  # a wait ends so long before the drain does: the 202 and one poll must still fit
CONNECT_TIMEOUT_S = 20.0
ANSWER_GRACE_S = 8.0  # what a server may take beyond the wait asked for
PROGRESS_PERIOD_S = 0.2
RATE_WINDOW_S = 3.0
POLL_FIRST_S, POLL_MOST_S = 0.1, 1.0
POLL_TIMEOUT_S = 5.0
ID_HEADER = "X-Openwhisk-Activation-Id"
_STATUS = {status.text: status for status in Status}


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a replay is. `done` counts the ended calls: warm and cold ones have a record, failed ones no success."""

    sent: int
    done: int
    failed: int
    cold: int
    warm: int
    rate_per_s: float  # calls sent a second, over the last seconds
    in_flight: int


async def replay(
    plan: ReplayPlan,
    *,
    urls: Sequence[str],
    key: str,
    action_names: Sequence[str],
    on_progress: Callable[[Progress], None] = lambda _: None,
    drain_s: float = DRAIN_S,
) -> list[CallRecord]:
    """How each arrival of the plan ended, in the plan's order. Returns once all have ended or the drain is over.

    `key` is `uuid:secret`; `action_names[i]` is the deployed action of `plan.functions[i]`. Several `urls` take turns.
    """
    # Open loop: a limit on connections would make calls wait for earlier ones.
    connector = aiohttp.TCPConnector(limit=0)
    token = base64.b64encode(key.encode()).decode()
    session = aiohttp.ClientSession(connector=connector, headers={"Authorization": f"Basic {token}"})
    async with session:
        run = _Replay(plan, list(urls), action_names, session, drain_s)
        return await run.run(on_progress)


@dataclass(slots=True)
class _Tally:
    sent: int = 0
    done: int = 0
    failed: int = 0
    cold: int = 0
    warm: int = 0
    history: deque[tuple[float, int]] = field(default_factory=deque)  # (moment, sent by then)

    def add(self, call: CallRecord) -> None:
        self.done += 1
        self.failed += not call.succeeded
        if call.ending is Ending.RECORDED:
            self.cold += call.cold
            self.warm += not call.cold

    def progress(self, now_s: float) -> Progress:
        self.history.append((now_s, self.sent))
        while now_s - self.history[0][0] > RATE_WINDOW_S:
            self.history.popleft()
        since_s, sent_then = self.history[0]
        rate = (self.sent - sent_then) / (now_s - since_s) if now_s > since_s else 0.0
        return Progress(
            sent=self.sent,
            done=self.done,
            failed=self.failed,
            cold=self.cold,
            warm=self.warm,
            rate_per_s=rate,
            in_flight=self.sent - self.done,
        )


class _Replay:
    def __init__(
        self,
        plan: ReplayPlan,
        urls: Sequence[str],
        action_names: Sequence[str],
        session: aiohttp.ClientSession,
        drain_s: float,
    ) -> None:
        self._plan = plan
        self._paths = [f"/api/v1/namespaces/_/actions/{name}" for name in action_names]
        self._names = action_names
        self._urls = [url.rstrip("/") for url in urls]
        self._session = session
        self._drain_s = drain_s
        self._last_s = max((a.at_s for a in plan.arrivals), default=0.0)
        self._tally = _Tally()
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()

    async def run(self, on_progress: Callable[[Progress], None]) -> list[CallRecord]:
        ticker = asyncio.create_task(self._tick(on_progress))
        tasks: list[asyncio.Task[CallRecord]] = []
        try:
            async with asyncio.TaskGroup() as group:
                for number, arrival in enumerate(self._plan.arrivals):
                    await asyncio.sleep(max(0.0, arrival.at_s - self._now()))
                    tasks.append(group.create_task(self._call(number, arrival)))
        finally:
            ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticker
        on_progress(self._tally.progress(self._now()))
        return [task.result() for task in tasks]

    def _now(self) -> float:
        return self._loop.time() - self._began

    async def _tick(self, on_progress: Callable[[Progress], None]) -> None:
        while True:
            on_progress(self._tally.progress(self._now()))
            await asyncio.sleep(PROGRESS_PERIOD_S)

    def _end_s(self, arrival: Arrival) -> float:
        """When a call that has no record counts as lost."""
        return max(self._last_s, arrival.at_s + arrival.duration_ms / 1e3) + self._drain_s

    async def _call(self, number: int, arrival: Arrival) -> CallRecord:
        self._tally.sent += 1
        call = _Call(arrival, self._names[arrival.function], sent_s=self._now())
        url = self._urls[number % len(self._urls)]
        try:
            async with asyncio.timeout(self._end_s(arrival) - self._now()):
                record = await self._invoke(call, url, self._arguments(arrival))
        except TimeoutError:
            # Not refused and not cut off: the server has it and says nothing.
            record = call.ended(Ending.LOST, None, error="no final record by the end of the drain")
        self._tally.add(record)
        return record

    def _arguments(self, arrival: Arrival) -> dict[str, float]:
        """What functions/actions/trace.py takes: real CPU to burn, spread over the duration. A benchmark function is
        deployed with its arguments."""
        if self._plan.functions[arrival.function].benchmark:
            return {}
        return {"cpu_ms": round(arrival.cpu_ms, 3), "duration_ms": round(arrival.duration_ms, 3)}

    async def _invoke(self, call: _Call, url: str, arguments: dict[str, float]) -> CallRecord:
        """The blocking call; one that outlives its wait is looked for until the caller's deadline."""
        left_s = self._end_s(call.arrival) - self._now()
        wait_s = max(0.001, min(MAX_BLOCKING_S, left_s - HAND_OVER_S))
        query = {"blocking": "true", "timeout": str(int(wait_s * 1e3) or 1)}
        target = url + self._paths[call.arrival.function]
        limit = aiohttp.ClientTimeout(
            total=None, connect=min(CONNECT_TIMEOUT_S, left_s), sock_read=wait_s + ANSWER_GRACE_S
        )
        try:
            async with self._session.post(target, params=query, json=arguments, timeout=limit) as answer:
                call.http_status = answer.status
                call.activation_id = answer.headers.get(ID_HEADER, "")
                document = _document(await answer.read())
        except aiohttp.ServerTimeoutError as e:
            if isinstance(e, aiohttp.ConnectionTimeoutError):
                return call.ended(Ending.UNANSWERED, self._now(), error="no connection in time")
            return call.ended(Ending.LOST, None, error=f"no answer in {wait_s + ANSWER_GRACE_S:.0f} s")
        except (aiohttp.ClientError, OSError) as e:
            if call.activation_id:  # accepted, then cut off in the middle of the answer
                return await self._find(call, url)
            return call.ended(Ending.UNANSWERED, self._now(), error=f"no answer: {type(e).__name__}: {e}"[:200])
        if _is_record(document):
            return call.recorded(document, self._now())
        if call.http_status == 202:
            call.activation_id = call.activation_id or str(document.get("activationId", ""))
            return await self._find(call, url)
        reason = str(document.get("error", ""))[:200]
        return call.ended(Ending.REFUSED, self._now(), error=f"HTTP {call.http_status}: {reason}")

    async def _find(self, call: _Call, url: str) -> CallRecord:
        """Polls for the record; only the caller's deadline ends it without one."""
        call.polled = True
        pause_s = POLL_FIRST_S
        target = f"{url}/api/v1/namespaces/_/activations/{call.activation_id}"
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):  # looked for again
                async with self._session.get(target, timeout=aiohttp.ClientTimeout(total=POLL_TIMEOUT_S)) as answer:
                    document = _document(await answer.read())
                    if answer.status == 200 and _is_record(document):
                        return call.recorded(document, self._now())
            await asyncio.sleep(pause_s)
            pause_s = min(POLL_MOST_S, 2 * pause_s)


@dataclass(slots=True)
class _Call:
    """A call under way."""

    arrival: Arrival
    action: str
    sent_s: float
    http_status: int = 0
    activation_id: str = ""
    polled: bool = False

    def ended(self, ending: Ending, answered_s: float | None, *, error: str = "", **of_record: Any) -> CallRecord:
        return CallRecord(
            function=self.arrival.function,
            action=self.action,
            intended_s=self.arrival.at_s,
            sent_s=self.sent_s,
            answered_s=answered_s,
            ending=ending,
            activation_id=self.activation_id,
            http_status=self.http_status,
            polled=self.polled,
            error=error,
            **of_record,
        )

    def recorded(self, document: dict[str, Any], now_s: float) -> CallRecord:
        notes = {note["key"]: note["value"] for note in document.get("annotations", ())}
        self.activation_id = document["activationId"]
        response = document["response"]
        status = _STATUS[response["status"]]
        error = "" if status is Status.SUCCESS else _error_of(response.get("result"))
        return self.ended(
            Ending.RECORDED,
            now_s,
            error=error,
            status=status,
            wait_ms=notes.get("waitTime"),
            init_ms=notes.get("initTime"),
            # OpenWhisk's duration has the init time in it, its annotations no run time
            run_ms=notes.get("runTime", document["duration"] - notes.get("initTime", 0)),
            cpu_ms=notes.get("cpuTime"),
            attempt=notes.get("attempt", 1),
            prewarmed=bool(notes.get("prewarmed", False)),
            evicted=bool(notes.get("evicted", False)),
            vm=notes.get("vm", ""),
            vm_kind=notes.get("vmKind", ""),
        )


def _document(body: bytes) -> dict[str, Any]:
    """The object in a body; {} where there is none, as behind a proxy's error page."""
    try:
        document = json.loads(body or b"{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _is_record(document: dict[str, Any]) -> bool:
    response = document.get("response")
    return (
        isinstance(response, dict)
        and response.get("status") in _STATUS
        and isinstance(document.get("activationId"), str)
        and "duration" in document
    )


def _error_of(result: object) -> str:
    """What a record without success says: its `error` where that is text, else all of it as JSON; 200 characters."""
    error = result.get("error") if isinstance(result, dict) else None
    return (error if isinstance(error, str) else json.dumps(result))[:200]
