"""Names are sorted as a person would."""

from __future__ import annotations

from fallow.core.names import natural_key


def test_numbers_count_by_value() -> None:
    names = ["h10", "r1", "h2.1", "h2", "h1.10", "h1.2", "", "10", "9"]
    assert sorted(names, key=natural_key) == ["", "9", "10", "h1.2", "h1.10", "h2", "h2.1", "h10", "r1"]
