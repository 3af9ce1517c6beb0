"""What can go wrong with the store. Redis' own exceptions are translated here-ward once, in `connection`.

The names say a state of the store, hence no suffix on all but the first.
"""

from __future__ import annotations


class StoreError(Exception):
    """The store answered something unusable, or refused; the text says what and what to do."""


class StoreUnavailable(StoreError):  # noqa: N818
    """Redis is away, still loading, or too slow for the deadline.

    Whether the call took effect is unknown; every call may be repeated.
    """


class StoreFull(StoreError):  # noqa: N818
    """Redis is at its memory limit and evicts nothing: nothing was written."""


class SchemaMismatch(StoreError):  # noqa: N818
    """The database was written by a version of Fallow whose layout this one does not know."""


class Conflict(StoreError):  # noqa: N818
    """The document that stands is not the one the writer expected. `collection` names the kind of entity it is."""

    def __init__(self, text: str, *, collection: str = "") -> None:
        super().__init__(text)
        self.collection = collection


class PackageMissing(StoreError):  # noqa: N818
    """An action was put into a package that is not there (any more)."""


class NotEmpty(StoreError):  # noqa: N818
    """A package was to be deleted that holds actions; `count` says how many."""

    def __init__(self, text: str, *, count: int) -> None:
        super().__init__(text)
        self.count = count


class CodeMissing(StoreError):  # noqa: N818
    """An action was put by the digest of code that is not stored (any more): send the code along."""
