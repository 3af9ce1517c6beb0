"""hog: takes `mb` mebibytes of memory, touches every page, and holds them for `seconds`."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PAGE_BYTES = 4096


def main(args: dict[str, Any]) -> dict[str, Any]:
    blocks = []
    for _ in range(int(args.get("mb", 64))):
        block = bytearray(1 << 20)  # zeroed lazily by the kernel, so each page has to be touched to be there
        for start in range(0, len(block), PAGE_BYTES):
            block[start] = 1
        blocks.append(block)
    time.sleep(float(args.get("seconds", 0)))
    return {"mb": len(blocks)}
