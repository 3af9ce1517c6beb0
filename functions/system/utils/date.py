"""date: the time now, in UTC to the millisecond."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(args: dict[str, Any]) -> dict[str, Any]:
    seconds, ms = divmod(time.time_ns() // 1_000_000, 1000)
    return {"date": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{ms:03d}Z"}
