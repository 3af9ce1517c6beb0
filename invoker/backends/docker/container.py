"""One function container of a Docker Engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from fallow.core.value import value
from fallow.infra import clock
from fallow.infra.engine import ContainerState, Engine, EngineAwayError, EngineError, ImageNotThereError
from fallow.infra.log import get_logger
from invoker.backends.base import LONGEST_CALL_S, Answer, Broken, Reply, StartError
from invoker.backends.docker.cgroup import ContainerCgroup
from invoker.backends.docker.channel import Channel
from invoker.backends.docker.options import PORT, without_image_labels
from invoker.backends.docker.patience import Patience
from invoker.backends.docker.removal import Removals
from invoker.backends.docker.rest import Rest
from invoker.backends.docker.stream import LogStream
from invoker.logs import LogCollector, SentinelHabit

SERVE_TIMEOUT_S = 30.0  # from its start until it takes connections
END_LOOKS_S = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # pauses until the engine, too, knows that it has ended
END_WAIT_S = 2.0  # after its connection broke
LAST_LOG_S = 0.5  # for the last lines of one that did not come up
LAST_WORDS_CHARS = 500
EXIT_MEMORY = 86  # of our own runtimes, when their memory is exhausted
_MEMORY_WORDS = b"out of memory"  # V8's, before it aborts

log = get_logger("invoker.docker")


@value(frozen=True, slots=True, kw_only=True)
class Make:
    """What one container is made from. `own` = of an image of ours, whose exit code tells when memory ran out and whose
    labels are taken as they are."""

    name: str
    image: str
    body: Mapping[str, Any]
    network: str  # "" = the default bridge
    own: bool


class DockerContainer:
    """Made by DockerBackend.start."""

    def __init__(
        self,
        make: Make,
        *,
        engine: Engine,
        patience: Patience,
        removals: Removals,
        cgroup_of: Callable[[str], ContainerCgroup],
        habit: SentinelHabit | None,
        pause_grace_s: float,
        on_exit: Callable[[], None],
        on_gone: Callable[[DockerContainer], None],
    ) -> None:
        self.logs = LogCollector(clock.unix_ms, habit)
        self.name = make.name
        self.id = ""
        self.last_cpu_s: float | None = None
        self._make = make
        self._engine = engine
        self._patience = patience
        self._removals = removals
        self._cgroup_of = cgroup_of
        self._on_exit = on_exit
        self._on_gone = on_gone
        self._cgroup: ContainerCgroup | None = None
        self._channel = Channel(self._ended_within)
        self._rest = Rest(engine, grace_s=pause_grace_s, before_freeze=self._channel.close)
        self._stream: LogStream | None = None
        self._raising: asyncio.Task[ContainerState] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._exited = asyncio.Event()
        self._exit: ContainerState | None = None  # None = it has not ended, or nobody knows how
        self._destroying = False
        self._end: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Create, attach, start and connect. Raises StartError, ImageNotThereError, EngineAwayError."""
        self.logs.begin(1)  # what a start says is only read when it fails
        self._raising = asyncio.ensure_future(self._raise_up())
        try:
            # Not to be cancelled: what the engine has been asked for it does, and it must be known to be removed.
            state = await self._patience.unless_away(self._raising)
        except (ImageNotThereError, EngineAwayError):
            raise
        except EngineError as e:
            raise StartError(f"cannot start a container of {self._make.image}: {e}") from e
        address = state.addresses.get(self._make.network or "bridge", "")
        if state.running and not address:
            raise StartError(f"docker_network: a container of {self._make.image} has no address in it")
        try:
            serves = state.running and await self._channel.open(address, PORT, SERVE_TIMEOUT_S)
        except TimeoutError:
            said = await self._last_words()
            where = f"{address}:{PORT} within {SERVE_TIMEOUT_S:g} s"
            raise StartError(f"the server of {self._make.image} did not answer at {where}{said}") from None
        if not serves:
            raise StartError(f"the container of {self._make.image} ended at once{await self._last_words()}")
        self.cpu_s()

    async def _raise_up(self) -> ContainerState:
        body = await self._body()
        with self._patience.starting(self.name):
            self.id = await self._engine.create(self.name, body)
        fd = await self._engine.attach(self.id)  # before the start: nothing it says is missed
        self._stream = LogStream(fd, self.logs, self._stream_ended)
        if not self._destroying:
            with self._patience.starting(self.name):
                await self._engine.start(self.id)
        state = await self._engine.inspect(self.id)
        self._cgroup = self._cgroup_of(self.id)
        self._rest.of(self.id, self._cgroup)
        return state

    async def _body(self) -> Mapping[str, Any]:
        if self._make.own:
            return self._make.body
        labels = await self._engine.image_labels(self._make.image)
        if labels is None:
            raise ImageNotThereError(f"No such image: {self._make.image}")
        return without_image_labels(self._make.body, labels)

    async def _last_words(self) -> str:
        await self._ended_within(LAST_LOG_S)
        self.drain_logs()
        said = " | ".join(line[31:] for line in self.logs.take())[-LAST_WORDS_CHARS:]
        code = f" with exit code {self._exit.exit_code}" if self._exit is not None else ""
        return f"{code}: {said}" if said else code

    async def _ended_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._exited.wait()
        return self._exited.is_set()

    async def post(self, path: str, body: bytes, timeout_s: float = LONGEST_CALL_S) -> Reply:
        if self._destroying or self._exited.is_set():
            return Broken(sent=False)
        if self._rest.frozen and not await self._rest.thaw():
            return Broken(sent=False)
        reply = await self._channel.post(path, body, timeout_s, patient=path == "/init")
        if isinstance(reply, Answer) or not reply.sent:
            return reply
        self.cpu_s()  # soon there is nothing left to read it from
        await self._ended_within(END_WAIT_S)
        return Broken(sent=True, out_of_memory=self._ran_out_of_memory())

    def _ran_out_of_memory(self) -> bool:
        if self._exit is None:
            return False
        if self._exit.out_of_memory:
            return True
        if not self._make.own or self._exit.exit_code == 0:
            return False
        said = self._stream.last_error_bytes if self._stream is not None else b""
        return self._exit.exit_code == EXIT_MEMORY or _MEMORY_WORDS in said

    def cpu_s(self, *, idle: bool = False) -> float | None:
        """See Container.cpu_s. All that ran in the container counts at once, children too."""
        now_s = self._cgroup.cpu_s() if self._cgroup is not None else None
        if now_s is not None:
            self.last_cpu_s = now_s
        return self.last_cpu_s

    def memory_used_mb(self) -> float | None:
        return self._cgroup.memory_mb() if self._cgroup is not None and not self._exited.is_set() else None

    def drain_logs(self) -> None:
        if self._stream is not None:
            self._stream.drain()

    def watch(self, *, running: bool) -> None:
        """The kernel enforces the memory limit; here rest begins and ends."""
        if running or self._destroying:
            self._rest.stop()
        else:
            self._rest.begin()

    def begin_end(self) -> asyncio.Future[None]:
        """Start to destroy it, without waiting."""
        self._destroying = True
        if self._end is None:
            self._end = asyncio.ensure_future(self._destroy())
        return self._end

    async def destroy(self) -> None:
        await asyncio.shield(self.begin_end())  # who gives up waiting does not stop the end

    async def _destroy(self) -> None:
        self._rest.stop()
        if self._raising is not None:
            await self._patience.unless_closing(self._raising)
        self._channel.close()
        self.cpu_s()
        if self._rest.frozen:
            await self._rest.thaw()
        await self._removals.remove(self.name)
        if self._looking is not None:
            self._looking.cancel()
        if self._stream is not None:
            self._stream.drain()
            self._stream.close()
        if self._cgroup is not None:
            self._cgroup.close()
        self._exited.set()
        self._on_gone(self)

    def _stream_ended(self) -> None:
        if not self._destroying:
            self._looking = asyncio.ensure_future(self._look_how_it_ended())

    async def _look_how_it_ended(self) -> None:
        """Its output has ended: so has the container, unless it only closed it. Where the engine does not say, it is
        given up: nobody would tell when it ends."""
        for pause_s in END_LOOKS_S:
            await asyncio.sleep(pause_s)
            try:
                state = await self._engine.inspect(self.id)
            except EngineError as e:
                log.warning("container_lost", container=self.name, error=str(e))
                break
            if not state.running:
                self._exit = state
                break
        else:
            return
        self._exited.set()
        if not self._destroying:
            self._on_exit()
