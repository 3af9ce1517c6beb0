"""Runs one attempt in one container: /init if it must be, then /run, each under the action's own time limit."""

from __future__ import annotations

import asyncio
from enum import Enum

from fallow.core.model import Status
from fallow.core.value import value
from fallow.infra import clock
from fallow.infra.store import StoreError
from invoker import bodies, outcome
from invoker.backends.base import Answer, Broken, Container, Reply
from invoker.calls import Call
from invoker.code_cache import CodeCache
from invoker.outcome import Ending

CODE_TIMEOUT_S = 10.0


class Unstarted(Enum):
    """The action's code never ran: the call may be given to another container or VM without counting as an attempt."""

    NO_STORE = "the action's code could not be read from the store"
    STALE_CONTAINER = "the warm container had gone"


@value(frozen=True, slots=True, kw_only=True)
class Ran:
    """An attempt that ended, with its times."""

    ending: Ending
    start_mono_s: float
    start_unix_ms: int
    init_s: float | None
    run_s: float
    cpu_real_s: float | None


class Attempt:
    """One call in one container."""

    def __init__(self, call: Call, container: Container, *, api_host: str) -> None:
        self._call = call
        self._container = container
        self._api_host = api_host
        self._start_mono_s = 0.0
        self._start_unix_ms = 0
        self._cpu_before_s: float | None = None  # None = not begun, or not measurable

    async def execute(self, codes: CodeCache, *, init: bool) -> Ran | Unstarted:
        """Answers once the outcome is known; logs may still be coming."""
        code = b""
        if init:
            try:
                async with asyncio.timeout(CODE_TIMEOUT_S):
                    found = await codes.get(self._call.spec.code_digest, binary=self._call.spec.binary)
            except (StoreError, TimeoutError):
                return Unstarted.NO_STORE
            if found is None:
                self._begin()
                return self._ran(outcome.error(Status.WHISK_ERROR, outcome.NO_CODE), None, 0.0)
            code = found
        self._begin()
        self._cpu_before_s = self._container.cpu_s(idle=True)
        init_s = None
        if init:
            ending = await self._init(code)
            init_s = clock.mono_s() - self._start_mono_s
            if ending is not None:
                return self._ran(ending, init_s, 0.0)
        run_start_s = clock.mono_s() if init else self._start_mono_s
        run_ending = await self._run(init=init)
        if isinstance(run_ending, Unstarted):
            return run_ending
        return self._ran(run_ending, init_s, clock.mono_s() - run_start_s)

    def _begin(self) -> None:
        self._start_mono_s = clock.mono_s()
        self._start_unix_ms = clock.unix_ms()

    async def _init(self, code: bytes) -> Ending | None:
        call, timeout_s = self._call, self._call.spec.timeout_s
        deadline = self._start_unix_ms + round(timeout_s * 1000)
        body = bodies.init_body(call.spec, call.run, code, deadline_unix_ms=deadline, api_host=self._api_host)
        reply = await self._post("/init", body, timeout_s)
        return outcome.timed_out(timeout_s, during_init=True) if reply is None else outcome.after_init(reply)

    async def _run(self, *, init: bool) -> Ending | Unstarted:
        call, timeout_s = self._call, self._call.spec.timeout_s
        deadline = clock.unix_ms() + round(timeout_s * 1000)
        reply = await self._post("/run", bodies.run_body(call.spec, call.run, deadline_unix_ms=deadline), timeout_s)
        match reply:
            case None:
                return outcome.timed_out(timeout_s, during_init=False)
            case Broken(sent=False) if not init:
                return Unstarted.STALE_CONTAINER
            case Answer(status=503) if not init:  # it is shutting down and has not begun
                return Unstarted.STALE_CONTAINER
            case _:
                return outcome.after_run(reply)

    async def _post(self, path: str, body: bytes, timeout_s: float) -> Reply | None:
        """None = the time limit passed."""
        try:
            return await self._container.post(path, body, timeout_s)
        except TimeoutError:
            return None

    def cpu_real_s(self) -> float | None:
        """Real CPU seconds since it began; None = it has not, or they cannot be measured."""
        before_s = self._cpu_before_s
        now_s = None if before_s is None else self._container.cpu_s()
        return None if now_s is None or before_s is None else max(0.0, now_s - before_s)

    def _ran(self, ending: Ending, init_s: float | None, run_s: float) -> Ran:
        return Ran(
            ending=ending,
            start_mono_s=self._start_mono_s,
            start_unix_ms=self._start_unix_ms,
            init_s=init_s,
            run_s=run_s,
            cpu_real_s=self.cpu_real_s(),
        )
