"""Simulations in processes of their own, under any interpreter: the same results, on PyPy several times as fast."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import simulator
from simulator import worker_main

if TYPE_CHECKING:
    from simulator.sweep import Point
    from simulator.world import Progress

ROOT = Path(simulator.__file__).parent.parent
# PyPy's place for new objects is by default as large as the processor's cache, which may be hundreds of MB, and as many
# are garbage at any time: several times the memory for the same speed. Whoever runs it may say otherwise.
NURSERY = {"PYPY_GC_NURSERY": "16M"}
HINT = "it is to be a Python, 3.11 or newer, with NumPy: `make pypy` makes one, .pypy/bin/python"


class WorkerError(ValueError):
    """The interpreter cannot be used, or what it was to simulate is wrong; the text says which."""


class Worker:
    """A process that simulates one point after another, so that what it has compiled is of use to the next.

    A context manager: at its end the process is gone, and what it may have started.
    """

    def __init__(self, python: str) -> None:
        """Starts it under that interpreter, found like a command. Raises WorkerError where there is none."""
        self._python = python
        self._name = ""
        try:
            self._process = subprocess.Popen(
                [python, worker_main.__file__, str(ROOT), *_own_path()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                env=_environment(),
                start_new_session=True,  # a Ctrl-C is for this process, which ends it
            )
        except OSError as e:
            raise WorkerError(f"{python} cannot be started: {e.strerror}\n{HINT}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        """Of the interpreter, as "PyPy 7.3.19 (Python 3.11.11)". Waits for it; raises WorkerError if it is unfit."""
        if not self._name:
            match self._read():
                case {"ready": str(name)}:
                    self._name = name
                case {"unfit": why}:
                    raise WorkerError(f"{self._python} cannot simulate: {why}\n{HINT}")
                case _:
                    raise WorkerError(f"{self._python} is no Python interpreter\n{HINT}")
        return self._name

    def simulate(self, point: Point, progress: Progress | None = None) -> dict[str, Any]:
        """As `sweep.simulate` there. Raises WorkerError for a point, trace or policy that is wrong and as `name` does,
        RuntimeError with the traceback for what should not happen."""
        from simulator.sweep import document_of

        name = self.name
        requests, _ = self._pipes()
        try:
            requests.write(json.dumps(document_of(point)) + "\n")
            requests.flush()
        except BrokenPipeError:
            raise self._ended() from None
        while True:
            match self._read():
                case {"progress": [now_s, ended]}:
                    if progress is not None:
                        progress(now_s, ended)
                case {"summary": summary}:
                    return dict(summary)
                case {"wrong": text}:
                    raise WorkerError(text)
                case {"broken": trace}:
                    raise RuntimeError(f"under {name}: {trace}")
                case _:
                    raise self._ended()  # in the middle of a line

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def _read(self) -> Any:
        _, answers = self._pipes()
        line = answers.readline()
        if not line:
            raise self._ended()
        try:
            return json.loads(line)
        except ValueError:
            return None

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        return process.stdin, process.stdout

    def _ended(self) -> WorkerError:
        hint = "" if self._name else f"\n{HINT}"
        return WorkerError(f"{self._python} ended with status {self._process.wait()}{hint}")


def _environment() -> dict[str, str]:
    """Without PYTHONPATH, which would come before the interpreter's own packages: what it names is in `_own_path`."""
    given = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return NURSERY | given


def _own_path() -> list[str]:
    """Where this process finds what is no part of Python: installed packages, and modules of one's own."""
    parts = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    python = {*parts, *(part / "lib-dynload" for part in parts)}
    return [folder for folder in sys.path if folder and Path(folder).is_dir() and Path(folder) not in python]
