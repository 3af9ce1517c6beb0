"""One VM as its users meet it: a process with a socket."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fallow.infra.vmstate import VmState
from fallow.traces.vms import Life
from harvest_agent.agent import EXIT_EVICTED

from .vms import Served, agent, cgroups, events, invoker_command, output_of, still, tagged, until

# In a process of its own, since an ordinary user's has to enter a scope.
MAY_WRITE = """
import sys
from harvest_agent import host
from harvest_agent.cgroup_find import enter_user_scope
from harvest_agent.cgroups import CgroupError, LinuxKernel, remove_host_tree
enter_user_scope(sys.orig_argv)
try:
    tree, _ = host.tree_of("auto", LinuxKernel())
except CgroupError:
    sys.exit(3)
remove_host_tree(tree, LinuxKernel())
"""


def may_write_cgroups() -> bool:
    code = subprocess.run([sys.executable, "-c", MAY_WRITE], check=False).returncode
    assert code in (0, 3)
    return code == 0


async def states(served: Served) -> AsyncIterator[VmState]:
    async with served.session() as session, session.get("http://x/v1/changes") as response:
        async for line in response.content:
            yield VmState.from_json(line)


async def first_state(served: Served, condition: Any) -> VmState:
    async for state in states(served):
        if condition(state):
            return state
    raise AssertionError("the stream of changes ended")


def what_happened(folder: Path) -> list[str]:
    return [e["event"] for e in events(folder / "events.jsonl")]


async def test_a_static_vm_is_served_resized_and_leaves_nothing(short_dir: Path) -> None:
    settings = {"cores": 2.0, "memory_mb": 512, "core_scale": 0.25, "invoker": invoker_command(short_dir, busy=1)}
    async with agent(short_dir, **settings) as vm:
        await until(lambda: len(tagged(short_dir)) == 3)
        status, raw = await vm.call("GET", "/v1/state")
        state = VmState.from_json(json.dumps(raw))
        assert (status, state.vm_id, state.kind, state.cores, state.memory_mb) == (200, "h1", "harvest", 2.0, 512.0)
        assert state.emulated
        assert state.notice_left_s is None
        assert state.core_scale == 0.25
        assert state.cpu_enforced == may_write_cgroups() == bool(cgroups(vm.pid))
        assert state.cpu_enforced == (state.cpu_note == "")
        assert (await vm.call("POST", "/v1/resize", {"cores": 1.5}))[0] == 204
        assert (await vm.call("GET", "/v1/state"))[1]["cores"] == 1.5
        assert await vm.stop() == 0
        assert tagged(short_dir) == {}
        assert cgroups(vm.pid) == []
    assert what_happened(short_dir) == ["joined", "cores", "gone"]
    assert events(short_dir / "events.jsonl")[1] | {"t_unix_ms": 0} == {
        "t_unix_ms": 0,
        "vm": "h1",
        "kind": "harvest",
        "event": "cores",
        "cores": 1.5,
        "by": "operator",
    }


@pytest.mark.parametrize(
    ("path", "body", "status", "what"),
    [
        ("/v1/resize", {"cores": 0}, 400, "above 0"),
        ("/v1/resize", {"cores": "many"}, 400, "must be a number"),
        ("/v1/resize", {}, 400, "must be a number"),
        ("/v1/resize", [], 400, "must be a JSON object"),
        ("/v1/evict", {"notice_s": -1}, 400, "at least 0"),
        ("/v1/withdraw", {}, 409, "no eviction of r1"),
        ("/v1/evict", {}, 409, "never evicted"),
    ],
)
async def test_what_cannot_be_done_is_said(short_dir: Path, path: str, body: Any, status: int, what: str) -> None:
    kind, vm_id = ("regular", "r1") if status == 409 else ("spot", "s1")
    async with agent(short_dir, kind=kind, vm_id=vm_id) as vm:
        code, answer = await vm.call("POST", path, body)
        assert code == status
        assert what in answer["error"]


async def test_a_notice_counts_down_moves_and_is_withdrawn(short_dir: Path) -> None:
    async with agent(short_dir, notice_s=40) as vm:
        assert (await vm.call("POST", "/v1/evict", {}))[0] == 204
        state = await first_state(vm, lambda s: s.notice_left_s is not None and s.notice_left_s < 39.5)
        assert state.notice_left_s is not None
        assert (await vm.call("POST", "/v1/evict", {"notice_s": 90}))[0] == 204
        moved = await first_state(vm, lambda s: s.notice_left_s is not None)
        assert moved.notice_left_s is not None
        assert 40 < moved.notice_left_s <= 90
        assert (await vm.call("POST", "/v1/withdraw"))[0] == 204
        assert (await vm.call("GET", "/v1/state"))[1]["notice_left_s"] is None
    assert what_happened(short_dir) == ["joined", "notice", "notice", "withdrawn", "gone"]


async def test_an_evicted_vm_falls_silent_and_then_nothing_of_it_is_left(short_dir: Path) -> None:
    async with agent(short_dir, invoker=invoker_command(short_dir, busy=2), link_loss_s=600) as vm:
        await until(lambda: len(tagged(short_dir)) == 4)
        await until(lambda: any("escaped" in command for _, command in tagged(short_dir).values()))  # once it is exec'd
        assert (await vm.call("POST", "/v1/evict", {"notice_s": 0}))[0] == 204
        await until(lambda: len(still(short_dir)) == len(tagged(short_dir)))
        assert len(tagged(short_dir)) == 4  # silent, not dead: no peer sees a closed socket
        vm.process.send_signal(signal.SIGTERM)  # cuts the silence short
        assert await vm.ended() == EXIT_EVICTED
        assert tagged(short_dir) == {}
        assert cgroups(vm.pid) == []
    assert what_happened(short_dir) == ["joined", "notice", "evicted", "gone"]


async def test_the_silence_ends_by_itself(short_dir: Path) -> None:
    async with agent(short_dir, invoker=invoker_command(short_dir), link_loss_s=0.2) as vm:
        await until(lambda: len(tagged(short_dir)) == 2)
        await vm.call("POST", "/v1/evict", {"notice_s": 0.1})
        assert await vm.ended() == EXIT_EVICTED
        assert tagged(short_dir) == {}


async def test_the_invoker_that_asks_for_its_own_eviction_gets_the_answer(short_dir: Path) -> None:
    """As an operator's command reaches the agent through it."""
    (short_dir / "i.py").write_text(
        "import os, socket, sys, time\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "s.connect(os.environ['FALLOW_AGENT_SOCKET'])\n"
        "s.sendall(b'POST /v1/evict HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 15\\r\\n\\r\\n{\"notice_s\": 0}')\n"
        "open(sys.argv[1] + '/answer', 'wb').write(s.recv(4096))\n"
        "time.sleep(600)\n"
    )
    async with agent(short_dir, invoker=f"{sys.executable} {short_dir / 'i.py'} {short_dir}", link_loss_s=0) as vm:
        assert await vm.ended() == EXIT_EVICTED
    assert (short_dir / "answer").read_bytes().startswith(b"HTTP/1.1 204")


