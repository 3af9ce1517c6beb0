"""`python -m harvest_agent`: the entry process of one VM. Settings come from FALLOW_* or from flags named like them."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
import sys
from pathlib import Path

from fallow.infra import log, settings, tasks
from fallow.infra.settings import AgentSettings
from harvest_agent.agent import Agent
from harvest_agent.cgroup_find import enter_user_scope
from harvest_agent.host import AUTO


def main() -> int:
    loaded = _load(sys.argv[1:])
    if isinstance(loaded, str):
        sys.stderr.write(f"{loaded}\n")
        return 2
    if loaded.backend == "process" and loaded.cgroup_root == AUTO:
        enter_user_scope([sys.executable, "-m", "harvest_agent", *sys.argv[1:]])
    log.configure(loaded.log_level, loaded.log_format, f"agent {loaded.vm_id}")

    async def live(stop: asyncio.Event) -> int:
        return await Agent(loaded, os.environ).run(stop)

    return tasks.run(live)


def _load(argv: list[str]) -> AgentSettings | str:
    """The settings, or what is wrong with them."""
    parser = argparse.ArgumentParser(prog="python -m harvest_agent", description="The agent of one VM")
    parser.add_argument("--config", type=Path, help="TOML file; its table [agent] is read")
    for field in dataclasses.fields(AgentSettings):
        parser.add_argument("--" + field.name.replace("_", "-"), dest=field.name, default=None)
    flags = vars(parser.parse_args(argv))
    file = flags.pop("config")
    try:
        given = {key: value for key, value in flags.items() if value is not None}
        return settings.load(AgentSettings, section="agent", file=file, env=os.environ, flags=given)
    except settings.SettingsError as e:
        return str(e)


if __name__ == "__main__":
    sys.exit(main())
