"""What only a Docker backend has to do, with a real engine: isolation, rest, images, what is left behind."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from fallow.core.model import ContainerId
from fallow.infra.engine import Engine
from invoker.backends.base import Answer, Broken, ImagePullError, StartError
from invoker.backends.docker import DockerBackend, container, patience
from invoker.backends.docker.channel import Channel
from invoker.backends.docker.container import DockerContainer
from invoker.backends.docker.options import Placement
from invoker.logs import SILENT_AFTER
from support.backend import init, run
from support.docker_engine import containers_of, engine_client, runtime_image
from support.registry import Registry

pytestmark = pytest.mark.docker
WAIT_S = 30.0
FREEZERS = ("freezer.state", "cgroup.freeze")
ECHO = "def main(a):\n    print('said')\n    return a"


class Rig:
    """Backends of one cluster; `made` are closed at the end, and then nothing is left."""

    def __init__(self) -> None:
        self.cluster = f"t{secrets.token_hex(4)}"
        self.made: list[DockerBackend] = []

    async def backend(self, *, vm_id: str = "v1", images: tuple[str, ...] = (), **options: Any) -> DockerBackend:
        placement = Placement(cluster=self.cluster, vm_id=vm_id, cgroup_parent=options.pop("cgroup_parent", ""))
        made = DockerBackend(placement=placement, images=images or (runtime_image(),), **options)
        self.made.append(made)
        await made.open()
        return made

    def inspect(self, name: str) -> dict[str, Any]:
        with engine_client() as client:
            found: dict[str, Any] = client.inspect_container(name)
            return found


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    for backend in made.made:
        await backend.close()
    assert containers_of(made.cluster) == []


async def start(
    backend: DockerBackend, kind: str = "python:3", on_exit: Callable[[], None] = lambda: None
) -> DockerContainer:
    return await backend.start(ContainerId(1), kind=kind, memory_mb=96, cap_cores=0.5, on_exit=on_exit)


async def ready(backend: DockerBackend, code: str = ECHO, kind: str = "python:3") -> DockerContainer:
    c = await start(backend, kind)
    answer = await c.post("/init", init(code))
    assert isinstance(answer, Answer)
    assert answer.status == 200
    return c


async def result(c: DockerContainer, **args: object) -> Any:
    answer = await c.post("/run", run(**args))
    assert isinstance(answer, Answer)
    assert answer.status == 200
    return json.loads(answer.body)


# Isolation.


async def test_a_container_is_held_in_and_named(rig: Rig) -> None:
    backend = await rig.backend(api_host=lambda: "http://api.example")
    code = (
        "import os\n"
        "def tried(path):\n"
        "    try: open(path, 'w').close()\n"
        "    except OSError as e: return e.errno\n"
        "def main(a):\n"
        "    status = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "    return {'root': tried('/x'), 'tmp': tried('/tmp/x'), 'uid': os.getuid(),\n"
        "            'caps': status['CapBnd'].strip(), 'new': status['NoNewPrivs'].strip(),\n"
        "            'host': os.environ['__OW_API_HOST'],\n"
        "            'files': __import__('resource').getrlimit(7)[0]}"
    )
    c = await ready(backend, code)
    assert await result(c) == {
        "root": 30, "tmp": None, "uid": 65534, "caps": "0" * 16, "new": "1", "host": "http://api.example",
        "files": 1024,
    }  # fmt: skip
    seen = rig.inspect(c.name)
    host = seen["HostConfig"]
    assert seen["Name"] == f"/fallow-{rig.cluster}-v1-1"
    assert (host["Memory"], host["MemorySwap"], host["CpuShares"]) == (96 << 20, 96 << 20, 512)
    assert (host["CpuQuota"], host["NanoCpus"], host["PidsLimit"]) == (0, 0, 1024)
    assert host["LogConfig"]["Type"] == "json-file"


async def test_a_container_is_in_the_cgroup_of_its_vm(rig: Rig) -> None:
    parent = f"/fallow-{rig.cluster}"
    backend = await rig.backend(cgroup_parent=parent)
    c = await ready(backend, "def main(a):\n    return {}")
    assert rig.inspect(c.name)["HostConfig"]["CgroupParent"] == parent
    assert {root.name for root in backend._roots} == {parent.strip("/")}
    assert c.cpu_s() is not None
    assert c.memory_used_mb() is not None
    await c.destroy()
    for root in backend._roots:
        if root.is_dir():
            root.rmdir()  # the engine makes a parent and leaves it


# Rest.


def freezer_of(backend: DockerBackend, c: DockerContainer) -> str:
    """Where both versions are mounted, version 1's freezer is the one that is used."""
    v1, v2 = ([r / c.id / name for r in backend._roots if (r / c.id / name).exists()] for name in FREEZERS)
    return v1[0].read_text().strip() if v1 else {"1": "FROZEN", "0": "THAWED"}[v2[0].read_text().strip()]


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not what():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("reachable", [True, False], ids=["freezer", "engine"])
async def test_a_container_at_rest_is_frozen_until_its_next_call(rig: Rig, reachable: bool) -> None:
    backend = await rig.backend(pause_grace_s=0.05)
    roots = backend._roots
    if not reachable:
        backend._roots = ()

    def frozen() -> bool:
        return freezer_of(backend, c) == "FROZEN" if reachable else bool(rig.inspect(c.name)["State"]["Paused"])

    c = await ready(backend)
    assert not frozen(), "an empty container is not paused"
    for n in range(2):
        c.watch(running=True)
        c.logs.begin(1)
        assert await result(c, n=n) == {"n": n}
        assert await c.logs.wait(1)
        c.watch(running=False)
        await until(frozen)
    assert bool(rig.inspect(c.name)["State"]["Paused"]) is not reachable
    assert c.memory_used_mb() is not None if reachable else c.memory_used_mb() is None
    await c.destroy()
    assert containers_of(rig.cluster) == []
    backend._roots = roots


