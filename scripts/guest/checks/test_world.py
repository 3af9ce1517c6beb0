"""That the guest is the world it was booted for: a suite that passes elsewhere shows nothing."""

from __future__ import annotations

import os
from pathlib import Path

from fallow.infra.engine import Engine


async def test_the_engine_is_in_the_world_meant() -> None:
    version, driver = os.environ["FALLOW_GUEST_WORLD"].split()
    engine = Engine()
    try:
        info = await engine.info()
    finally:
        engine.close()
    assert (info.cgroup_version, info.cgroup_driver) == (int(version), driver)


def test_systemd_runs_on_that_version() -> None:
    version, _ = os.environ["FALLOW_GUEST_WORLD"].split()
    assert Path("/sys/fs/cgroup/cgroup.controllers").exists() == (version == "2")
    assert Path("/proc/1/comm").read_text().strip() == "systemd"
