"""cat: joins `lines` to one text, `payload`; the lines go along, everything else is dropped."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(args: dict[str, Any]) -> dict[str, Any]:
    lines = args.get("lines") or []
    if not isinstance(lines, list):
        return {"error": "Expected an argument 'lines' that is an array."}
    return {"lines": lines, "payload": "\n".join(_text(line) for line in lines)}


def _text(value: Any) -> str:
    import json  # not at the top: texts need none

    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