async def test_a_frozen_container_that_went_away_was_not_sent_the_call(rig: Rig) -> None:
    backend = await rig.backend(pause_grace_s=0.0)
    ended = asyncio.Event()
    c = await start(backend, on_exit=ended.set)
    await c.post("/init", init(ECHO))
    c.watch(running=False)
    await until(lambda: freezer_of(backend, c) == "FROZEN")
    with engine_client() as client:
        client.remove_container(c.id, force=True)
    c.watch(running=True)
    assert await c.post("/run", run()) == Broken(sent=False)
    async with asyncio.timeout(WAIT_S):
        await ended.wait()


async def test_a_connection_that_rested_is_made_anew(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = await rig.backend()
    c = await ready(backend)
    first = c._channel._connection
    assert await result(c) == {}
    assert c._channel._connection is first
    monkeypatch.setattr("invoker.backends.docker.channel.FRESH_S", 0.0)
    assert await result(c, n=1) == {"n": 1}
    assert c._channel._connection is not first


# Images of anyone's.


@pytest.mark.parametrize("http", ["1.0", "1.1"])
async def test_a_blackbox_without_sentinels_keeps_serving(rig: Rig, http: str) -> None:
    image = runtime_image(kinds=False, sentinels=False, http=http)
    backend = await rig.backend()
    c = await start(backend, f"blackbox:{image}")
    assert isinstance(await c.post("/init", init("")), Answer), "the action is in the image"
    for n in range(SILENT_AFTER + 2):
        c.logs.begin(1)
        assert await result(c, n=n) == {"n": n}
        assert await c.logs.wait(1), "it may serve again"
        assert [line[31:] for line in c.logs.take()] == [f'stdout: echo {{"n": {n}}}']
    assert rig.inspect(c.name)["HostConfig"]["ReadonlyRootfs"] is False


async def test_a_blackbox_with_sentinels_is_recognised(rig: Rig) -> None:
    image = runtime_image(kinds=False, sentinels=True)
    backend = await rig.backend()
    c = await ready(backend, "import time\ndef main(a):\n    print('one')\n    return {}", f"blackbox:{image}")
    habit = backend._habits[image]
    for _ in range(2):
        c.logs.begin(1)
        assert await result(c) == {}
        assert c.logs.complete or await c.logs.wait(1)
        assert [line[31:] for line in c.logs.take()] == ["stdout: one"]
        assert habit.seen


async def test_a_blackbox_writes_where_it_likes(rig: Rig) -> None:
    image = runtime_image(kinds=False)
    backend = await rig.backend()
    code = "import os\ndef main(a):\n    open('/x', 'w').close()\n    return {'uid': os.getuid()}"
    c = await ready(backend, code, f"blackbox:{image}")
    assert await result(c) == {"uid": 0}


async def test_a_blackbox_does_not_pose_as_a_service_of_compose(rig: Rig) -> None:
    labels = {"com.docker.compose.project": rig.cluster, "com.docker.compose.service": "api", "fallow.vm": "v2"}
    image = f"fallow-test/posing:{rig.cluster}"
    with engine_client() as client:
        base = client.create_container(runtime_image(kinds=False))["Id"]
        client.commit(base, *image.split(":"), changes=[f"LABEL {name}={text}" for name, text in labels.items()])
        client.remove_container(base)
    try:
        backend = await rig.backend()
        c = await ready(backend, kind=f"blackbox:{image}")
        assert await result(c, n=1) == {"n": 1}
        with engine_client() as client:
            assert client.inspect_image(image)["Config"]["Labels"] == labels
            named = [f"com.docker.compose.project={rig.cluster}"]
            assert client.containers(all=True, filters={"label": named}) == []
        assert rig.inspect(c.name)["Config"]["Labels"] == {
            "com.docker.compose.project": "",
            "com.docker.compose.service": "",
            "fallow.cluster": rig.cluster,
            "fallow.vm": "v1",
            "fallow.kind": f"blackbox:{image}",
        }
        await c.destroy()
    finally:
        with engine_client() as client:
            client.remove_image(image, force=True)


async def test_labels_of_our_own_images_are_not_asked_for_at_a_start(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = await rig.backend()
    monkeypatch.delattr(Engine, "image_labels")
    assert await result(await ready(backend), n=1) == {"n": 1}


@pytest.fixture
async def registry() -> AsyncIterator[tuple[Registry, str]]:
    made = Registry(secrets.token_hex(8))
    host = await made.start()
    image = f"{host}/fallow-test/{secrets.token_hex(4)}"
    yield made, image
    await made.close()
    with engine_client() as client:
        for one in client.images(f"{image}"):
            client.remove_image(one["Id"], force=True)


async def test_an_image_is_pulled_once(rig: Rig, registry: tuple[Registry, str]) -> None:
    served, image = registry
    backend = await rig.backend()
    starts = [start(backend, f"blackbox:{image}") for _ in range(3)]
    for end in await asyncio.gather(*starts, return_exceptions=True):
        assert isinstance(end, StartError)
        assert not isinstance(end, ImagePullError)
        assert end.developer_error == ""
        assert "/salt" in str(end), "it was pulled: what is in it is no program"
    assert len(served.pulls) == 1
    with pytest.raises(StartError, match="salt"):
        await start(backend, f"blackbox:{image}:latest")
    assert len(served.pulls) == 1


async def test_an_image_that_is_not_to_be_had(rig: Rig, registry: tuple[Registry, str]) -> None:
    _, image = registry
    backend = await rig.backend()
    for name in (f"{image}:none", "127.0.0.1:9/fallow-test/none:1"):
        with pytest.raises(ImagePullError, match=r"manifest|refused") as caught:
            await start(backend, f"blackbox:{name}")
        assert caught.value.developer_error == f"Failed to pull container image '{name}'."


async def test_no_runtime_image_is_told_with_what_to_do(rig: Rig) -> None:
    with pytest.raises(
        StartError, match=r"none of fallow-test/none is .* fallow\.kinds; build them with `make images`"
    ):
        await rig.backend(images=("fallow-test/none",))
    blackbox = runtime_image(kinds=False)
    with pytest.raises(StartError, match="make images"):
        await rig.backend(images=(blackbox,))
    backend = await rig.backend(images=("fallow-test/none", runtime_image()))
    assert backend.kinds == ("python:3", "python:3.11", "blackbox")


async def test_no_such_network(rig: Rig) -> None:
    for network, why in (("fallow-none", "no network 'fallow-none'"), ("host", "no address of their own")):
        placement = Placement(cluster=rig.cluster, vm_id="v1", network=network)
        backend = DockerBackend(placement=placement, images=(runtime_image(),))
        with pytest.raises(StartError, match=f"docker_network: .*{why}"):
            await backend.open()
        await backend.close()


async def test_containers_are_reached_on_a_network_of_their_own(rig: Rig) -> None:
    name = f"fallow-test-{rig.cluster}"
    with engine_client() as client:
        client.create_network(name, driver="bridge")
    backend = DockerBackend(
        placement=Placement(cluster=rig.cluster, vm_id="v1", network=name), images=(runtime_image(),)
    )
    try:
        await backend.open()
        c = await ready(backend)
        assert await result(c, n=1) == {"n": 1}
        assert list(rig.inspect(c.name)["NetworkSettings"]["Networks"]) == [name]
    finally:
        await backend.close()
        with engine_client() as client:
            client.remove_network(name)


# Starts that fail.


async def test_a_container_that_ends_at_once_is_quoted(rig: Rig) -> None:
    image = runtime_image(kinds=False, command='["sh", "-c", "echo no luck >&2; exit 7"]')
    backend = await rig.backend()
    with pytest.raises(StartError, match=r"ended at once with exit code 7: stderr: no luck"):
        await start(backend, f"blackbox:{image}")
    assert containers_of(rig.cluster) == []


async def test_a_server_that_never_listens_is_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "SERVE_TIMEOUT_S", 0.5)
    image = runtime_image(kinds=False, command='["sh", "-c", "echo thinking; exec sleep 60"]')
    backend = await rig.backend()
    with pytest.raises(StartError, match=r"did not answer at .*:8080 within 0.5 s: stdout: thinking"):
        await start(backend, f"blackbox:{image}")
    assert containers_of(rig.cluster) == []


async def test_a_server_that_listens_late_is_waited_for(rig: Rig) -> None:
    image = runtime_image(kinds=False, command='["sh", "-c", "sleep 0.7; exec python3 /server.py"]')
    backend = await rig.backend()
    c = await ready(backend, kind=f"blackbox:{image}")
    assert await result(c, n=1) == {"n": 1}


async def test_only_the_engines_own_calls_can_be_slow(
    rig: Rig, registry: tuple[Registry, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "SLOW_AFTER_S", -1.0)  # whatever is pending is slow
    backend = await rig.backend()
    told: dict[str, str] = {}

    def noting(what: str, real: Callable[..., Any]) -> Callable[..., Any]:
        async def noted(*args: Any) -> Any:
            told[what] = backend.trouble
            return await real(*args)

        return noted

    monkeypatch.setattr(Engine, "create", noting("create", Engine.create))
    monkeypatch.setattr(Engine, "start", noting("start", Engine.start))
    monkeypatch.setattr(Engine, "pull", noting("pull", Engine.pull))
    monkeypatch.setattr(Channel, "open", noting("its server comes up", Channel.open))
    await start(backend)
    with pytest.raises(StartError, match="salt"):
        await start(backend, f"blackbox:{registry[1]}")
    assert {what for what, trouble in told.items() if "Docker Engine is slow" in trouble} == {"create", "start"}
    assert (told["pull"], told["its server comes up"], backend.trouble) == ("", "", "")


async def test_no_more_creates_at_once_than_allowed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    most = now = 0
    real = Engine.start

    async def counted(self: Engine, container_id: str) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await real(self, container_id)
        now -= 1

    monkeypatch.setattr(Engine, "start", counted)
    backend = await rig.backend(max_starts=2)
    await asyncio.gather(*(start(backend) for _ in range(5)))
    assert most == 2


async def test_an_image_that_was_removed_is_told(rig: Rig) -> None:
    name = f"fallow-test/gone:{rig.cluster}"
    with engine_client() as client:
        client.tag(runtime_image(), "fallow-test/gone", rig.cluster)
    backend = await rig.backend(images=(name,))
    with engine_client() as client:
        client.remove_image(name)
    with pytest.raises(StartError, match=r"the image .* is not there: .*make images"):
        await start(backend)


# What is left behind.


async def test_what_a_dead_invoker_left_is_removed_at_the_start(rig: Rig) -> None:
    first = await rig.backend(pause_grace_s=0.0)
    other = await rig.backend(vm_id="v2")
    frozen, running = await ready(first), await start(first)
    frozen.watch(running=False)
    await until(lambda: freezer_of(first, frozen) == "FROZEN")
    theirs = await ready(other)
    second = await rig.backend()
    assert [c["Names"] for c in containers_of(rig.cluster)] == [[f"/{theirs.name}"]]
    assert await result(theirs, n=1) == {"n": 1}
    assert isinstance(await (await start(second)).post("/init", init(ECHO)), Answer)
    await asyncio.gather(frozen.destroy(), running.destroy())


async def test_an_output_that_was_closed_is_not_the_end(rig: Rig) -> None:
    image = runtime_image(kinds=False, sentinels=False, command='["sh", "-c", "exec python3 /server.py >&- 2>&-"]')
    backend = await rig.backend()
    exits: list[int] = []
    c = await start(backend, f"blackbox:{image}", on_exit=lambda: exits.append(1))
    await c.post("/init", init("def main(a):\n    return a"))
    for n in range(2):
        c.logs.begin(1)
        assert await result(c, n=n) == {"n": n}
        assert await c.logs.wait(1)
        assert c.logs.take() == []
    assert exits == []


async def test_files_that_stay_open_do_not_grow(rig: Rig) -> None:
    backend = await rig.backend()

    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    await (await ready(backend)).destroy()
    before = count()
    for _ in range(3):
        await (await ready(backend)).destroy()
    assert count() <= before
