"""Fixtures of the agent's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .docker_vms import Cluster, cluster


@pytest.fixture
async def here() -> AsyncIterator[Cluster]:
    """A cluster of this test's own on the machine's Docker Engine."""
    async with cluster() as found:
        yield found
