"""split: the parts of the text `payload` between `separator`s, or its lines; the text goes along."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(args: dict[str, Any]) -> dict[str, Any]:
    payload, separator = args.get("payload"), args.get("separator")
    if isinstance(payload, (dict, list)) or payload is None:
        return {"error": "Expected an argument 'payload' that is a string."}
    if separator is not None and not isinstance(separator, str):
        return {"error": "Expected an argument 'separator' that is a string."}
    text = payload if isinstance(payload, str) else _text(payload)
    lines = text.split(separator) if separator else text.replace("\r\n", "\n").split("\n")
    return {"lines": lines, "payload": payload}


def _text(value: Any) -> str:
    import json  # not at the top: texts need none

    return json.dumps(value)
