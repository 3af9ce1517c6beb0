"""How an end that has begun is carried through."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def uncut(work: Coroutine[Any, Any, None]) -> None:
    """Runs `work` to its end however often this task is cancelled meanwhile; the cancellation is raised after it.

    For what must leave nothing behind and has time limits of its own. A second signal cancels a process's main task,
    and a parent's death may come as several: the kernel sends one for each of the parent's threads (prctl(2)).
    """
    task = asyncio.ensure_future(work)
    cut: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as e:
            cut = e
    task.result()
    if cut is not None:
        raise cut
