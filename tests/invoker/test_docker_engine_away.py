"""An engine that hangs or is away, behind a socket that can be stalled and closed: nothing hangs, and it is told."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from docker.errors import NotFound

from fallow.core.model import ActionSpec, ContainerId, ReturnReason, Status
from fallow.infra.engine import Engine, EngineAwayError, EngineError
from fallow.infra.messages import Report, Result, Returned
from fallow.infra.settings import InvokerSettings
from fallow.infra.store import Store
from invoker.backends.base import Answer, StartError
from invoker.backends.docker import DockerBackend, patience, removal
from invoker.backends.docker.container import DockerContainer
from invoker.backends.docker.options import Placement
from support.backend import init, run
from support.docker_engine import containers_of, engine_client, runtime_image
from support.engine_proxy import EngineProxy
from support.invoker_rig import Controller, Serving

pytestmark = [
    pytest.mark.docker,
    # The SDK leaves a socket unclosed that could not connect.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]
WAIT_S = 30.0
ECHO = b"def main(args):\n    print('said', args)\n    return args"


@pytest.fixture
async def proxy(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EngineProxy]:
    runtime_image()
    made = EngineProxy(short_dir / "docker.sock")
    await made.start()
    with monkeypatch.context() as patch:
        patch.setenv("DOCKER_HOST", made.url)
        yield made
        await made.close()
    gc.collect()  # what the SDK left, here where the warning is expected


@pytest.fixture
def cluster() -> str:
    return f"t{secrets.token_hex(4)}"


@pytest.fixture
async def docker(proxy: EngineProxy, cluster: str) -> AsyncIterator[DockerBackend]:
    made = DockerBackend(placement=Placement(cluster=cluster, vm_id="v1"), images=(runtime_image(),))
    await made.open()
    supervising = asyncio.ensure_future(made.supervise())
    yield made
    supervising.cancel()
    await made.close()
    await proxy.close()


def left(cluster: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """By the engine itself."""
    with monkeypatch.context() as patch:
        patch.delenv("DOCKER_HOST")
        return len(containers_of(cluster))


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not what():
            await asyncio.sleep(0.02)


async def start(docker: DockerBackend) -> DockerContainer:
    return await docker.start(ContainerId(1), kind="python:3", memory_mb=96, cap_cores=1.0, on_exit=lambda: None)


async def break_off(proxy: EngineProxy, how: str) -> None:
    if how == "stalled":
        proxy.stall()
    else:
        await proxy.close()


async def mend(proxy: EngineProxy, how: str) -> None:
    if how == "stalled":
        proxy.resume()
    else:
        await proxy.start()


@pytest.mark.parametrize("how", ["stalled", "closed"])
async def test_trouble_is_told_and_forgotten(docker: DockerBackend, proxy: EngineProxy, how: str) -> None:
    assert docker.trouble == ""
    await break_off(proxy, how)
    await until(lambda: "Docker Engine" in docker.trouble)
    await mend(proxy, how)
    await until(lambda: docker.trouble == "")
    c = await start(docker)
    assert isinstance(await c.post("/init", init("def main(a):\n    return a")), Answer)


async def test_calls_go_on_while_the_engine_hangs(docker: DockerBackend, proxy: EngineProxy) -> None:
    c = await start(docker)
    await c.post("/init", init("def main(a):\n    return a"))
    proxy.stall()
    for n in range(3):
        answer = await c.post("/run", run(n=n))
        assert isinstance(answer, Answer)
        assert json.loads(answer.body) == {"n": n}
    proxy.resume()


@pytest.mark.parametrize("how", ["stalled", "closed"])
async def test_a_removal_is_tried_again_until_it_worked(
    docker: DockerBackend, proxy: EngineProxy, cluster: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(removal, "REMOVE_TIMEOUT_S", 0.5)
    c = await start(docker)
    await break_off(proxy, how)
    destroying = asyncio.ensure_future(c.destroy())
    await until(lambda: bool(docker.trouble))
    assert not destroying.done()
    await mend(proxy, how)
    async with asyncio.timeout(WAIT_S):
        await destroying
    assert left(cluster, monkeypatch) == 0


@pytest.fixture
def leftover(docker: DockerBackend, cluster: str) -> Iterator[str]:
    """A container of the VM that is not the backend's."""
    labels = dict(Placement(cluster=cluster, vm_id="v1").labels)
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("DOCKER_HOST")
            client = stack.enter_context(engine_client())
        made = client.create_container(runtime_image(), labels=labels)["Id"]
        yield made
        with contextlib.suppress(NotFound):
            client.remove_container(made, force=True)


