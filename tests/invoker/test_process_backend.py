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
from invoker.backends.process import ProcessBackend
from invoker.backends.runtimes import LIBRARIES_FOLDER
from support.backend import init, run, start


async def test_init_and_runs_over_one_connection(backend: ProcessBackend) -> None:
    c = await start(backend)
    assert isinstance(answer := await c.post("/init", init("def main(a):\n    print('hi')\n    return a")), Answer)
    assert answer.status == 200
    for n in range(3):
        c.logs.begin(1)
        answer = await c.post("/run", run(n=n))
        assert isinstance(answer, Answer)
        assert (answer.status, json.loads(answer.body)) == (200, {"n": n})
        assert c.logs.complete, "with the answer all of the log is there"
        lines = c.logs.take()
        assert [line[31:] for line in lines] == ["stdout: hi"]
        assert lines[0][29] == " "
        assert lines[0][23] == "Z"


async def test_what_children_and_unfinished_lines_say_is_in_the_log_with_the_answer(backend: ProcessBackend) -> None:
    code = (
        "import fcntl, os\ndef main(a):\n    print('part', end='')\n    os.system('echo child >&2')\n"
        "    fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 18)\n    os.write(1, b'x' * a['n'])\n    return {}"
    )
    c = await start(backend)
    await c.post("/init", init(code))
    for size in (200_000, 0):
        c.logs.begin(1)
        assert isinstance(await c.post("/run", run(n=size)), Answer)
        assert c.logs.complete
        lines = [line[31:] for line in c.logs.take()]
        assert "stderr: child" in lines
        said = "".join(line.removeprefix("stdout: ") for line in lines if line != "stderr: child")
        assert (said.count("x"), said.count("part"), len(said)) == (size, 1, size + 4)


