"""A pool whose threads may hang for ever."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import CancelledError

import pytest

from fallow.infra.daemon_threads import DaemonThreads

LIMIT_S = 20.0


def test_results_and_errors_come_back_and_threads_are_used_again() -> None:
    pool = DaemonThreads(2, "t")
    names = {pool.submit(lambda: threading.current_thread().name).result(LIMIT_S) for _ in range(20)}
    assert names <= {"t-1", "t-2"}
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 // 0).result(LIMIT_S)
    assert pool.submit(lambda: 7).result(LIMIT_S) == 7
    pool.close()
    with pytest.raises(RuntimeError, match="no more work"):
        pool.submit(lambda: 7)


def test_no_more_at_once_than_allowed_and_the_rest_in_its_turn() -> None:
    pool = DaemonThreads(2, "t")
    gate, inside = threading.Event(), threading.Semaphore(0)

    def hold(n: int) -> int:
        inside.release()
        gate.wait(LIMIT_S)
        return n

    held = [pool.submit(lambda n=n: hold(n)) for n in range(4)]  # type: ignore[misc]
    for _ in range(2):
        assert inside.acquire(timeout=LIMIT_S)
    assert not inside.acquire(blocking=False)
    assert held[3].cancel()
    gate.set()
    assert [f.result(LIMIT_S) for f in held[:3]] == [0, 1, 2]
    pool.close()


def test_closing_drops_what_waits() -> None:
    pool = DaemonThreads(1, "t")
    gate, inside = threading.Event(), threading.Event()
    running = pool.submit(lambda: (inside.set(), gate.wait(LIMIT_S)))
    waiting = pool.submit(lambda: None)
    assert inside.wait(LIMIT_S)
    pool.close()
    with pytest.raises(CancelledError):
        waiting.result(LIMIT_S)
    gate.set()
    assert running.result(LIMIT_S)[1]


def test_a_call_that_hangs_does_not_keep_the_process() -> None:
    code = (
        "import threading; from fallow.infra.daemon_threads import DaemonThreads\n"
        "began = threading.Event()\n"
        "DaemonThreads(1, 't').submit(lambda: (began.set(), threading.Event().wait()))\n"
        "began.wait()"
    )
    subprocess.run([sys.executable, "-c", code], timeout=LIMIT_S, check=True)