async def test_trouble_is_told_and_forgotten_while_a_removal_fails(
    docker: DockerBackend, proxy: EngineProxy, cluster: str, monkeypatch: pytest.MonkeyPatch, leftover: str
) -> None:
    tried = asyncio.Event()

    async def refuse(self: Engine, container_id: str, *, timeout_s: float) -> None:
        tried.set()
        raise EngineError("removal is already in progress")

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "remove", refuse)
        for _ in range(2):
            await proxy.close()
            await until(lambda: bool(docker.trouble))
            await proxy.start()
            await until(lambda: docker.trouble == "")
        async with asyncio.timeout(WAIT_S):
            await tried.wait()
        assert left(cluster, monkeypatch) == 1
    await until(lambda: left(cluster, monkeypatch) == 0)


async def test_a_listing_that_hangs_is_given_up_and_asked_again(
    docker: DockerBackend, proxy: EngineProxy, cluster: str, monkeypatch: pytest.MonkeyPatch, leftover: str
) -> None:
    monkeypatch.setattr("invoker.backends.docker.backend.LISTING_TIMEOUT_S", 0.2)
    monkeypatch.setattr("invoker.backends.docker.backend.SWEEP_EVERY_S", 0.1)
    await proxy.close()
    await until(lambda: bool(docker.trouble))
    proxy.stall("GET [^ ]*/containers/json")
    await proxy.start()
    await until(lambda: docker.trouble == "")
    first = docker._sweeping
    await until(lambda: docker._sweeping is not first)
    assert docker.trouble == ""
    assert left(cluster, monkeypatch) == 1
    proxy.resume()
    await until(lambda: left(cluster, monkeypatch) == 0)


