"""head: the first `num` of `lines`, one where it is not given."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(args: dict[str, Any]) -> dict[str, Any]:
    lines, num = args.get("lines") or [], args.get("num") or 1
    if not isinstance(lines, list):
        return {"error": "Expected an argument 'lines' that is an array."}
    if isinstance(num, bool) or not isinstance(num, int):
        return {"error": "Expected an argument 'num' that is a whole number."}
    return {"lines": lines[:num], "num": num}
