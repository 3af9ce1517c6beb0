"""Real Node.js processes behind the backend: what is not as in a Python container, or might not be."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from fallow.core.model import ContainerId
from invoker.backends import procfs
from invoker.backends.base import Answer, Broken, StartError
from invoker.backends.process import ProcessBackend
from support.backend import init, run, start


@pytest.fixture
def nodejs(backend: ProcessBackend) -> str:
    [kind] = [kind for kind in backend.kinds if kind.startswith("nodejs:")]
    return kind


async def test_a_container_runs_and_logs(backend: ProcessBackend, nodejs: str) -> None:
    c = await start(backend, kind=nodejs)
    code = (
        "const main = async ({ n }) => {\n  console.log('hi'); console.error('part'.repeat(n))\n"
        "  require('child_process').execSync('echo child', { stdio: 'inherit' })\n  return [n]\n}"
    )
    assert await c.post("/init", init(code)) == Answer(status=200, body=b'{"OK":true}', total_bytes=11)
    for n in (1, 50_000, 2):
        c.logs.begin(1)
        answer = await c.post("/run", run(n=n))
        assert isinstance(answer, Answer)
        assert (answer.status, json.loads(answer.body)) == (200, [n])
        assert c.logs.complete
        lines = [line[31:] for line in c.logs.take()]
        assert [line for line in lines if line.startswith("stdout")] == ["stdout: hi", "stdout: child"]
        assert "".join(line.removeprefix("stderr: ") for line in lines if line.startswith("stderr")) == "part" * n
    assert c.cpu_s() == backend.cpu_total_s() > 0.01
    assert backend.memory_mb() > 20


async def test_a_container_is_as_one_that_was_started_by_itself(
    backend: ProcessBackend, nodejs: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NODE_OPTIONS", "--require=/nowhere")
    monkeypatch.setenv("FALLOW_JOIN_SECRET", "s3cret")
    c = await start(backend, kind=nodejs)
    code = (
        "const fs = require('fs'), shell = require('child_process').execSync\n"
        "function main() {\n"
        "  const fds = fs.readdirSync('/proc/self/fd').map((fd) => {\n"
        "    try { return fs.readlinkSync('/proc/self/fd/' + fd).split(':')[0] } catch { return 'gone' } })\n"
        "  const stat = fs.readFileSync('/proc/self/stat', 'latin1').split(') ')[1].split(' ')\n"
        "  return { fds, pid: process.pid, group: +stat[2], session: +stat[3], nice: +stat[16], cwd: process.cwd(),\n"
        "    stdin: fs.readFileSync(0, 'utf8'), env: Object.keys(process.env), argv: process.argv.length,\n"
        "    data: /Max data size +(\\d+)/.exec(fs.readFileSync('/proc/self/limits', 'utf8'))[1],\n"
        "    oom: +fs.readFileSync('/proc/self/oom_score_adj', 'utf8'), umask: process.umask(),\n"
        "    shell: String(shell('ls -l /proc/self/fd | grep -c socket; echo $HOME', { stdio: [0, 'pipe', 2] })) }\n}"
    )
    await c.post("/init", init(code.replace("grep -c socket;", "grep -c socket || true;")))
    answer = await c.post("/run", json.dumps({"value": {}}).encode())
    assert isinstance(answer, Answer)
    seen = json.loads(answer.body)
    assert seen["session"] == seen["pid"] == seen["group"] == c.pid
    assert seen["cwd"] == str(run_dir / "c1" / "action")
    assert set(seen["env"]) <= {"PATH", "LANG", "HOME", "TMPDIR"}
    assert seen["fds"].count("socket") == 1, "its connection, and not the spawner's"
    assert (seen["stdin"], seen["argv"], seen["umask"], seen["oom"]) == ("", 2, 0o077, 500)
    assert seen["nice"] == max(5, os.getpriority(os.PRIO_PROCESS, 0))
    assert int(seen["data"]) == (256 + backend._runtimes[nodejs].margin_mb) << 20
    assert seen["shell"].split() == ["0", str(run_dir / "c1")], "what it starts inherits no connection"


@pytest.mark.parametrize(
    ("body", "memory_mb"),
    [
        ("const all = []; for (;;) all.push(new Array(1000).fill(Math.random()))", 128),
        ("const all = []; for (;;) all.push(Buffer.alloc(1 << 20, 1))", 128),
        ("return { n: Buffer.alloc(600 << 20).length }", 256),
    ],
    ids=["heap", "buffers", "one buffer"],
)
async def test_a_container_without_memory_says_so(
    backend: ProcessBackend, nodejs: str, body: str, memory_mb: int
) -> None:
    c = await start(backend, kind=nodejs, memory_mb=memory_mb)
    await c.post("/init", init(f"function main() {{ {body} }}"))
    c.watch(running=True)
    assert await c.post("/run", run()) == Broken(sent=True, out_of_memory=True)


@pytest.mark.parametrize("statement", ["process.exit(3)", "process.abort()", "process.kill(process.pid, 'SIGKILL')"])
async def test_other_ends_are_not_for_memory(backend: ProcessBackend, nodejs: str, statement: str) -> None:
    exits: list[int] = []
    c = await backend.start(ContainerId(1), kind=nodejs, memory_mb=128, cap_cores=1.0, on_exit=lambda: exits.append(1))
    await c.post("/init", init(f"function main() {{ {statement} }}"))
    assert await c.post("/run", run()) == Broken(sent=True)
    assert exits == [1]


async def test_a_container_that_makes_garbage_stays_within_its_memory(backend: ProcessBackend, nodejs: str) -> None:
    c = await start(backend, kind=nodejs, memory_mb=128)
    code = (
        "const keep = Array.from({ length: 20 }, () => new Array(100_000).fill(1))\n"
        "function main() {\n  let n = 0\n"
        "  while (n < 3e6) n += Array.from({ length: 100 }, (_, i) => new Array(100).fill(i)).length\n"
        "  return { n, kept: keep.length }\n}"
    )
    await c.post("/init", init(code))
    c.watch(running=True)
    answer = await c.post("/run", run())
    assert isinstance(answer, Answer)
    assert json.loads(answer.body) == {"n": 3_000_000, "kept": 20}


async def test_destroy_ends_what_an_action_left_running(backend: ProcessBackend, nodejs: str, run_dir: Path) -> None:
    c = await start(backend, kind=nodejs)
    code = (
        "function main() {\n  const child = require('child_process').spawn('sleep', ['600'], { detached: true })\n"
        "  setInterval(() => {}, 1000); return { pid: child.pid }\n}"
    )
    await c.post("/init", init(code))
    answer = await c.post("/run", run())
    assert isinstance(answer, Answer)
    assert os.getsid(json.loads(answer.body)["pid"]) != c.pid
    await c.destroy()
    assert procfs.members(c.pid, str(run_dir / "c1"), procfs.all_pids()) == []


async def test_a_container_ends_with_the_pipe_at_its_standard_input(backend: ProcessBackend, nodejs: str) -> None:
    """As when the invoker is killed: the kernel closes its end. A busy loop cannot look for that itself."""
    gone = asyncio.Event()
    c = await backend.start(ContainerId(1), kind=nodejs, memory_mb=128, cap_cores=1.0, on_exit=gone.set)
    await c.post("/init", init("function main() { for (;;); }"))
    running = asyncio.ensure_future(c.post("/run", run()))
    await asyncio.sleep(0)
    os.close(c._stdin_fd)
    c._stdin_fd = -1
    async with asyncio.timeout(20):
        await gone.wait()
    assert c._exit_code == -signal.SIGKILL
    assert await running == Broken(sent=True)


async def test_a_nodejs_that_does_not_start_says_why(backend: ProcessBackend, nodejs: str) -> None:
    real = backend._runtimes[nodejs]
    for program, why in (
        (("/nowhere/node",), r"exit code 1: .*FileNotFoundError"),
        (("/bin/sh", "-c", "echo no such library >&2; exit 127"), "exit code 127: .*no such library"),
    ):
        backend._runtimes[nodejs] = replace(real, program=lambda _, program=program: program)
        with pytest.raises(StartError, match=why):
            await start(backend, kind=nodejs)
