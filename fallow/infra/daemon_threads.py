"""A bounded pool of threads for calls that may hang.

`ThreadPoolExecutor` joins its threads when the interpreter ends, so one call that never returns would keep the process
from ending. These threads are daemons: what still hangs at the end is left behind.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
_Job = tuple["Future[Any]", Callable[[], Any]]


class DaemonThreads:
    """At most `most` threads, made as they are needed; what is submitted beyond that waits its turn."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._count = 0
        self._idle = 0
        self._closed = False

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run `work` in a thread. A future that is cancelled before its turn is never run. Raises RuntimeError once
        the pool is closed."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError(f"the threads {self._name} take no more work")
            self._jobs.put((future, work))
            if self._idle > 0:
                self._idle -= 1
            elif self._count < self._most:
                self._count += 1
                threading.Thread(target=self._serve, name=f"{self._name}-{self._count}", daemon=True).start()
        return future

    def close(self) -> None:
        """Take no more work and drop what waits; does not wait for what runs."""
        with self._lock:
            self._closed = True
            while not self._jobs.empty():
                job = self._jobs.get()
                if job is not None:
                    job[0].cancel()
            for _ in range(self._count):
                self._jobs.put(None)

    def _next(self) -> _Job | None:
        with contextlib.suppress(queue.Empty):
            return self._jobs.get_nowait()
        with self._lock:
            self._idle += 1
        return self._jobs.get()

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            future, work = job
            if future.set_running_or_notify_cancel():
                try:
                    result = work()
                except BaseException as e:  # noqa: BLE001 - whoever waits for the future gets it
                    future.set_exception(e)
                else:
                    future.set_result(result)
            del job, future, work  # nothing of a finished call is kept alive while this waits
