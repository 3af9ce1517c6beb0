"""`python -m controller`: settings from FALLOW_CONFIG, FALLOW_* and flags; SIGTERM ends it in order."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
import sys
from pathlib import Path

from controller.app import Controller, announce
from fallow.infra import log
from fallow.infra.settings import ControllerSettings, load
from fallow.infra.store import Store, StoreError
from fallow.infra.tasks import FatalError, run


def _flags(argv: list[str]) -> dict[str, object]:
    """Every setting is a flag too: `--link-port 0`."""
    parser = argparse.ArgumentParser(prog="controller", description="A controller of a Fallow cluster.")
    for field in dataclasses.fields(ControllerSettings):
        parser.add_argument(f"--{field.name.replace('_', '-')}", dest=field.name, metavar="VALUE")
    return vars(parser.parse_args(argv))


async def _main(stop: asyncio.Event) -> int:
    file = os.environ.get("FALLOW_CONFIG")
    settings = load(
        ControllerSettings,
        section="controller",
        file=Path(file) if file else None,
        env=os.environ,
        flags=_flags(sys.argv[1:]),
    )
    log.configure(settings.log_level, settings.log_format, "controller")
    if not settings.join_secret:
        raise FatalError("join_secret is empty: set FALLOW_JOIN_SECRET to the cluster's secret")
    try:
        store = await Store.open(settings.redis_url)
    except StoreError as e:
        raise FatalError(f"the store at {settings.redis_url} cannot be used: {e}") from None
    try:
        controller = Controller(settings, store)
        await controller.run(stop, ready=lambda: announce(controller))
    finally:
        await store.close()
    return 0


if __name__ == "__main__":
    sys.exit(run(_main))
