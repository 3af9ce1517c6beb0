"""The functions of a trace as they are found: names fit for actions, and what the trace does not say of them."""

from __future__ import annotations

import random
import re
from collections import Counter

from fallow.traces.model import TraceFunction

DEFAULT_MEMORY_MB = 256  # where the trace says nothing; OpenWhisk's default
MIN_MEMORY_MB, MAX_MEMORY_MB = 128, 2048  # what an action may ask for
CPU_SHARE_RANGE = (0.1, 1.0)
HASH_LENGTH = 12  # of a hash as a name: 48 bits, so that clashes are rare
NAME_LENGTH = 60

CPU_NOTE = f"the trace holds no CPU use: each function's CPU share ({CPU_SHARE_RANGE[0]:g} to 1 core) is drawn by seed"

_HASH = re.compile(r"[0-9a-f]{32,}")
_UNFIT = re.compile(r"[^A-Za-z0-9_-]+")


class FunctionTable:
    """Numbers functions in the order they are first seen."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._index: dict[tuple[str, ...], int] = {}
        self._functions: list[TraceFunction] = []
        self._names: set[str] = set()
        self._clashes: Counter[str] = Counter()
        self.clamped = 0  # functions whose memory was outside of what an action may ask for

    def index(self, key: tuple[str, ...], *, app: str, function: str, memory_mb: float = DEFAULT_MEMORY_MB) -> int:
        """The number of the function `key`; the other values count when it is new."""
        found = self._index.get(key)
        if found is not None:
            return found
        allowed_mb = min(max(memory_mb, MIN_MEMORY_MB), MAX_MEMORY_MB)
        self.clamped += allowed_mb != memory_mb
        # by the function's identity: its share is the same whatever window it is met in
        share = random.Random(f"{self._seed}:cpu:{':'.join(key)}").uniform(*CPU_SHARE_RANGE)
        self._functions.append(
            TraceFunction(name=self._name(function), app=app, memory_mb=round(allowed_mb), cpu_share=share)
        )
        self._index[key] = len(self._functions) - 1
        return self._index[key]

    def all(self) -> tuple[TraceFunction, ...]:
        return tuple(self._functions)

    def _name(self, function: str) -> str:
        length = HASH_LENGTH if _HASH.fullmatch(function) else NAME_LENGTH
        base = _UNFIT.sub("-", function)[:length].strip("-") or "fn"
        name = base
        while name in self._names:
            self._clashes[base] += 1
            name = f"{base}-{self._clashes[base] + 1}"
        self._names.add(name)
        return name