async def test_signals_again_and_again_leave_nothing_all_the_same(short_dir: Path) -> None:
    """The death of a parent with several threads is such a burst."""
    async with agent(short_dir, invoker=invoker_command(short_dir, busy=2)) as vm:
        await until(lambda: len(tagged(short_dir)) == 4)
        while vm.process.poll() is None:
            vm.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.005)
        assert tagged(short_dir) == {}
        assert cgroups(vm.pid) == []
    assert what_happened(short_dir) == ["joined", "gone"]


async def test_an_evicted_invoker_never_sees_its_containers_end(short_dir: Path) -> None:
    """It would report calls as failed that are to be placed elsewhere."""
    (short_dir / "i.py").write_text(
        "import subprocess, sys\n"
        "containers = [subprocess.Popen(['sleep', '600']) for _ in range(8)]\n"
        "open(sys.argv[1] + '/started', 'w').close()\n"
        "containers[-1].wait()\n"
        "open(sys.argv[1] + '/told', 'w').close()\n"
    )
    async with agent(short_dir, invoker=f"{sys.executable} {short_dir / 'i.py'} {short_dir}", link_loss_s=0) as vm:
        await until((short_dir / "started").exists)
        await vm.call("POST", "/v1/evict", {"notice_s": 0})
        assert await vm.ended() == EXIT_EVICTED
    assert not (short_dir / "told").exists()


async def test_a_dead_invoker_takes_its_containers_along_and_comes_back(short_dir: Path) -> None:
    async with agent(short_dir, invoker=invoker_command(short_dir, busy=1)) as vm:
        before = await until(lambda: found if len(found := tagged(short_dir)) == 3 else None)
        invoker = next(pid for pid, (_, command) in before.items() if "invoker.py" in command)
        os.kill(invoker, signal.SIGKILL)
        after = await until(lambda: found if len(found := set(tagged(short_dir)) - set(before)) == 3 else None)
        assert not after & set(before)
        assert not set(tagged(short_dir)) & set(before)
        assert (await vm.call("GET", "/v1/state"))[0] == 200
    assert what_happened(short_dir) == ["joined", "invoker_restarted", "gone"]


