"""fail: fails as `how` says: "raise" (default), "error" (returns one), "exit" (sys.exit) or "type" (a mere string)."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(args: dict[str, Any]) -> Any:
    text = str(args.get("text", "failed on purpose"))
    how = args.get("how", "raise")
    if how == "error":
        return {"error": text}
    if how == "exit":
        sys.exit(text)
    if how == "type":
        return text
    raise RuntimeError(text)
