"""Real data that may lie beside the project, for tests that use it where it is there and say so where it is not."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path(__file__).parents[2]


def sample(name: str) -> Path | None:
    """A file or folder of it, looked for beside the project and one folder further up; None = absent."""
    found = (above / "shared" / "data" / name for above in _ROOT.parents[:2])
    return next((path for path in found if path.exists()), None)
