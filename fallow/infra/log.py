"""Structured log lines on stderr: JSON for machines, console for people."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO, cast

from fallow.infra.lean_structlog import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
FORMATS = ("json", "console")


class _Stderr:
    """Writes to the stderr of the moment: a stream kept from the start may be closed or replaced by now."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def msg(self, line: str) -> None:
        stream: TextIO = sys.stderr
        stream.write(line + "\n")
        stream.flush()

    debug = info = warning = warn = error = critical = fatal = exception = failure = log = msg


def configure(level: str = "info", fmt: str = "json", process: str = "") -> None:
    """Sets up the log of this process; `process` stands in every line.

    What libraries log through `logging` goes the same way, from level warning on. Raises ValueError, naming the value,
    for a level or format that is not in LEVELS or FORMATS.
    """
    if level not in LEVELS:
        raise ValueError(f"log_level is {level!r}; it must be one of {', '.join(LEVELS)}")
    if fmt not in FORMATS:
        raise ValueError(f"log_format is {fmt!r}; it must be one of {', '.join(FORMATS)}")

    def name_source(logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["process"] = process
        record: logging.LogRecord | None = event.get("_record")  # of a library that uses `logging`
        event["logger"] = record.name if record is not None else logger.name
        return event

    shared: list[Processor] = [
        name_source,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    final = _final_processors(fmt)
    LineLog.silent = LEVELS[level] > logging.INFO
    LineLog.process = process if fmt == "json" else None
    structlog.configure(
        processors=[*shared, *final],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=_Stderr,
        cache_logger_on_first_use=True,
    )
    _route_logging(shared, final, max(LEVELS[level], logging.WARNING))


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger whose lines carry `logger=name`; made before `configure`, it follows it from its first line on."""
    return cast("FilteringBoundLogger", structlog.get_logger(name))


class LineLog:
    """Lines that come by the thousand: what `get_logger(name).info` writes, at a tenth of its cost.

    JSON lines of one turn of the event loop leave in one write at its end, so they may stand behind later lines of
    other loggers; the console form is written at once. Values that JSON does not know are written as their str().
    """

    silent = False  # both are set by `configure`
    process: str | None = None  # None = the general logger writes the line

    def __init__(self, name: str) -> None:
        self._name = name
        self._general = get_logger(name)
        self._pending: list[str] = []

    def info(self, event: str, fields: Mapping[str, Any]) -> None:
        if self.silent:
            return
        if self.process is None:
            self._general.info(event, **fields)
            return
        text = _line_encoder.encode(
            {
                **fields,
                "event": event,
                "process": self.process,
                "logger": self._name,
                "level": "info",
                "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            }
        )
        self._pending.append(text)
        if len(self._pending) == 1:
            asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        lines, self._pending = self._pending, []
        _Stderr().msg("\n".join(lines))


_line_encoder = json.JSONEncoder(default=str)


def _final_processors(fmt: str) -> list[Processor]:
    if fmt == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    return [
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
    ]


def _route_logging(shared: list[Processor], final: list[Processor], level: int) -> None:
    handler = _StderrHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(level)
    logging.captureWarnings(True)


class _StderrHandler(logging.StreamHandler[Any]):
    """A StreamHandler on the stderr of the moment."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, _value: Any) -> None:
        return None
