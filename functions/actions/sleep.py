"""sleep: waits `seconds`, or `ms`, without using the CPU."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(args: dict[str, Any]) -> dict[str, Any]:
    seconds = float(args["seconds"]) if "seconds" in args else float(args.get("ms", 1000)) / 1e3
    time.sleep(seconds)
    return {"slept_s": seconds}