async def test_container_has_a_clean_environment(backend: ProcessBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FALLOW_JOIN_SECRET", "s3cret")
    c = await start(backend)
    await c.post("/init", init("import os\ndef main(a):\n    return {'env': sorted(os.environ)}"))
    answer = await c.post("/run", json.dumps({"value": {}}).encode())
    assert isinstance(answer, Answer)
    assert set(json.loads(answer.body)["env"]) <= {"PATH", "LANG", "HOME", "TMPDIR", "LC_CTYPE", "PWD"}


async def test_only_the_libs_kind_sees_the_libraries_and_nothing_else_of_the_host(backend: ProcessBackend) -> None:
    code = (
        "import importlib.util, os\n"
        "def main(a):\n"
        "    if not importlib.util.find_spec('numpy'):\n"
        "        return {'aiohttp': bool(importlib.util.find_spec('aiohttp'))}\n"
        "    import av, chameleon, numpy, pyaes\n"
        "    from PIL import Image\n"
        "    product = float((numpy.ones((300, 300)) @ numpy.ones((300, 300))).sum())\n"
        "    threads = len(os.listdir('/proc/self/task'))\n"
        "    image = Image.fromarray(numpy.arange(3 * 64 * 64, dtype='uint8').reshape(64, 64, 3))\n"
        "    with av.open('a.mkv', 'w') as out:\n"
        "        stream = out.add_stream('mpeg4', 25)\n"
        "        stream.width = stream.height = 64\n"
        "        for packet in [*stream.encode(av.VideoFrame.from_image(image)), *stream.encode(None)]:\n"
        "            out.mux(packet)\n"
        "    with av.open('a.mkv') as film:\n"
        "        frames = sum(1 for _ in film.decode(video=0))\n"
        "    sealed = pyaes.AESModeOfOperationCTR(b'k' * 16).encrypt(b'seal')\n"
        "    return {'aiohttp': bool(importlib.util.find_spec('aiohttp')),\n"
        "            'product': product, 'frames': frames, 'threads': threads,\n"
        "            'page': chameleon.PageTemplate('<b>${x}</b>')(x=1),\n"
        "            'opened': pyaes.AESModeOfOperationCTR(b'k' * 16).decrypt(sealed).decode()}"
    )
    seen = []
    for number, kind in enumerate(("python:3-libs", "python:3")):
        c = await start(backend, number, kind=kind)
        assert await c.post("/init", init(code)) == Answer(status=200, body=b'{"ok":true}', total_bytes=11)
        answer = await c.post("/run", run())
        assert isinstance(answer, Answer)
        seen.append(json.loads(answer.body))
    assert seen[0] == {
        "aiohttp": False, "product": 300.0**3, "frames": 1, "page": "<b>1</b>", "opened": "seal", "threads": 1,
    }  # fmt: skip
    assert seen[1] == {"aiohttp": False}


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


async def test_start_says_why_it_failed(backend: ProcessBackend, run_dir: Path) -> None:
    with pytest.raises(StartError, match=r"kind ruby:3 is not offered"):
        await backend.start(ContainerId(1), kind="ruby:3", memory_mb=1, cap_cores=1.0, on_exit=lambda: None)
    (run_dir / "c2").mkdir()
    with pytest.raises(StartError, match="File exists"):
        await start(backend, 2)
    with pytest.raises(StartError, match=r"exit code 1: .*OverflowError"):
        await start(backend, 3, memory_mb=1 << 62)  # no limit can be so large
    assert os.listdir(run_dir) == [LIBRARIES_FOLDER]
    c = await start(backend, 4)
    assert isinstance(await c.post("/init", init("def main(a):\n    return a")), Answer)


async def test_open_says_why_it_failed(run_dir: Path) -> None:
    (run_dir / "file").touch()
    backend = ProcessBackend(run_dir=run_dir / "file")
    with pytest.raises(StartError, match=r"cannot make ready .*file"):
        await backend.open()
    await backend.close()
    backend = ProcessBackend(run_dir=run_dir, cgroups=(run_dir / "none",))
    with pytest.raises(StartError, match=r"cannot enter the VM's cgroup: .*none"):
        await backend.open()
    await backend.close()
    backend = ProcessBackend(run_dir=run_dir)
    backend._script = run_dir / "nothing.py"
    with pytest.raises(StartError, match="ended at once"):
        await backend.open()
    with pytest.raises(StartError, match="is being started again"):
        await start(backend)
    await backend.close()


async def test_a_container_is_as_one_that_was_started_by_itself(backend: ProcessBackend, run_dir: Path) -> None:
    for number in (1, 2):
        c = await start(backend, number)
        code = (
            "import os, sys, resource\n"
            "def main(a):\n"
            "    names = [f'/proc/self/fd/{fd}' for fd in os.listdir('/proc/self/fd')]\n"
            "    fds = [os.readlink(name) for name in names if os.path.islink(name)]\n"
            "    return {'session': os.getsid(0), 'pid': os.getpid(), 'group': os.getpgrp(), 'cwd': os.getcwd(),\n"
            "            'kinds': sorted(v.split(':')[0] for v in fds), 'stdin': os.readlink('/proc/self/fd/0'),\n"
            "            'nice': os.getpriority(os.PRIO_PROCESS, 0),\n"
            "            'data': resource.getrlimit(resource.RLIMIT_DATA)[0],\n"
            "            'oom': open('/proc/self/oom_score_adj').read(), 'umask': os.umask(0),\n"
            "            'own': [m for m in sys.modules if m.startswith('functions')],\n"
            "            'shell': os.popen('ls -l /proc/self/fd | grep -c socket; echo $HOME').read().split()}"
        )
        await c.post("/init", init(code))
        answer = await c.post("/run", run())
        assert isinstance(answer, Answer)
        seen = json.loads(answer.body)
        assert seen["session"] == seen["pid"] == seen["group"] == c.pid
        assert seen["cwd"].startswith(str(run_dir / f"c{number}"))
        # Its connection; the null device as stdin; the pipe that stdin was, out and err, and the log's copies of them.
        assert seen["kinds"] == ["/dev/null"] * 2 + ["pipe"] * 5 + ["socket"]
        assert seen["stdin"] == "/dev/null"
        assert (seen["nice"], seen["oom"].strip(), seen["umask"], seen["own"]) == (
            max(5, os.getpriority(os.PRIO_PROCESS, 0)),
            "500",
            0o077,
            [],
        )
        assert seen["data"] == (256 + 64) << 20
        assert seen["shell"] == ["0", str(run_dir / f"c{number}")], "what it starts inherits no connection"


async def test_children_that_only_forked_are_found(backend: ProcessBackend, run_dir: Path) -> None:
    """A daemon that never ran another program: out of the session, adopted away, and it looks like the spawner."""
    c = await start(backend)
    code = (
        "import os, time\n"
        "def main(a):\n"
        "    r, w = os.pipe()\n"
        "    if os.fork() == 0:\n"
        "        if os.fork() == 0:\n"
        "            os.setsid()\n"
        "            os.write(w, str(os.getpid()).encode())\n"
        "            time.sleep(600)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "    return {'pid': int(os.read(r, 20))}"
    )
    await c.post("/init", init(code))
    answer = await c.post("/run", run())
    assert isinstance(answer, Answer)
    daemon = json.loads(answer.body)["pid"]
    home = str(run_dir / "c1")
    assert os.getsid(daemon) == daemon
    assert procfs.members(c.pid, home, [daemon]) == [daemon]
    await c.destroy()
    assert procfs.members(-1, home, procfs.all_pids()) == []


async def test_a_lost_spawner_takes_its_containers_and_is_replaced(backend: ProcessBackend, run_dir: Path) -> None:
    supervisor = asyncio.ensure_future(backend.supervise())
    exits: list[int] = []
    gone = asyncio.Event()

    def ended() -> None:
        exits.append(1)
        gone.set()

    busy = await backend.start(ContainerId(1), kind="python:3", memory_mb=256, cap_cores=1.0, on_exit=ended)
    await busy.post("/init", init("import time\ndef main(a):\n    time.sleep(600)"))
    running = asyncio.ensure_future(busy.post("/run", run()))
    lost = backend._spawner
    assert lost is not None
    os.kill(lost.pid, 9)
    await gone.wait()
    assert await running == Broken(sent=True)
    with pytest.raises(StartError, match="started again"):
        await start(backend, 2)
    async with asyncio.timeout(20):
        while backend._spawner in (None, lost):
            await asyncio.sleep(0.01)
    c = await start(backend, 3)
    assert isinstance(await c.post("/init", init("def main(a):\n    return a")), Answer)
    await busy.destroy()
    assert procfs.members(busy.pid, str(run_dir / "c1"), procfs.all_pids()) == []
    assert exits == [1]
    supervisor.cancel()


async def test_cancelled_start_leaves_nothing(backend: ProcessBackend, run_dir: Path) -> None:
    task = asyncio.ensure_future(start(backend))
    await asyncio.sleep(0)  # spawned, not connected
    assert (run_dir / "c1").exists()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not (run_dir / "c1").exists()
    assert procfs.members(-1, str(run_dir / "c1"), procfs.all_pids()) == []


async def test_containers_are_in_every_cgroup(run_dir: Path) -> None:
    groups = (run_dir / "cpu", run_dir / "memory")  # the kernel's files, as far as this process writes them
    for group in groups:
        group.mkdir()
    backend = ProcessBackend(run_dir=run_dir, cgroups=groups)
    await backend.open()
    spawner = backend._spawner
    assert spawner is not None
    assert [(group / "cgroup.procs").read_text() for group in groups] == [str(spawner.pid)] * 2
    for number, kind in enumerate(("python:3", backend.kinds[-1])):
        c = await start(backend, number, kind=kind)
        assert c.pid in procfs.tree(spawner.pid), "so it has inherited what the spawner entered"
    await backend.close()


async def test_sweep_ends_what_a_killed_invoker_left(run_dir: Path) -> None:
    first = ProcessBackend(run_dir=run_dir)
    await first.open()
    c = await start(first)
    second = ProcessBackend(run_dir=run_dir)
    assert second.sweep() == 1
    assert os.listdir(run_dir) == [LIBRARIES_FOLDER]
    assert await c.post("/run", run()) in (Broken(sent=True), Broken(sent=False))
    await first.close()
    await second.close()
