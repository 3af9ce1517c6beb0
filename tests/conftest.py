"""Fixtures shared by all tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A folder with a short path: unix socket paths end at about 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="fallow-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)
