"""`python -m harvest_agent.service`. Settings come from FALLOW_* alone, as a service has no other."""

from __future__ import annotations

import argparse
import os
import sys

from fallow.infra.settings import ServiceSettings, SettingsError, load
from harvest_agent.service.health import is_healthy


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m harvest_agent.service", description="The lives of one VM")
    parser.add_argument("--health", action="store_true", help="is the VM served, or rightly away? 0 = yes, 1 = no")
    health = parser.parse_args().health
    try:
        settings = load(ServiceSettings, section="service", file=None, env=os.environ, flags={})
    except SettingsError as e:
        sys.stderr.write(f"{e}\n")
        return 2
    if health:
        healthy, words = is_healthy(settings.socket)
        sys.stdout.write(f"{words}\n")
        return 0 if healthy else 1
    from harvest_agent.service.run import run  # not at the top: a health check runs every few seconds

    return run(os.environ)


if __name__ == "__main__":
    sys.exit(main())
