"""sort: `lines` in the order of their texts (so 10 stands before 9, as in OpenWhisk), and how many they are."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(args: dict[str, Any]) -> dict[str, Any]:
    lines = args.get("lines") or []
    if not isinstance(lines, list):
        return {"error": "Expected an argument 'lines' that is an array."}
    return {"lines": sorted(lines, key=_text), "length": len(lines)}


def _text(value: Any) -> str:
    import json  # not at the top: texts need none

    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