async def test_a_start_that_hangs_fails_and_leaves_nothing(
    docker: DockerBackend, proxy: EngineProxy, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fallow.infra.engine.START_TIMEOUT_S", 0.5)
    monkeypatch.setattr(removal, "REMOVE_TIMEOUT_S", 0.5)
    proxy.stall()
    starting = asyncio.ensure_future(start(docker))
    await until(lambda: bool(docker.trouble))
    proxy.resume()  # the engine gets what it was asked for after all
    with pytest.raises(StartError, match=r"did not answer within 0\.5 s"):
        await starting
    await until(lambda: docker.trouble == "")
    await until(lambda: proxy.idle)  # whatever it was asked for, it has done
    await until(lambda: left(cluster, monkeypatch) == 0)


async def test_the_end_does_not_wait_for_an_engine_that_hangs(
    docker: DockerBackend, proxy: EngineProxy, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "REMOVE_TIMEOUT_S", 0.5)
    await start(docker)
    proxy.stall()
    starting = asyncio.ensure_future(start(docker))
    await asyncio.sleep(0.05)
    async with asyncio.timeout(WAIT_S):
        await docker.close()
    assert isinstance((await asyncio.gather(starting, return_exceptions=True))[0], (StartError, asyncio.CancelledError))
    await proxy.close()  # what was asked for while it hung never arrives
    with monkeypatch.context() as patch:
        patch.delenv("DOCKER_HOST")
        second = DockerBackend(placement=Placement(cluster=cluster, vm_id="v1"), images=(runtime_image(),))
        await second.open()  # removes what the first had to leave
        await second.close()


async def test_no_engine_at_the_start_is_told(monkeypatch: pytest.MonkeyPatch, short_dir: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{short_dir}/none.sock")
    made = DockerBackend(placement=Placement(cluster="c", vm_id="v1"), images=("x",))
    with pytest.raises(StartError, match="no Docker Engine to be had"):
        await made.open()
    await made.close()


async def test_no_call_is_taken_once_it_is_closed() -> None:
    engine = Engine()
    engine.close()
    with pytest.raises(EngineAwayError):
        await engine.ping()


# A whole invoker.


@pytest.fixture
async def invoker(
    store: Store, controller: Controller, run_dir: Path, proxy: EngineProxy, cluster: str
) -> AsyncIterator[Serving]:
    settings = InvokerSettings(
        redis_url=store.test_url,  # type: ignore[attr-defined]
        join_secret="secret",
        vm_id="r1",
        run_dir=str(run_dir),
        backend="docker",
        cluster=cluster,
        images=runtime_image(),
    )
    serving = Serving(settings)
    await controller.until(lambda _: bool(controller.links))
    yield serving
    assert await serving.stop() == 0
    await proxy.close()


async def test_an_invoker_runs_calls_in_containers_of_the_engine(
    controller: Controller,
    invoker: Serving,
    store: Store,
    deploy: Callable[..., Awaitable[ActionSpec]],
    cluster: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = await deploy("echo", ECHO)
    for n, cold in ((1, True), (2, False)):
        activation_id = f"{n:032x}"
        controller.run(spec, activation_id, b'{"n":1}')
        result = await controller.hear(Result, activation_id)
        assert (result.status, json.loads(result.result)) == (Status.SUCCESS, {"n": 1})
        assert (result.init_s is not None) is cold
        assert result.cpu_s is not None
        await controller.recorded(activation_id)
        record = await store.get_record("guest", activation_id)
        assert record is not None
        assert [line[31:] for line in record.logs] == ["stdout: said {'n': 1}"]
    assert await invoker.stop() == 0
    assert left(cluster, monkeypatch) == 0


@pytest.mark.parametrize("how", ["stalled", "closed"])
async def test_an_invoker_without_its_engine_is_unhealthy_and_returns_calls(
    controller: Controller,
    invoker: Serving,
    deploy: Callable[..., Awaitable[ActionSpec]],
    proxy: EngineProxy,
    how: str,
) -> None:
    spec = await deploy("echo", ECHO)
    await break_off(proxy, how)
    controller.run(spec, "a" * 32)  # before it is known: its start fails, and that is no fault of the call
    returned = await controller.hear(Returned, "a" * 32)
    assert returned.reason == ReturnReason.UNHEALTHY.value
    await controller.until(
        lambda heard: any(isinstance(m, Report) and not m.healthy and "Docker Engine" in m.health_note for m in heard)
    )
    controller.run(spec, "b" * 32)
    assert (await controller.hear(Returned, "b" * 32)).reason == ReturnReason.UNHEALTHY.value
    await mend(proxy, how)
    controller.heard.clear()
    await controller.until(lambda heard: any(isinstance(m, Report) and m.healthy for m in heard))
    controller.run(spec, "c" * 32, b'{"n": 3}')
    assert json.loads((await controller.hear(Result, "c" * 32)).result) == {"n": 3}


@pytest.mark.parametrize("call", ["create", "[0-9a-f]+/start"])
async def test_an_invoker_whose_engine_only_answers_pings_is_unhealthy(
    controller: Controller,
    invoker: Serving,
    deploy: Callable[..., Awaitable[ActionSpec]],
    proxy: EngineProxy,
    call: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "SLOW_AFTER_S", 1.0)
    spec = await deploy("echo", ECHO)
    proxy.stall(f"POST [^ ]*/containers/{call}")
    controller.run(spec, "a" * 32, b'{"n": 1}')
    await controller.until(
        lambda heard: any(isinstance(m, Report) and not m.healthy and "Engine is slow" in m.health_note for m in heard)
    )
    controller.run(spec, "b" * 32)
    assert (await controller.hear(Returned, "b" * 32)).reason == ReturnReason.UNHEALTHY.value
    controller.heard.clear()
    proxy.resume()
    await controller.until(lambda heard: any(isinstance(m, Report) and m.healthy for m in heard))
    assert json.loads((await controller.hear(Result, "a" * 32)).result) == {"n": 1}
