"""The invoker as the agent's child: started, watched, started again, stopped."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Awaitable, Callable, Mapping

from fallow.infra import clock
from fallow.infra.log import get_logger
from fallow.infra.tasks import FatalError
from harvest_agent import processes
from harvest_agent.events import EventLog, Happened

_FIRST_PAUSE_S = 0.3
_LONGEST_PAUSE_S = 10.0
_HEALTHY_AFTER_S = 30.0  # an invoker that lived so long starts the pauses anew
_KILL_TIMEOUT_S = 10.0

_log = get_logger("harvest_agent.child")


class InvokerChild:
    """`command` is split as a shell would, but no shell runs it. An empty one is a VM without an invoker."""

    def __init__(self, command: str, env: Mapping[str, str], events: EventLog) -> None:
        self._argv = shlex.split(command)
        self._env = dict(env)
        self._events = events
        self._child: processes.Child | None = None

    def owned(self) -> set[int]:
        """The pid that must not be collected as an orphan."""
        return set() if self._child is None or self._child.returncode is not None else {self._child.pid}

    async def supervise(self, clear: Callable[[], Awaitable[None]]) -> None:
        """Keeps the invoker running, for ever. Raises FatalError where the command cannot be started at all.

        An invoker that ends takes its containers along: a new one could neither use nor count them. `clear` removes
        those that are no descendants.
        """
        pause_s = _FIRST_PAUSE_S
        while self._argv:
            started_mono_s = clock.mono_s()
            child = self._child = self._start()
            code = await child.wait()
            lived_s = clock.mono_s() - started_mono_s
            _log.error("invoker ended", pid=child.pid, code=code, lived_s=round(lived_s, 1))
            if not await processes.kill_all(os.getpid(), owned=self.owned, timeout_s=_KILL_TIMEOUT_S):
                raise FatalError("processes of the dead invoker cannot be killed; the VM is given up")
            await clear()
            pause_s = _FIRST_PAUSE_S if lived_s >= _HEALTHY_AFTER_S else min(pause_s * 2, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s)
            self._events.write(Happened.INVOKER_RESTARTED, code=code)

    async def stop(self, timeout_s: float) -> None:
        """SIGTERM, then time to finish. What is left after `timeout_s` is the caller's to kill."""
        if self._child is not None and not await self._child.terminate(timeout_s):
            _log.warning("invoker did not stop in time", pid=self._child.pid, timeout_s=timeout_s)

    async def collected(self, timeout_s: float) -> None:
        """After a kill: waits until the process is collected, so that no zombie is left. Raises TimeoutError."""
        if self._child is not None:
            async with asyncio.timeout(timeout_s):
                await self._child.wait()

    def _start(self) -> processes.Child:
        try:
            return processes.Child(self._argv, self._env)
        except OSError as e:
            raise FatalError(f"cannot start the invoker {shlex.join(self._argv)!r}: {e.strerror}") from e
