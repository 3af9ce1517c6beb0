"""Real runtime processes: the protocol, the ends of a container, what is left behind."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from fallow.core.model import ContainerId
from invoker.backends import procfs
from invoker.backends.base import Answer, Broken, StartError
from invoker.backends.process import ProcessBackend, ProcessContainer


def init(code: str) -> bytes:
    return json.dumps({"value": {"name": "a", "main": "main", "code": code, "binary": False, "env": {}}}).encode()


def run(**args: object) -> bytes:
    return json.dumps({"value": args, "activation_id": "x", "deadline": "1"}).encode()


async def start(backend: ProcessBackend, number: int = 1, memory_mb: int = 256) -> ProcessContainer:
    return await backend.start(
        ContainerId(number), kind="python:3", memory_mb=memory_mb, cap_cores=1.0, on_exit=lambda: None
    )


async def test_init_and_runs_over_one_connection(backend: ProcessBackend) -> None:
    c = await start(backend)
    assert isinstance(answer := await c.post("/init", init("def main(a):\n    print('hi')\n    return a")), Answer)
    assert answer.status == 200
    for n in range(3):
        c.logs.begin(1)
        answer = await c.post("/run", run(n=n))
        assert isinstance(answer, Answer)
        assert (answer.status, json.loads(answer.body)) == (200, {"n": n})
        c.drain_logs()
        assert c.logs.complete, "the runtime ends the log before it answers"
        lines = c.logs.take()
        assert [line[31:] for line in lines] == ["stdout: hi"]
        assert lines[0][29] == " "
        assert lines[0][23] == "Z"


async def test_container_has_a_clean_environment(backend: ProcessBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FALLOW_JOIN_SECRET", "s3cret")
    c = await start(backend)
    await c.post("/init", init("import os\ndef main(a):\n    return {'env': sorted(os.environ)}"))
    answer = await c.post("/run", json.dumps({"value": {}}).encode())
    assert isinstance(answer, Answer)
    assert set(json.loads(answer.body)["env"]) <= {"PATH", "LANG", "HOME", "TMPDIR", "LC_CTYPE", "PWD"}


async def test_crash_is_a_broken_connection_and_calls_on_exit(backend: ProcessBackend) -> None:
    exits: list[int] = []
    c = await backend.start(
        ContainerId(1), kind="python:3", memory_mb=256, cap_cores=1.0, on_exit=lambda: exits.append(1)
    )
    await c.post("/init", init("import os\ndef main(a):\n    os._exit(3)"))
    assert await c.post("/run", run()) == Broken(sent=True)
    assert exits == [1]
    assert await c.post("/run", run()) == Broken(sent=False)


async def test_resident_memory_above_the_limit_ends_the_container(backend: ProcessBackend) -> None:
    c = await start(backend, memory_mb=40)
    # A child process, so that only what is resident in the whole container can tell.
    code = (
        "import subprocess, sys\n"
        "def main(a):\n"
        "    subprocess.run([sys.executable, '-S', '-c', 'x = bytearray(60 << 20); import time; time.sleep(60)'])\n"
        "    return {}"
    )
    await c.post("/init", init(code))
    c.watch(running=True)
    assert await c.post("/run", run()) == Broken(sent=True, out_of_memory=True)


async def test_memory_error_is_told_from_a_crash(backend: ProcessBackend) -> None:
    c = await start(backend, memory_mb=64)
    await c.post("/init", init("def main(a):\n    x = bytearray(1 << 30)\n    return {}"))
    assert await c.post("/run", run()) == Broken(sent=True, out_of_memory=True)


async def test_destroy_ends_what_the_action_left_running(backend: ProcessBackend, run_dir: Path) -> None:
    c = await start(backend)
    # A child in a session of its own, whose parent has ended: out of the process group and the tree.
    code = (
        "import os, subprocess\n"
        "def main(a):\n"
        "    r, w = os.pipe()\n"
        "    if os.fork() == 0:\n"
        "        child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "        os.write(w, str(child.pid).encode())\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "    return {'pid': int(os.read(r, 20))}"
    )
    await c.post("/init", init(code))
    answer = await c.post("/run", run())
    assert isinstance(answer, Answer)
    orphan = json.loads(answer.body)["pid"]
    assert orphan in procfs.members(c.pid, str(run_dir / "c1"), [orphan])
    await c.destroy()
    await c.destroy()
    assert procfs.members(c.pid, str(run_dir / "c1"), procfs.all_pids()) == []
    assert not (run_dir / "c1").exists()


async def test_cpu_time_counts_the_run_and_its_children(backend: ProcessBackend) -> None:
    c = await start(backend)
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
    await c.post("/init", init(code))
    before = c.cpu_s()
    await c.post("/run", run())
    after = c.cpu_s()
    assert before is not None
    assert after is not None
    assert 0.18 <= after - before < 1.0
    assert backend.cpu_total_s() >= after
    await c.destroy()
    assert backend.cpu_total_s() >= after, "CPU of past containers stays in the total"


async def test_start_says_why_it_failed(run_dir: Path) -> None:
    backend = ProcessBackend(run_dir=run_dir)
    with pytest.raises(StartError, match="kind nodejs:20 is not offered"):
        await backend.start(ContainerId(1), kind="nodejs:20", memory_mb=1, cap_cores=1.0, on_exit=lambda: None)
    backend._server = run_dir / "nothing.py"
    with pytest.raises(StartError, match=r"exit code 2: .*nothing\.py"):
        await start(backend)
    deep = ProcessBackend(run_dir=run_dir / ("x" * 100))
    with pytest.raises(StartError, match="too long for a unix socket"):
        await start(deep)
    await backend.close()
    await deep.close()


async def test_cancelled_start_leaves_nothing(backend: ProcessBackend, run_dir: Path) -> None:
    task = asyncio.ensure_future(start(backend))
    await asyncio.sleep(0)  # spawned, not connected
    assert (run_dir / "c1").exists()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not (run_dir / "c1").exists()
    assert procfs.members(-1, str(run_dir / "c1"), procfs.all_pids()) == []


async def test_containers_enter_every_cgroup(run_dir: Path) -> None:
    groups = (run_dir / "cpu", run_dir / "memory")  # the kernel's files, as far as this process writes them
    for group in groups:
        group.mkdir()
    backend = ProcessBackend(run_dir=run_dir, cgroups=groups)
    c = await start(backend)
    assert [(group / "cgroup.procs").read_text() for group in groups] == [str(c.pid)] * 2
    await backend.close()


async def test_sweep_ends_what_a_killed_invoker_left(run_dir: Path) -> None:
    first = ProcessBackend(run_dir=run_dir)
    c = await start(first)
    second = ProcessBackend(run_dir=run_dir)
    assert second.sweep() == 1
    assert os.listdir(run_dir) == []
    assert await c.post("/run", run()) in (Broken(sent=True), Broken(sent=False))
    await first.close()
    await second.close()
