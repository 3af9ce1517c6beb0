"""The processes of a VM: every descendant of its agent, also those that left their session or lost their parent.

The agent is child subreaper (prctl(2)): an orphan among its descendants becomes its child instead of init's, so that
nothing that was started in the VM can escape the VM's end.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fallow.infra import clock

_PR_SET_CHILD_SUBREAPER = 36
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    pid: int
    parent: int
    state: str  # R, S, D, T (stopped), Z (dead, not yet collected), ...
    cpu_s: float
    rss_bytes: int
    start_ticks: int  # since boot; with the pid it names a process for good


def become_subreaper() -> None:
    """Raises OSError where the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))


def read_process(pid: int) -> Process | None:
    """None where there is no such process any more."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name stands in brackets and may hold blanks and brackets itself.
    fields = stat[stat.rindex(")") + 2 :].split()
    return Process(
        pid=pid,
        parent=int(fields[1]),
        state=fields[0],
        cpu_s=(int(fields[11]) + int(fields[12])) / _TICKS_PER_S,
        rss_bytes=int(fields[21]) * _PAGE_BYTES,
        start_ticks=int(fields[19]),
    )


def descendants(root: int, *, without: Collection[int] = ()) -> list[Process]:
    """All living descendants of `root`, parents first; not what is in `without` nor what stands below it.

    One pass over /proc: its cost grows with the processes of the machine, not with those of the VM.
    """
    children: dict[int, list[Process]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and (process := read_process(int(name))) is not None:
            children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    todo = [root]
    while todo:
        for child in children.get(todo.pop(), []):
            if child.pid not in without:
                found.append(child)
                todo.append(child.pid)
    return found


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Signals each that is still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def stop_all(root: int, *, without: Collection[int] = ()) -> list[int]:
    """SIGSTOPs every descendant and the ones they started meanwhile; answers their pids."""
    stopped: set[int] = set()
    while True:
        running = [p.pid for p in descendants(root, without=without) if p.state != "Z" and p.pid not in stopped]
        if not running:
            return sorted(stopped)
        send(running, signal.SIGSTOP)
        stopped.update(running)


async def kill_all(
    root: int, *, owned: Callable[[], Collection[int]], spare_owned: bool = False, timeout_s: float
) -> bool:
    """SIGKILLs every descendant until none is left; False where some outlived `timeout_s`.

    The dead among the children of this process are collected, except the `owned` ones, which a Child waits for; they
    and what is below them live on where `spare_owned`.
    """
    deadline_mono_s = clock.mono_s() + timeout_s
    pause_s = 0.002
    while True:
        left = [p for p in descendants(root, without=owned() if spare_owned else ()) if p.state != "Z"]
        send((p.pid for p in left), signal.SIGKILL)
        reap_orphans(owned())
        if not left:
            return True
        if clock.mono_s() > deadline_mono_s:
            return False
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.1)


def reap_orphans(owned: Collection[int]) -> int:
    """Collects dead children that nobody waits for; answers how many. Never blocks.

    Stops at a dead child that is `owned`: its Child collects it, and the next call goes on behind it.
    """
    count = 0
    while True:
        try:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return count
        if dead is None or dead.si_pid in owned:
            return count
        os.waitpid(dead.si_pid, os.WNOHANG)
        count += 1


class Child:
    """A child process whose pid is known from its first moment and that nobody else can collect.

    asyncio's own hands the pid out only after an await; an orphan hunt in between would take it for an orphan.
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], *, output: IO[bytes] | None = None) -> None:
        """Starts it in a session of its own, with no input; `output` takes stdout and stderr. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._popen = subprocess.Popen(
            argv, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        self.pid = self._popen.pid
        self._ended: asyncio.Future[int] = loop.create_future()
        self._fd = os.pidfd_open(self.pid)
        loop.add_reader(self._fd, self._collect)

    @property
    def returncode(self) -> int | None:
        """None while it runs; minus the signal that killed it."""
        return self._popen.returncode

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    async def terminate(self, timeout_s: float) -> bool:
        """SIGTERM, then waits; False where it still runs after `timeout_s`."""
        if self.returncode is None:
            send([self.pid], signal.SIGTERM)
        try:
            async with asyncio.timeout(timeout_s):
                await self.wait()
        except TimeoutError:
            return False
        return True

    def _collect(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
        self._ended.set_result(self._popen.wait())
