"""The images containers are made from: which kinds of runtime are offered, and pulls of blackbox images."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from fallow.infra.engine import KINDS_LABEL, Engine, EngineAwayError, EngineError
from fallow.infra.log import get_logger
from invoker.backends.base import ImagePullError, StartError
from invoker.backends.docker.options import with_tag

log = get_logger("invoker.docker")


async def offered_kinds(engine: Engine, images: Iterable[str]) -> Mapping[str, str]:
    """The image of each kind, by the label `fallow.kinds` of those images that are there; the first one that serves a
    kind counts. Raises StartError where none is there, EngineError."""
    images = tuple(images)
    kinds: dict[str, str] = {}
    for image in images:
        labels = await engine.image_labels(with_tag(image))
        for kind in (labels or {}).get(KINDS_LABEL, "").split(","):
            if kind.strip():
                kinds.setdefault(kind.strip(), with_tag(image))
        if labels is None:
            log.info("image_not_there", image=image)
    if not kinds:
        raise StartError(
            f"images: none of {', '.join(images) or 'no images'} is on this Docker Engine with a label {KINDS_LABEL}; "
            "build them with `make images`"
        )
    return kinds


class Pulls:
    """Pulls under way: whoever wants an image that is being pulled waits for that pull."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._under_way: dict[str, asyncio.Task[None]] = {}

    async def pull(self, image: str) -> None:
        """Raises ImagePullError, StartError where the engine is away. Who gives up waiting does not stop it."""
        task = self._under_way.get(image)
        if task is None:
            task = self._under_way[image] = asyncio.ensure_future(self._pull(image))
            task.add_done_callback(lambda done: self._ended(image, done))
        await asyncio.shield(task)

    async def _pull(self, image: str) -> None:
        log.info("image_pull", image=image)
        try:
            await self._engine.pull(image)
        except EngineError as e:
            log.warning("image_pull_failed", image=image, error=str(e))
            if isinstance(e, EngineAwayError):
                await self._engine_is_there(image)  # else a registry was silent for long
            raise ImagePullError(image, str(e)) from e
        log.info("image_pulled", image=image)

    async def _engine_is_there(self, image: str) -> None:
        """Raises StartError where it is not: no fault of the action, and another VM may have the image."""
        try:
            await self._engine.ping()
        except EngineError as e:
            raise StartError(f"cannot pull the image {image}: {e}") from e

    def _ended(self, image: str, done: asyncio.Task[None]) -> None:
        self._under_way.pop(image, None)
        if not done.cancelled():
            done.exception()  # seen, also where nobody waits any more

    async def close(self) -> None:
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
