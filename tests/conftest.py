"""Fixtures shared by all tests."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fallow.infra.engine import Engine, EngineError
from support import patience


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `docker` need an engine. Where none answers they are skipped and say so; with
    TEST_FALLOW_DOCKER=required, as CI sets it, that is an error."""
    for item in items if patience.FACTOR > 1 else []:
        item.add_marker(pytest.mark.timeout(patience.patient(240)), append=False)  # the first one counts
    marked = [item for item in items if item.get_closest_marker("docker")]
    why = _no_engine() if marked else ""
    if why and os.environ.get("TEST_FALLOW_DOCKER") == "required":
        pytest.exit(f"{len(marked)} tests need a Docker Engine: {why}", returncode=4)
    for item in marked if why else []:
        item.add_marker(pytest.mark.skip(reason=f"needs a Docker Engine: {why}"))


def _no_engine() -> str:
    """Why there is none, "" where there is."""

    async def ask() -> str:
        engine = Engine(threads=1)
        try:
            await engine.info()
        except EngineError as e:
            return str(e)
        finally:
            engine.close()
        return ""

    return asyncio.run(ask())


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A folder with a short path: unix socket paths end at about 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="fallow-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)
