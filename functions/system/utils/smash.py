"""smash: nests all its arguments under the one that `$fieldName` names."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(args: dict[str, Any]) -> dict[str, Any]:
    field = args.get("$fieldName")
    if not isinstance(field, str):
        return {"error": "Expected an argument '$fieldName' of type 'string'."}
    return {field: {key: value for key, value in args.items() if key != "$fieldName"}}