async def test_orphans_are_collected(short_dir: Path) -> None:
    (short_dir / "i.py").write_text(
        "import os, time\nif os.fork() == 0:\n    os.fork(); os._exit(0)\ntime.sleep(600)\n"
    )
    async with agent(short_dir, invoker=f"{sys.executable} {short_dir / 'i.py'}") as vm:
        seen = 0
        async for state in states(vm):
            assert state.vm_id == "h1"
            seen += 1
            if seen == 4:
                break
        children = output_of("ps", "--ppid", str(vm.pid), "-o", "stat=")
        assert [line.strip()[0] for line in children.stdout.splitlines()] == ["S"]


async def test_a_life_is_played_compressed(short_dir: Path) -> None:
    life = Life(vm_id="h1", join_s=30, steps=((0, 3), (40, 5), (60, 2)), end_s=100)  # type: ignore[arg-type]
    (short_dir / "life.json").write_text(json.dumps(life.to_json()))
    settings = {"life": short_dir / "life.json", "vm_speedup": 100, "notice_s": 0.5, "hold": "true", "link_loss_s": 0}
    async with agent(short_dir, **settings) as vm:
        state = VmState.from_json(json.dumps((await vm.call("GET", "/v1/state"))[1]))
        assert (state.cores, state.notice_left_s) == (3.0, None)
        assert (await vm.call("POST", "/v1/play", {}))[0] == 204
        assert await vm.ended() == EXIT_EVICTED
    happened = [(e["event"], e.get("cores"), e.get("by")) for e in events(short_dir / "events.jsonl")]
    assert happened == [
        ("joined", 3.0, None),
        ("cores", 5.0, "trace"),
        ("notice", 5.0, "trace"),
        ("cores", 2.0, "trace"),
        ("evicted", 2.0, "trace"),
        ("gone", None, None),
    ]


async def test_without_a_cgroup_cores_are_served_and_use_is_measured(short_dir: Path) -> None:
    settings = {"cores": 1, "cgroup_root": "none", "invoker": invoker_command(short_dir, busy=1)}
    async with agent(short_dir, **settings) as vm:
        state = await first_state(vm, lambda s: s.cpu_used > 0.01 and s.memory_used_mb > 1)
        assert not state.cpu_enforced
        assert "switched off" in state.cpu_note
        assert cgroups(vm.pid) == []
        assert (await vm.call("POST", "/v1/resize", {"cores": 3}))[0] == 204
        assert (await vm.call("GET", "/v1/state"))[1]["cores"] == 3


async def test_the_cpu_used_follows_the_quota(short_dir: Path) -> None:
    """Two processes that would take two cores, in windows of two quotas: the time used is what the quota allows.

    The windows are the agent's own one-second samples; the median of three keeps a machine's hiccup out.
    """
    assert may_write_cgroups() or os.geteuid() != 0
    if not may_write_cgroups():
        return  # an ordinary user without a delegated cgroup: the test above shows what is said then
    settings = {"cores": 4, "core_scale": 0.1, "invoker": invoker_command(short_dir, busy=2)}
    async with agent(short_dir, **settings) as vm:
        await first_state(vm, lambda s: s.cpu_used > 1)
        wide = await used(vm)
        assert (await vm.call("POST", "/v1/resize", {"cores": 1}))[0] == 204
        await first_state(vm, lambda s: s.cores == 1)
        narrow = await used(vm)
    assert narrow == pytest.approx(1.0, rel=0.1)
    assert wide / narrow > 2.5  # 4 unless others keep this machine's cores from the wide one


async def used(vm: Served) -> float:
    """The median of three samples; the first two are left out, as they may straddle a resize."""
    samples: list[float] = []
    async for state in states(vm):
        samples.append(state.cpu_used)
        if len(samples) == 5:
            return sorted(samples[2:])[1]
    raise AssertionError("the stream of changes ended")


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"kind": "cloud"}, "cloud"),
        ({"cores": 0}, "cores is 0"),
        ({"vm_id": "a/b"}, "a plain name"),
        ({"life": "/nowhere.json"}, "/nowhere.json"),
        ({"socket": "/nowhere/a.sock"}, "/nowhere/a.sock"),
        ({"socket": ""}, "socket is not set"),
        ({"invoker": "/nowhere/invoker"}, "cannot start the invoker"),
        ({"corse": 1}, "unknown setting"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_words(short_dir: Path, settings: dict[str, Any], what: str) -> None:
    given = {"vm_id": "h1", "socket": str(short_dir / "a.sock"), **settings}
    env = {k: v for k, v in os.environ.items() if not k.startswith("FALLOW_")}
    env |= {f"FALLOW_{key.upper()}": str(value) for key, value in given.items()}
    done = subprocess.run([sys.executable, "-m", "harvest_agent"], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode in (1, 2)
    assert what in done.stderr
    assert "Traceback" not in done.stderr
