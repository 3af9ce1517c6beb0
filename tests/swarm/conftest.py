"""Where no machines can be made, these tests are skipped and say why; with TEST_FALLOW_SWARM=required, as
`make swarm-test` sets it, that is an error."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from swarm.hosts import why_not
from swarm.stack import PLATFORM

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if HERE in item.path.parents]
    why = (why_not() or _no_images()) if ours else ""
    if why and os.environ.get("TEST_FALLOW_SWARM") == "required":
        pytest.exit(f"{len(ours)} tests need several hosts: {why}", returncode=4)
    for item in ours if why else []:
        item.add_marker(pytest.mark.skip(reason=f"needs several hosts: {why}"))


def _no_images() -> str:
    found = subprocess.run(["docker", "image", "inspect", PLATFORM], capture_output=True)
    return f"there is no image {PLATFORM}: run `make images`" if found.returncode else ""
