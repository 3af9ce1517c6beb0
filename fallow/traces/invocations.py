"""Reads an invocation trace of any known format, told by its header."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

from fallow.traces.azure import trace2019 as azure2019
from fallow.traces.azure import trace2021 as azure2021
from fallow.traces.azure.csvfile import MAX_HEADER_SHOWN, CsvFile
from fallow.traces.errors import TraceError
from fallow.traces.model import InvocationTrace

CALLS_2021 = "calls of the Azure 2021 trace"
COUNTS_2019 = "invocations of the Azure 2019 trace"
DURATIONS_2019 = "durations of the Azure 2019 trace"
MEMORY_2019 = "memory of the Azure 2019 trace"

# what a file is by its header: the first whose columns are all there
SIGNATURES: tuple[tuple[str, frozenset[str]], ...] = (
    (CALLS_2021, frozenset(azure2021.COLUMNS)),
    (COUNTS_2019, frozenset(azure2019.INVOCATION_COLUMNS)),
    (DURATIONS_2019, frozenset({*azure2019.KEY_COLUMNS, "percentile_Average_50"})),
    (MEMORY_2019, frozenset(azure2019.MEMORY_COLUMNS)),
)
_DAY = re.compile(r"d\d\d(?=\.csv$)")


def read_invocations(path: Path, *, start_s: float = 0.0, window_s: float | None, seed: int) -> InvocationTrace:
    """The calls that arrive in `window_s` seconds (None = all there are) from `start_s` seconds into the trace.

    `path` is a CSV file, or a folder with one trace. What a format leaves open is drawn by `seed`; every such choice is
    in the trace's notes. Its window is shorter than asked where the trace ends before. Raises TraceError.
    """
    folder = path.is_dir()
    if not folder and not path.exists():
        raise TraceError(f"{path}: no such file or folder")
    main = _main_file(path) if folder else path
    with CsvFile(main) as file:
        kind = _kind(file)
        if kind == CALLS_2021:
            return azure2021.read(file, start_s=start_s, window_s=window_s, seed=seed)
        if kind == COUNTS_2019:
            return _read_2019(file, start_s=start_s, window_s=window_s, seed=seed)
        raise TraceError(f"{main}: these are the {kind}: give its invocations*.csv, or the folder with all three files")


def _read_2019(invocations: CsvFile, *, start_s: float, window_s: float | None, seed: int) -> InvocationTrace:
    with ExitStack() as stack:
        durations = _sibling(invocations.path, DURATIONS_2019, stack)
        if durations is None:
            raise TraceError(f"{invocations.path}: no file with the {DURATIONS_2019} (durations*.csv) beside it")
        memory = _sibling(invocations.path, MEMORY_2019, stack)
        return azure2019.read(invocations, durations, memory, start_s=start_s, window_s=window_s, seed=seed)


def _main_file(folder: Path) -> Path:
    """The one file of the folder that holds calls."""
    found = [p for p in _csv_files(folder) if _kind_of(p) in (CALLS_2021, COUNTS_2019)]
    if not found:
        raise TraceError(f"{folder}: holds no CSV file with the {CALLS_2021} or the {COUNTS_2019}")
    if len(found) > 1:
        names = ", ".join(p.name for p in found[:3])
        raise TraceError(f"{folder}: holds {len(found)} invocation traces ({names}): name one of the files")
    return found[0]


def _sibling(main: Path, kind: str, stack: ExitStack) -> CsvFile | None:
    """The file of that kind beside `main`, of the same day (d01, d02, ...) where there are several."""
    found = [p for p in _csv_files(main.parent) if _kind_of(p) == kind]
    if len(found) > 1:
        day = _DAY.search(main.name)
        same = [p for p in found if day is not None and p.name.endswith(day[0] + ".csv")]
        if len(same) != 1:
            raise TraceError(
                f"{main.parent}: holds {len(found)} files with the {kind}: leave the one that fits {main.name}"
            )
        found = same
    return stack.enter_context(CsvFile(found[0])) if found else None


def _csv_files(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.glob("*.csv") if p.is_file())
    except OSError as e:
        raise TraceError(f"{folder}: cannot be read: {e.strerror}") from None


def _kind_of(path: Path) -> str | None:
    with CsvFile(path) as file:
        return _known(file)


def _known(file: CsvFile) -> str | None:
    columns = set(file.columns)
    return next((kind for kind, needed in SIGNATURES if needed <= columns), None)


def _kind(file: CsvFile) -> str:
    """What the file is. Raises TraceError that names the column to blame, if all but one of a format's are there."""
    kind = _known(file)
    if kind is not None:
        return kind
    columns = set(file.columns)
    for nearly, needed in SIGNATURES:
        missing = sorted(needed - columns)
        if len(missing) == 1:
            raise TraceError(f"{file.path}:1: column {missing[0]!r} is missing to be the {nearly}")
    raise TraceError(
        f"{file.path}:1: unknown header {file.header_text()}: expected {','.join(azure2021.COLUMNS)} (Azure 2021) or "
        f"{','.join(azure2019.INVOCATION_COLUMNS)},1,2,... (Azure 2019); {_what_is_wrong(file.columns)}"
    )


def _what_is_wrong(columns: list[str]) -> str:
    """The columns missing to be the format that shares most with these; without any, the first of these."""
    kind, needed = max(SIGNATURES, key=lambda signature: len(signature[1].intersection(columns)))
    missing = sorted(needed.difference(columns))
    if len(missing) == len(needed):
        return f"no column is known, from column 1 {columns[0][:MAX_HEADER_SHOWN]!r} on"
    return f"nearest are the {kind}, but missing: {', '.join(repr(name) for name in missing)}"
