"""How a process starts, loops and ends."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import NoReturn

from fallow.infra.clock import mono_s
from fallow.infra.log import get_logger

PARENT_DEATH_ENV = "FALLOW_PARENT_DEATH"
EXIT_ERROR = 1  # a FatalError: said in words
EXIT_BUG = 70  # EX_SOFTWARE: an exception nobody expected
EXIT_FORCED = 130  # a second signal cut the shutdown short
# Python's own first number, 700, has a serving process look for garbage every dozen calls, to find none.
GC_THRESHOLD = (20_000, 20, 20)

_PR_SET_PDEATHSIG = 1
_log = get_logger("fallow.tasks")


class FatalError(Exception):
    """The process cannot go on, for a reason a person can act on.

    The text is one to three lines: what happened, which value, what to do next. `run` prints it and exits with 1.
    """


async def every(period_s: float, fn: Callable[[], Awaitable[None] | None]) -> NoReturn:
    """Calls `fn` now and then at every multiple of `period_s`, for ever; what it raises ends the loop.

    The schedule is absolute, so periods do not drift; turns that were missed (a slow `fn`, a stopped process) are
    skipped, not made up for.
    """
    due_mono_s = mono_s()
    while True:
        pending = fn()
        if pending is not None:
            await pending
        missed = max(0, int((mono_s() - due_mono_s) // period_s))
        due_mono_s += (missed + 1) * period_s
        await asyncio.sleep(max(0.0, due_mono_s - mono_s()))


def run(main: Callable[[asyncio.Event], Awaitable[int]]) -> int:
    """Runs `main(stop)` on a uvloop and returns the exit code; the entry of every process.

    SIGTERM and SIGINT set `stop`; a second one cancels `main` (exit code 130), unless the parent is dead: then nobody
    is in a hurry. With FALLOW_PARENT_DEATH=1 the death of the parent counts as a SIGTERM. A FatalError, also inside an
    exception group, is printed in its own words; any other exception is one critical log line with its traceback as a
    field, and exit code 70.
    """
    import uvloop  # not at the top: `every` and FatalError are used by processes without a loop of this kind

    gc.freeze()  # modules stay for good: no collection need look at them again
    gc.set_threshold(*GC_THRESHOLD)
    if os.environ.get(PARENT_DEATH_ENV) == "1":
        die_with_parent(signal.SIGTERM)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_until_signal(main))
    except KeyboardInterrupt:
        return EXIT_FORCED
    except BaseException as error:  # noqa: BLE001 - the door of the process: nothing may leave as a bare traceback
        return _report_death(error)


def die_with_parent(signum: signal.Signals) -> None:
    """Asks the kernel to send this process `signum` when its parent dies (Linux PR_SET_PDEATHSIG).

    If the parent died while this was being asked, the signal is sent at once. Raises FatalError where there is no such
    call: a process that promises to die with its parent must not run without that.
    """
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "prctl") or libc.prctl(_PR_SET_PDEATHSIG, int(signum), 0, 0, 0) != 0:
        raise FatalError(f"{PARENT_DEATH_ENV}=1 needs Linux: prctl failed ({os.strerror(ctypes.get_errno())})")
    if os.getppid() != parent:
        os.kill(os.getpid(), signum)


async def _until_signal(main: Callable[[asyncio.Event], Awaitable[int]]) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    task = asyncio.current_task()
    forced = False
    parent = os.getppid()

    def on_signal(signum: signal.Signals) -> None:
        nonlocal forced
        if not stop.is_set():
            _log.info("stopping", signal=signum.name)
            stop.set()
        elif os.getppid() != parent:
            _log.debug("signal repeated", signal=signum.name)  # the kernel may tell of a parent's death several times
        elif task is not None:
            forced = True
            task.cancel()

    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, on_signal, signum)
    try:
        return await main(stop)
    except asyncio.CancelledError:
        if not forced:
            raise
        _log.warning("shutdown cut short by a second signal")
        return EXIT_FORCED
    finally:
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(signum)
            # What is left is closing the loop; a late signal must not turn an orderly end into a traceback.
            signal.signal(signum, _ignore)


def _ignore(signum: int, frame: FrameType | None) -> None:
    return None


def _report_death(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else EXIT_ERROR
    first = _first_leaf(error)
    if isinstance(first, FatalError):
        print(first, file=sys.stderr)  # noqa: T201 - words for the person who started the process
        return EXIT_ERROR
    _log.critical("process died", error=f"{type(first).__name__}: {first}", exc_info=error)
    return EXIT_BUG


def _first_leaf(error: BaseException) -> BaseException:
    """The FatalError inside nested exception groups if there is one, else the first exception."""
    leaves: list[BaseException] = []
    todo = [error]
    while todo:
        e = todo.pop(0)
        if isinstance(e, BaseExceptionGroup):
            todo.extend(e.exceptions)
        else:
            leaves.append(e)
    return next((e for e in leaves if isinstance(e, FatalError)), leaves[0])
