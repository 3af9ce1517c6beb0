"""namespace: the namespace of whoever calls."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(args: dict[str, Any]) -> dict[str, Any]:
    return {"namespace": os.environ["__OW_NAMESPACE"]}
