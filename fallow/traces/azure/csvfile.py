"""CSV files with a header, read by column name; whatever is wrong is a TraceError naming file, line and column."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TextIO

from fallow.traces.errors import TraceError

MAX_HEADER_SHOWN = 60  # characters of an unknown header that an error quotes


class CsvFile:
    """One open file; a context manager. Rows stream: memory does not grow with the file."""

    def __init__(self, path: Path) -> None:
        """Opens the file and reads its header. Raises TraceError: not readable, empty, no text, a column twice."""
        self.path = path
        self._file: TextIO = _open(path)
        try:
            self._reader = csv.reader(self._file, strict=True)
            first = self._next_row()
            if first is None:
                raise TraceError(f"{path}: the file is empty")
            if not first:
                raise TraceError(f"{path}:1: the header line is blank")
            self.columns = [name.strip() for name in first]
            self._check_header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> CsvFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self._file.close()

    @property
    def line(self) -> int:
        """Number of the line read last, from 1."""
        return self._reader.line_num

    def header_text(self) -> str:
        """The header for an error's text, shortened."""
        text = ",".join(self.columns)
        return repr(text if len(text) <= MAX_HEADER_SHOWN else text[:MAX_HEADER_SHOWN] + "...")

    def position(self, column: str) -> int:
        """Where the column stands in a row."""
        try:
            return self.columns.index(column)
        except ValueError:
            raise TraceError(f"{self.path}:1: column {column!r} is missing (header {self.header_text()})") from None

    def rows(self) -> Iterator[list[str]]:
        """Every row with a value for every column; blank lines are passed over."""
        width = len(self.columns)
        while (row := self._next_row()) is not None:
            if len(row) == width:
                yield row
            elif row:
                raise self._wrong_width(row)

    def number(self, row: list[str], position: int) -> float:
        """A finite number, at least 0."""
        text = row[position]
        try:
            value = float(text)
        except ValueError:
            raise self.error(position, f"{_shown(text)} is no number") from None
        if not math.isfinite(value):
            raise self.error(position, f"{_shown(text)} is not finite")
        if value < 0:
            raise self.error(position, f"{_shown(text)} is negative")
        return value

    def error(self, position: int, what: str) -> TraceError:
        """For a value of the row read last."""
        return TraceError(f"{self.path}:{self.line}: column {self.columns[position]!r}: {what}")

    def _next_row(self) -> list[str] | None:
        try:
            return next(self._reader, None)
        except csv.Error as e:
            raise TraceError(f"{self.path}:{self.line}: not CSV: {e}") from None
        except UnicodeDecodeError as e:
            raise TraceError(f"{self.path}:{self.line + 1}: not text: {e.reason}") from None
        except OSError as e:
            raise TraceError(f"{self.path}: cannot be read: {e.strerror}") from None

    def _check_header(self) -> None:
        seen: dict[str, int] = {}
        for number, name in enumerate(self.columns, start=1):
            if "\0" in name:
                raise TraceError(f"{self.path}:1: not text but a binary file (a zero byte in column {number})")
            if name in seen:
                where = f"columns {seen[name]} and {number}"
                raise TraceError(f"{self.path}:1: column {_shown(name)} stands twice in the header ({where})")
            seen[name] = number

    def _wrong_width(self, row: list[str]) -> TraceError:
        where = f"{self.path}:{self.line}"
        if len(row) > len(self.columns):
            extra, last = _shown(row[len(self.columns)]), self.columns[-1]
            return TraceError(
                f"{where}: the line has {len(row)} values, the header {len(self.columns)} columns: "
                f"{extra} stands behind the last column {last!r}"
            )
        last, missing = self.columns[len(row) - 1], self.columns[len(row)]
        return TraceError(f"{where}: the line ends in column {last!r}: {missing!r} is missing (was the file cut?)")


def _open(path: Path) -> TextIO:
    try:
        return path.open(encoding="utf-8-sig", newline="")
    except OSError as e:
        raise TraceError(f"{path}: cannot be read: {e.strerror}") from None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")
