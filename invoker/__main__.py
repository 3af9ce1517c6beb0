"""`python -m invoker`: serves one VM. Settings: FALLOW_* environment over the table [invoker] of FALLOW_CONFIG."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from fallow.infra import log, settings, tasks
from fallow.infra.settings import InvokerSettings, SettingsError
from invoker.app import serve


def main() -> int:
    """Returns the exit code."""

    async def start(stop: asyncio.Event) -> int:
        file = os.environ.get("FALLOW_CONFIG", "")
        try:
            loaded = settings.load(
                InvokerSettings, section="invoker", file=Path(file) if file else None, env=os.environ, flags={}
            )
        except SettingsError as e:
            raise tasks.FatalError(str(e)) from None
        log.configure(loaded.log_level, loaded.log_format, f"invoker {loaded.vm_id}")
        return await serve(loaded, stop)

    return tasks.run(start)


if __name__ == "__main__":
    sys.exit(main())
