"""What every backend promises, tried on each with real containers."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from fallow.core.model import ContainerId
from invoker.backends.base import Answer, Backend, Broken, Container, StartError
from invoker.backends.docker import DockerBackend
from invoker.backends.docker.options import Placement
from invoker.backends.process import ProcessBackend
from invoker.backends.runtimes import LIBRARIES_FOLDER
from support.backend import init, run
from support.docker_engine import containers_of, runtime_image

WAIT_S = 30.0


class Rig:
    """A backend, and what it has left on the machine."""

    def __init__(self, backend: Backend, left: Callable[[], int]) -> None:
        self.backend = backend
        self.left = left

    async def start(
        self, number: int = 1, *, memory_mb: int = 128, on_exit: Callable[[], None] = lambda: None
    ) -> Container:
        return await self.backend.start(
            ContainerId(number), kind="python:3", memory_mb=memory_mb, cap_cores=1.0, on_exit=on_exit
        )

    async def ready(self, code: str, **options: object) -> Container:
        """A container with this code in it."""
        container = await self.start(**options)  # type: ignore[arg-type]
        answer = await container.post("/init", init(code))
        assert isinstance(answer, Answer)
        assert answer.status == 200
        return container


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.docker)])
async def rig(request: pytest.FixtureRequest, run_dir: Path) -> AsyncIterator[Rig]:
    made: Rig
    if request.param == "process":
        process = ProcessBackend(run_dir=run_dir)
        made = Rig(process, lambda: len([n for n in os.listdir(run_dir) if n != LIBRARIES_FOLDER]))
    else:
        cluster = f"t{secrets.token_hex(4)}"
        docker = DockerBackend(placement=Placement(cluster=cluster, vm_id="v1"), images=(runtime_image(),))
        made = Rig(docker, lambda: len(containers_of(cluster)))
    await made.backend.open()
    yield made
    await made.backend.close()
    assert made.left() == 0


async def test_init_and_runs_with_their_logs(rig: Rig) -> None:
    c = await rig.ready("import sys\ndef main(a):\n    print('said')\n    print('err', file=sys.stderr)\n    return a")
    assert "python:3" in rig.backend.kinds
    assert rig.backend.trouble == ""
    for n in range(3):
        c.logs.begin(1)
        answer = await c.post("/run", run(n=n))
        assert isinstance(answer, Answer)
        assert (answer.status, json.loads(answer.body)) == (200, {"n": n})
        assert c.logs.complete or await c.logs.wait(1)
        assert sorted(line[31:] for line in c.logs.take()) == ["stderr: err", "stdout: said"]


async def test_arrays_go_in_and_come_out(rig: Rig) -> None:
    c = await rig.ready("def main(a):\n    return a[::-1]")
    answer = await c.post("/run", json.dumps({"value": [1, "x", None]}).encode())
    assert isinstance(answer, Answer)
    assert json.loads(answer.body) == [None, "x", 1]


async def test_a_large_argument_comes_back_whole(rig: Rig) -> None:
    c = await rig.ready("def main(a):\n    return a")
    text = "x" * 900_000
    answer = await c.post("/run", run(text=text))
    assert isinstance(answer, Answer)
    assert json.loads(answer.body) == {"text": text}


async def test_an_init_that_fails_is_an_answer(rig: Rig) -> None:
    c = await rig.start()
    answer = await c.post("/init", init("this is no Python"))
    assert isinstance(answer, Answer)
    assert answer.status == 502
    assert "error" in json.loads(answer.body)


async def test_a_crash_breaks_the_connection_and_is_told_once(rig: Rig) -> None:
    exits: list[int] = []
    c = await rig.ready("import os\ndef main(a):\n    os._exit(3)", on_exit=lambda: exits.append(1))
    assert await c.post("/run", run()) == Broken(sent=True)
    assert exits == [1]
    assert await c.post("/run", run()) == Broken(sent=False)
    await c.destroy()
    assert exits == [1]


async def test_an_end_at_rest_is_told(rig: Rig) -> None:
    ended = asyncio.Event()
    code = "import os, threading\ndef main(a):\n    threading.Timer(0.2, lambda: os._exit(1)).start()\n    return {}"
    c = await rig.ready(code, on_exit=ended.set)
    assert isinstance(await c.post("/run", run()), Answer)
    async with asyncio.timeout(WAIT_S):
        await ended.wait()
    assert await c.post("/run", run()) == Broken(sent=False)


async def test_more_memory_than_the_limit_ends_the_container(rig: Rig) -> None:
    c = await rig.ready("def main(a):\n    x = bytearray(1 << 30)\n    return {}", memory_mb=64)
    c.watch(running=True)
    assert await c.post("/run", run()) == Broken(sent=True, out_of_memory=True)


async def test_a_call_without_an_answer_is_given_up(rig: Rig) -> None:
    c = await rig.ready("import time\ndef main(a):\n    time.sleep(60)\n    return {}")
    with pytest.raises(TimeoutError):
        await c.post("/run", run(), timeout_s=0.2)
    await c.destroy()
    assert rig.left() == 0


async def test_cpu_time_counts_the_run_and_its_children(rig: Rig) -> None:
    code = (
        "import time, os\n"
        "def burn():\n"
        "    end = time.process_time() + 0.1\n"
        "    while time.process_time() < end: pass\n"
        "def main(a):\n"
        "    burn()\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        burn(); os._exit(0)\n"
        "    os.waitpid(pid, 0)\n"
        "    return {}"
    )
    c = await rig.ready(code)
    before = c.cpu_s(idle=True)
    await c.post("/run", run())
    after = c.cpu_s()
    assert before is not None
    assert after is not None
    assert 0.18 <= after - before < 1.0
    assert rig.backend.cpu_total_s() >= after
    used_mb = c.memory_used_mb()
    assert used_mb is not None
    assert 4 < used_mb < 128
    assert rig.backend.memory_mb() >= 4
    await c.destroy()
    assert rig.backend.cpu_total_s() >= after, "CPU of past containers stays in the total"
    assert rig.backend.memory_mb() == 0


async def test_a_log_without_end_holds_nothing_back(rig: Rig) -> None:
    code = "def main(a):\n    for n in range(40000):\n        print('x' * 99)\n    return {}"
    c = await rig.ready(code)
    c.logs.begin(1)
    answer = await c.post("/run", run(), timeout_s=WAIT_S)
    assert isinstance(answer, Answer)
    assert c.logs.complete or await c.logs.wait(1)
    lines = c.logs.take()
    assert lines[-1].endswith("Logs were truncated because the total bytes size exceeds the limit of 1048576 bytes.")
    assert sum(len(line) + 1 for line in lines[:-1]) <= 1 << 20


async def test_destroying_twice_and_what_an_action_left_running(rig: Rig) -> None:
    code = (
        "import subprocess\ndef main(a):\n    subprocess.Popen(['sleep', '600'], start_new_session=True)\n    return {}"
    )
    c = await rig.ready(code)
    assert isinstance(await c.post("/run", run()), Answer)
    await asyncio.gather(c.destroy(), c.destroy())
    await c.destroy()
    assert rig.left() == 0


@pytest.mark.parametrize("after_s", [0.0, 0.03, 0.1, 0.2])
async def test_a_cancelled_start_leaves_nothing(rig: Rig, after_s: float) -> None:
    task = asyncio.ensure_future(rig.start())
    await asyncio.sleep(after_s)  # wherever it has come to by then
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    if not task.cancelled():
        await task.result().destroy()
    assert rig.left() == 0


async def test_a_kind_that_is_not_offered(rig: Rig) -> None:
    with pytest.raises(StartError, match=r"kind ruby:3 is not offered here; there are python:3, "):
        await rig.backend.start(ContainerId(1), kind="ruby:3", memory_mb=1, cap_cores=1.0, on_exit=lambda: None)
