"""The published points, as rows of the files of this folder."""

from __future__ import annotations

import csv
from importlib.resources import files


def points(name: str) -> list[dict[str, str]]:
    """The rows of `<name>.csv`. Raises FileNotFoundError."""
    text = files(__package__).joinpath(f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def curve(name: str, x: str, y: str, **only: str) -> list[tuple[float, float]]:
    """Two columns of the rows whose other columns have these values."""
    rows = [row for row in points(name) if all(row[column] == value for column, value in only.items())]
    return [(float(row[x]), float(row[y])) for row in rows if row[y]]
