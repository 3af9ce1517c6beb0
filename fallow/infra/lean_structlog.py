"""structlog without rich.

structlog imports rich where it finds it, for coloured tracebacks that no process here prints: most of the time that
importing it takes, in every process of a cluster. Import structlog from here, before anything else imports it.
"""

from __future__ import annotations

import sys

_hidden = "rich" not in sys.modules
if _hidden:
    sys.modules["rich"] = None  # type: ignore[assignment]  # to the import statement: not installed
try:
    import structlog
finally:
    if _hidden:
        del sys.modules["rich"]

__all__ = ["structlog"]
