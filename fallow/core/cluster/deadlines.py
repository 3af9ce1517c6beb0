"""Moments at which something is due, for very many keys that mostly never come due.

A timer wheel of open-ended length: keys share buckets of `grain_s` seconds, so setting and dropping are O(1) and
nothing is left behind by a key that was dropped. A key comes due never early and at most `grain_s` late.
"""

from __future__ import annotations

from heapq import heappop, heappush
from math import ceil
from typing import Generic, TypeVar

K = TypeVar("K", bound=str)


class Deadlines(Generic[K]):
    """At most one deadline a key."""

    __slots__ = ("_buckets", "_grain_s", "_order", "_where")

    def __init__(self, *, grain_s: float = 0.25) -> None:
        self._grain_s = grain_s
        self._buckets: dict[int, dict[K, None]] = {}
        self._order: list[int] = []  # heap of the bucket numbers that exist
        self._where: dict[K, int] = {}

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, key: K) -> bool:
        return key in self._where

    def set(self, key: K, at_s: float) -> None:
        """Make the key due at that moment, and at no other."""
        bucket = ceil(at_s / self._grain_s)
        before = self._where.get(key)
        if before == bucket:
            return
        if before is not None:
            del self._buckets[before][key]
        self._where[key] = bucket
        keys = self._buckets.get(bucket)
        if keys is None:
            self._buckets[bucket] = {key: None}
            heappush(self._order, bucket)
        else:
            keys[key] = None

    def drop(self, key: K) -> None:
        """Forget the key's deadline; nothing happens where it has none."""
        bucket = self._where.pop(key, None)
        if bucket is not None:
            del self._buckets[bucket][key]

    def due(self, now_s: float) -> list[K]:
        """Take out and return the keys whose deadline has passed, earliest bucket first, in the order they were set."""
        found: list[K] = []
        while self._order and self._order[0] * self._grain_s <= now_s:
            keys = self._buckets.pop(heappop(self._order))
            for key in keys:
                del self._where[key]
            found.extend(keys)
        return found
