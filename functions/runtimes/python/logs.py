"""The action's standard output and error, each ended by a sentinel line after every run."""

from __future__ import annotations

import io
import os
import sys

TYPE_CHECKING = False  # typing itself takes longer to import than all of this package
if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

OWN_FOLDER = os.path.dirname(os.path.abspath(__file__)) + "/"
SENTINEL = b"XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX\n"


class LogFile(io.FileIO):
    """A log's file descriptor that knows whether its last line is finished."""

    at_line_start = True

    def write(self, data: ReadableBuffer, /) -> int:
        written = super().write(data)
        if written:
            self.at_line_start = memoryview(data)[written - 1] == 10
        return written


class LogStreams:
    """sys.stdout and sys.stderr of the action, and copies of their descriptors that the action cannot close."""

    def __init__(self) -> None:
        self._files = [LogFile(os.dup(fd), "w") for fd in (1, 2)]
        self._texts = [
            io.TextIOWrapper(io.BufferedWriter(file), "utf-8", "backslashreplace", line_buffering=True)
            for file in self._files
        ]
        self.restore()

    def restore(self) -> None:
        """Undo what an action did to sys.stdout and sys.stderr."""
        sys.stdout, sys.stderr = self._texts

    def end(self, *, sentinels: bool = True) -> None:
        """Flush both, then write the sentinel line, on a line of its own where the action left one unfinished."""
        for text, file, current in zip(self._texts, self._files, (sys.stdout, sys.stderr), strict=True):
            for stream in (current,) if current is text else (current, text):
                try:
                    stream.flush()
                except (ValueError, OSError, AttributeError):
                    continue  # the action closed it or put something else there: its own loss
            if not sentinels:
                file.at_line_start = True  # whoever collects the log ends the line
                continue
            try:
                os.write(file.fileno(), SENTINEL if file.at_line_start else b"\n" + SENTINEL)
            except (ValueError, OSError):
                continue  # closed: whoever collects the log stops waiting after its own limit
            file.at_line_start = True
        self.restore()


def describe(error: BaseException) -> str:
    """One line for a person: what ActionLoop puts into `error`, or the kind of exception where it has no text."""
    if isinstance(error, SystemExit):
        return f"The action called sys.exit({error.code!r})."
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - __str__ is the action's code as well
        return type(error).__name__


def log_traceback(error: BaseException) -> None:
    """Print the traceback from the action's first frame on. The C hook: the traceback module takes 10 ms to import."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(OWN_FOLDER):
        trace = trace.tb_next
    sys.__excepthook__(type(error), error.with_traceback(trace), trace)
