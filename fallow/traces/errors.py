"""What a trace that cannot be used raises."""

from __future__ import annotations


class TraceError(ValueError):
    """A trace that cannot be read or fitted; the text names file, line and column where there is one."""
