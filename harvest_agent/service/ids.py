"""The ids under which one service's VM comes back: h2, h2.2, h2.3, ... and never one that may still be known."""

from __future__ import annotations

from pathlib import Path


class VmIds:
    """Remembers the last number in a file, so that a service that was killed goes on behind it when it is restarted.

    Its containers may live on for some seconds under the old id, and a lease of that name would keep them alive.
    Every method raises OSError.
    """

    def __init__(self, folder: Path, base: str) -> None:
        self._base = base
        self._path = folder / f"{base}.lives"
        self._folder = folder

    def next(self) -> str:
        try:
            number = int(self._path.read_text(encoding="ascii")) + 1
        except (FileNotFoundError, ValueError):
            number = 1
        self._folder.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        new.write_text(str(number), encoding="ascii")
        new.replace(self._path)
        return self._base if number == 1 else f"{self._base}.{number}"

    def forget(self) -> None:
        """The last life ended in order and left nothing: the next service may begin with the first id again."""
        self._path.unlink(missing_ok=True)
