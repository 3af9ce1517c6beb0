"""Cancellation that a library swallowed, raised again."""

from __future__ import annotations

import asyncio


def honour_cancellation() -> None:
    """Raise CancelledError if this task was asked to end and the request got lost on the way.

    Redis' client loses it: it looks for stale bytes under a timeout of zero, and a cancellation that arrives there
    becomes that timeout (with redis 8.1 a third of cancelled calls went on). A loop around the store calls this.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
