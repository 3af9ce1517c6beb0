from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harvest_agent.ending import uncut
from harvest_agent.sweep import may_own, sweep_below

from .fake_kernel import FakeKernel

ROOT = Path("/sys/fs/cgroup/cpu")


def test_only_the_empty_trees_of_the_dead_are_removed() -> None:
    kernel = FakeKernel(1, [ROOT])
    for path in ("fallow-7", "fallow-7/h1", "fallow-7/r1", "fallow-8", "fallow-8/h1", "fallow-9", "fallow-9/h1"):
        kernel.make(ROOT / path)
    for path in ("fallow-x", "fallow-70.old", "other"):
        kernel.make(ROOT / path)
    kernel.write(ROOT / "fallow-9/h1/cgroup.procs", "41")
    sweep_below([ROOT, Path("/not/there")], _Strict(kernel), lambda pid: pid == 8)
    left = {str(path.relative_to(ROOT)) for path in kernel.files} - {"."}
    assert left == {"fallow-8", "fallow-8/h1", "fallow-9", "fallow-9/h1", "fallow-x", "fallow-70.old", "other"}


class _Strict:
    """The fake's listing of a directory that is not there is empty; the kernel's is an error."""

    def __init__(self, kernel: FakeKernel) -> None:
        self.make, self.remove, self.read = kernel.make, kernel.remove, kernel.read
        self.write, self.exists = kernel.write, kernel.exists
        self._kernel = kernel

    def children(self, path: Path) -> list[Path]:
        if path not in self._kernel.files:
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return self._kernel.children(path)


def test_a_pid_owns_a_tree_while_it_is_a_living_python() -> None:
    assert may_own(os.getpid())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert may_own(process.pid)
    assert not may_own(process.pid)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.write(b"x\n")
        other.stdin.flush()
        assert other.stdout.readline() == b"x\n"  # so it is cat by now
        assert not may_own(other.pid)


async def test_an_end_is_carried_through_and_then_cancelled() -> None:
    go, done = asyncio.Event(), []

    async def work() -> None:
        await go.wait()
        done.append(1)

    task = asyncio.create_task(uncut(work()))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [1]


async def test_what_goes_wrong_at_the_end_is_raised() -> None:
    async def work() -> None:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        await uncut(work())
