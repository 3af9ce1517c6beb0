"""The kernel's count of the time a VM's quota held it back, in both versions of cgroups."""

from __future__ import annotations

from pathlib import Path

import pytest

from invoker.throttling import Throttling

V1 = "nr_periods 41\nnr_throttled 40\nthrottled_time {}\nnr_bursts 0\nburst_time 0\n"
V2 = "usage_usec 9\nuser_usec 4\nsystem_usec 5\nnr_periods 41\nnr_throttled 40\nthrottled_usec {}\n"


@pytest.mark.parametrize(("text", "counts"), [(V1, (1_500_000_000, 2_750_000_000)), (V2, (1_500_000, 2_750_000))])
def test_it_is_read_anew_each_time(tmp_path: Path, text: str, counts: tuple[int, int]) -> None:
    other, mine = tmp_path / "freezer", tmp_path / "cpu"
    for folder in (other, mine):
        folder.mkdir()
    (mine / "cpu.stat").write_text(text.format(counts[0]))
    throttling = Throttling([other, mine])
    assert (throttling.throttled_s(), throttling.note) == (1.5, "")
    (mine / "cpu.stat").write_text(text.format(counts[1]))
    assert throttling.throttled_s() == 2.75
    throttling.close()
    assert throttling.throttled_s() is None


def test_where_nothing_counts_it_says_why(tmp_path: Path) -> None:
    without = Throttling([tmp_path])
    assert (without.throttled_s(), without.note) == (None, "the VM has no CPU cgroup")
    (tmp_path / "cpu.stat").write_text("usage_usec 9\n")
    uncounted = Throttling([tmp_path])
    assert uncounted.throttled_s() is None
    assert "does not count throttled time" in uncounted.note
