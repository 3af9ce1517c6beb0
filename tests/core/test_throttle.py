"""The arithmetic of limits."""

from __future__ import annotations

import math
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.core.throttle import MINUTE_MS, OPENWHISK, MinuteCounts, Overrides, at_once, share

NOON_MS = 29_000_000 * MINUTE_MS
limits = st.integers(min_value=0, max_value=10_000)
calls = st.lists(st.tuples(st.sampled_from("abc"), st.integers(min_value=0, max_value=5 * MINUTE_MS)), max_size=60)


def test_the_sixty_first_of_a_minute_is_one_too_many() -> None:
    counts = MinuteCounts()
    assert [counts.count("guest", 60, NOON_MS + n) for n in range(60)] == [None] * 60
    excess = counts.count("guest", 60, NOON_MS + 45_000)
    assert excess is not None
    assert excess.text == "Too many requests in the last minute (count: 61, allowed: 60)."
    assert excess.retry_after_s == 15
    again = counts.count("guest", 60, NOON_MS + 59_999)
    assert again is not None
    assert "count: 62" in again.text, "the rejected one counted"
    assert counts.count("other", 60, NOON_MS + 59_999) is None
    assert counts.count("guest", 60, NOON_MS + MINUTE_MS) is None, "a new minute by the clock"


def test_the_thirty_first_at_once_is_one_too_many() -> None:
    assert at_once(29, 30) is None
    excess = at_once(30, 30)
    assert excess is not None
    assert excess.text == "Too many concurrent requests in flight (count: 30, allowed: 30)."
    assert at_once(0, 0) is not None


def test_overrides_stand_over_the_default() -> None:
    assert Overrides().over(OPENWHISK) == OPENWHISK
    quota = Overrides(fires_per_minute=0, concurrent_invocations=500).over(OPENWHISK)
    assert (quota.invocations_per_minute, quota.concurrent_invocations, quota.fires_per_minute) == (60, 500, 0)


@given(limit=limits, controllers=st.integers(min_value=1, max_value=50))
def test_a_share_is_openwhisks(limit: int, controllers: int) -> None:
    dilated = math.ceil(Fraction(12, 10) * limit)
    expected = limit if controllers == 1 or limit == 0 else max(1, dilated // controllers)
    assert share(limit, controllers) == expected
    assert share(limit, controllers) * controllers <= max(dilated, controllers)


@given(allowed=st.integers(min_value=0, max_value=5), made=calls)
@settings(max_examples=60)
def test_each_minute_passes_its_first_calls_of_each_namespace(allowed: int, made: list[tuple[str, int]]) -> None:
    made.sort(key=lambda call: call[1])
    counts = MinuteCounts()
    seen: dict[tuple[str, int], int] = {}
    for namespace, at_ms in made:
        window = (namespace, at_ms // MINUTE_MS)
        seen[window] = seen.get(window, 0) + 1
        excess = counts.count(namespace, allowed, NOON_MS + at_ms)
        assert (excess is None) == (seen[window] <= allowed)
        if excess is not None:
            assert 0 < excess.retry_after_s <= 60
