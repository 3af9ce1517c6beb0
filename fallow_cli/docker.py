"""Whether a Docker Engine can be the runtime of a local cluster: asked before anything starts."""

from __future__ import annotations

import os
from pathlib import Path

from fallow.infra.engine import KINDS_LABEL, Engine, EngineError
from fallow.infra.settings import InvokerSettings, load
from fallow_cli.errors import CliError


async def check_docker(config: Path | None) -> None:
    """Raises CliError where no engine answers, or none of the runtimes' images is there."""
    file = config or (Path(os.environ["FALLOW_CONFIG"]) if os.environ.get("FALLOW_CONFIG") else None)
    images = load(InvokerSettings, section="invoker", file=file, env=os.environ, flags={}).images.split(",")
    engine = Engine(threads=1)
    try:
        for image in images:
            if KINDS_LABEL in (await engine.image_labels(image.strip()) or {}):
                return
    except EngineError as e:
        raise CliError(f"--runtime docker: {e}\nstart a Docker Engine (dockerd), or set DOCKER_HOST") from None
    finally:
        engine.close()
    raise CliError(
        f"--runtime docker: none of these images is there: {', '.join(images)}\nbuild them with `make images`"
    )
