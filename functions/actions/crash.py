"""crash: ends its process at once with exit code `code`; the container is gone."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(args: dict[str, Any]) -> dict[str, Any]:
    os._exit(int(args.get("code", 1)))
