"""Whom a shrink of the VM keeps waiting in its queue: the counterfactual of admission (see pool_waits)."""

from __future__ import annotations

from collections.abc import Iterable

from fallow.core.pool_containers import CodeKey, ContainerTable
from fallow.core.pool_queue import PoolCall
from fallow.core.pool_waits import Waited


def note_grown(queued: Iterable[PoolCall], cores: float) -> None:
    """The VM has more cores now: what waits has seen them."""
    for call in queued:
        call.cores_most = max(call.cores_most, cores)


def held_by_shrink(
    queued: Iterable[PoolCall],
    table: ContainerTable,
    *,
    cpu_fraction: float,
    peak_cores: float,
    cap_cores: float,
    room_mb: float,
    starts: int,
) -> list[Waited]:
    """Those of `queued`, in the order of turns, that would start with the most cores they have seen here. O(queued).

    The pool's own rule, with those cores: `peak_cores` (measured) or `cap_cores` (weights of what runs or starts, and
    of those who would start before) within `cpu_fraction` of them, and then a warm container, or one of `starts` and
    `room_mb` for a new one. Whom memory or starts would stop does not wait because of the shrink.
    """
    warm_taken: set[CodeKey] = set()
    held: list[Waited] = []
    for call in queued:
        limit_cores = cpu_fraction * call.cores_most
        if peak_cores > limit_cores and cap_cores > limit_cores:
            continue
        key = call.action.container_key
        if key not in warm_taken and table.warmest(key) is not None:
            warm_taken.add(key)
        elif starts > 0 and call.action.memory_mb <= room_mb:
            starts -= 1
            room_mb -= call.action.memory_mb
        else:
            continue
        cap_cores += call.cap_cores
        if call.waited is not None:
            held.append(call.waited)
    return held
