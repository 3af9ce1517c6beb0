"""Containers of a Docker Engine: one per function container, in the cgroup of the VM.

The engine is asked over its API in bounded threads, with a deadline for every call; requests go to the containers
themselves, over TCP. What the engine cannot do now (it is away, or slow) is a failed start or a removal that is tried
again, and `trouble` says so.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from fallow.core.model import ContainerId
from fallow.infra import clock
from fallow.infra.engine import DEFAULT_TIMEOUT_S, Engine, EngineAwayError, EngineError, ImageNotThereError
from fallow.infra.log import get_logger
from fallow.infra.tasks import every
from invoker.backends.base import StartError
from invoker.backends.docker.cgroup import ContainerCgroup, container_roots, own_mountinfo
from invoker.backends.docker.container import DockerContainer, Make
from invoker.backends.docker.images import Pulls, offered_kinds
from invoker.backends.docker.options import BLACKBOX, Placement, blackbox_image, create_body
from invoker.backends.docker.patience import Patience
from invoker.backends.docker.removal import Removals
from invoker.logs import SentinelHabit

PING_EVERY_S = 1.0
# After a start that was given up: the engine may yet make what it was asked for, and nobody waits for that any more.
DOUBT_S = 120.0
SWEEP_EVERY_S = 5.0
LISTING_TIMEOUT_S = 3.0  # of a sweep beside the pings: another one follows
UNREACHABLE_NETWORKS = ("host", "none")  # drivers whose containers have no address of their own

log = get_logger("invoker.docker")


class DockerBackend:
    """`cgroups` are the VM's directories as this process sees them; `api_host` says what containers are told of the
    API, "" = nothing yet."""

    def __init__(
        self,
        *,
        placement: Placement,
        images: tuple[str, ...],
        cgroups: tuple[Path, ...] = (),
        pause_grace_s: float = 10.0,
        max_starts: int = 4,
        api_host: Callable[[], str] = lambda: "",
    ) -> None:
        self.kinds: tuple[str, ...] = ()  # known once it is open
        self._placement = placement
        self._images = images
        self._cgroups = cgroups
        self._roots: tuple[Path, ...] = ()
        self._pause_grace_s = pause_grace_s
        self._api_host = api_host
        self._engine = Engine()
        self._pulls = Pulls(self._engine)
        self._patience = Patience()
        self._removals = Removals(self._engine, self._patience)
        self._starts = asyncio.Semaphore(max_starts)
        self._image_of: Mapping[str, str] = {}
        self._habits: dict[str, SentinelHabit] = {}
        self._numbers = itertools.count(1)
        self._live: dict[str, DockerContainer] = {}  # by name, from before its creation until it is removed
        self._doubt_until_mono_s = 0.0
        self._swept_mono_s = 0.0
        self._sweep_due = False
        self._sweeping: asyncio.Future[None] | None = None
        self._ended_cpu_s = 0.0
        self._closing: asyncio.Future[None] | None = None

    @property
    def trouble(self) -> str:
        return self._patience.trouble

    async def open(self) -> None:
        """See Backend.open. Removes what an invoker of this VM has left before."""
        try:
            info = await self._engine.info()
            await self._check_network()
            self._image_of = await offered_kinds(self._engine, self._images)
            self._roots = container_roots(
                self._cgroups,
                cgroup_parent=self._placement.cgroup_parent,
                systemd=info.cgroup_driver == "systemd",
                mountinfo=own_mountinfo(),
            )
            await self._sweep()
        except EngineError as e:
            raise StartError(str(e)) from e
        self.kinds = (*self._image_of, BLACKBOX)

    async def _check_network(self) -> None:
        network = self._placement.network
        if not network:
            return
        driver = await self._engine.network_driver(network)
        if driver is None:
            raise StartError(f"docker_network: there is no network {network!r} on this Docker Engine")
        if driver in UNREACHABLE_NETWORKS or driver == "null":
            raise StartError(f"docker_network: containers have no address of their own in {network!r}; name a bridge")

    async def _sweep(self, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Remove the containers of this VM that are not this backend's. Raises EngineError where they could not be
        listed within `timeout_s`; removing them may take minutes."""
        found = await self._engine.containers(self._placement.labels, timeout_s=timeout_s)
        left = [container for container in found if container.name not in self._live]
        for container in left:
            ContainerCgroup.thaw_of(self._roots, container.id)
        await asyncio.gather(*(self._removals.remove(container.name) for container in left))
        if left:
            log.warning("containers_swept", count=len(left))

    async def supervise(self) -> NoReturn:
        """See Backend.supervise: asks once a second whether the engine is there."""
        await every(PING_EVERY_S, self._look)
        raise AssertionError

    async def _look(self) -> None:
        try:
            await self._engine.ping()
        except EngineError as e:
            self._away(e)
            return
        now_s = clock.mono_s()
        in_doubt = now_s < self._doubt_until_mono_s and now_s - self._swept_mono_s >= SWEEP_EVERY_S
        if self._patience.away:
            log.info("engine_back")
        if self._patience.away or in_doubt:
            self._sweep_due = True
        self._patience.answered()
        sweeping = self._sweeping is not None and not self._sweeping.done()
        if self._sweep_due and not sweeping and not self._patience.closing.is_set():
            self._sweep_due, self._swept_mono_s = False, now_s
            self._sweeping = asyncio.ensure_future(self._sweep_aside())

    async def _sweep_aside(self) -> None:
        """Sweep while the pings go on."""
        try:
            await self._sweep(timeout_s=LISTING_TIMEOUT_S)
        except EngineError as e:
            log.warning("sweep_failed", error=str(e))
            self._doubt_until_mono_s = clock.mono_s() + DOUBT_S  # it is due again

    def _away(self, error: EngineError) -> None:
        if not self._patience.away:
            log.error("engine_away", error=str(error))
        self._patience.missed(str(error))

    async def start(
        self,
        container_id: ContainerId,
        *,
        kind: str,
        memory_mb: int,
        cap_cores: float,
        on_exit: Callable[[], None],
    ) -> DockerContainer:
        """See Backend.start. The image of a blackbox action is pulled where it is not there."""
        blackbox = blackbox_image(kind)
        image = blackbox or self._image_of.get(kind)
        if image is None:
            raise StartError(f"kind {kind} is not offered here; there are {', '.join(self.kinds)}")

        async def once() -> DockerContainer:
            return await self._start(kind=kind, image=image, memory_mb=memory_mb, cap_cores=cap_cores, on_exit=on_exit)

        try:
            try:
                return await once()
            except ImageNotThereError:
                if blackbox is None:
                    raise
                await self._pulls.pull(image)
                return await once()
        except ImageNotThereError as e:
            hint = "" if blackbox else "; build it again with `make images`"
            raise StartError(f"the image {image} is not there: {e}{hint}") from e

    async def _start(
        self, *, kind: str, image: str, memory_mb: int, cap_cores: float, on_exit: Callable[[], None]
    ) -> DockerContainer:
        own = blackbox_image(kind) is None
        api_host = self._api_host()
        make = Make(
            name=self._placement.name(next(self._numbers)),
            image=image,
            body=create_body(
                self._placement,
                kind=kind,
                image=image,
                memory_mb=memory_mb,
                cap_cores=cap_cores,
                env={"__OW_API_HOST": api_host} if api_host else {},
            ),
            network=self._placement.network,
            own=own,
        )
        container = DockerContainer(
            make,
            engine=self._engine,
            patience=self._patience,
            removals=self._removals,
            cgroup_of=lambda container_id: ContainerCgroup(self._roots, container_id),
            habit=None if own else self._habits.setdefault(image, SentinelHabit()),
            pause_grace_s=self._pause_grace_s,
            on_exit=on_exit,
            on_gone=self._gone,
        )
        async with self._starts:
            self._live[make.name] = container
            try:
                await container.start()
            except EngineAwayError as e:
                self._away(e)  # at once: what fails for it is no fault of its own
                self._doubt_until_mono_s = clock.mono_s() + DOUBT_S
                container.begin_end()  # it ends when the engine is back: nobody need wait for that
                raise StartError(str(e)) from e
            except BaseException:
                end = container.begin_end()
                if not self.trouble:
                    await asyncio.shield(end)
                raise
        return container

    def _gone(self, container: DockerContainer) -> None:
        """A container is removed; its CPU time stays in the total."""
        if self._live.pop(container.name, None) is not None:
            self._ended_cpu_s += container.last_cpu_s or 0.0

    def cpu_total_s(self) -> float:
        return self._ended_cpu_s + sum(c.cpu_s() or 0.0 for c in self._live.values())

    def memory_mb(self) -> float:
        return sum(c.memory_used_mb() or 0.0 for c in self._live.values())

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._patience.close()
        await self._pulls.close()
        await asyncio.gather(*(c.destroy() for c in list(self._live.values())))
        if self._sweeping is not None:
            await asyncio.wait([self._sweeping])  # its removals, too, know that the end has come
        self._engine.close()
