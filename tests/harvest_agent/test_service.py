"""A VM as a service: one process, many lives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from fallow.core.model import VmId
from fallow.traces.vms import Life
from harvest_agent.service.ids import VmIds
from harvest_agent.service.run import configure

from .vms import Served, events, invoker_command, output_of, service, tagged, until


def life(join_s: float, *steps: tuple[float, float], end_s: float | None = None) -> dict[str, Any]:
    return Life(vm_id=VmId("any"), join_s=join_s, steps=steps, end_s=end_s).to_json()


def plan(folder: Path, **raw: Any) -> Path:
    path = folder / "plan.json"
    path.write_text(json.dumps(raw))
    return path


def happened(folder: Path) -> list[tuple[str, str]]:
    return [(e["vm"], e["event"]) for e in events(folder / "events.jsonl")]


def messages(folder: Path) -> list[tuple[str, str]]:
    """(what, of which VM) the log says, where it says it of a VM."""
    lines = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    return [(line["event"], line["vm"]) for line in lines if "vm" in line]


def health(folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run in another process, as a container engine does it."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("FALLOW_")}
    argv = [sys.executable, "-m", "harvest_agent.service", "--health"]
    return subprocess.run(
        argv,
        env={**inherited, "FALLOW_SOCKET": str(folder / "a.sock"), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def state(served: Served, folder: Path) -> dict[str, Any]:
    agent = Served(served.process, folder / "a.sock")
    await agent.ready()
    _, answer = await agent.call("GET", "/v1/state")
    return dict(answer)


async def test_lives_follow_each_other_under_new_ids(short_dir: Path) -> None:
    lives = [life(0, (0, 4), (20, 2), (40, 3), end_s=100), life(150, (0, 6), end_s=80)]
    path = plan(short_dir, vm_id="h2", memory_mb=300, lives=lives, repeat_s=250)
    settings = {"lives": path, "vm_speedup": 100, "notice_s": 0.2, "invoker": invoker_command(short_dir)}
    async with service(short_dir, **settings) as served:
        await until(lambda: ("h2.3", "joined") in happened(short_dir))
        assert await served.stop() == 0
        assert tagged(short_dir) == {}
    assert [e for e in happened(short_dir) if e[0] == "h2"] == [
        ("h2", "joined"),
        ("h2", "cores"),
        ("h2", "cores"),
        ("h2", "notice"),
        ("h2", "evicted"),
        ("h2", "gone"),
    ]
    assert [what for vm, what in happened(short_dir) if vm == "h2.2"] == ["joined", "notice", "evicted", "gone"]
    said = messages(short_dir)
    assert [what for what, _ in said][:8] == [
        "VM joined",
        "VM shrinks",
        "VM grows",
        "VM is to be evicted",
        "VM evicted",
        "VM gone",
        "VM is away",
        "VM returns",
    ]


async def test_a_static_vm_that_is_evicted_comes_back(short_dir: Path) -> None:
    settings = {"vm_id": "h1", "cores": 3, "lives": plan(short_dir, vm_id="other", cores=8, memory_mb=300)}
    async with service(short_dir, **settings) as served:
        found = await state(served, short_dir)
        # What the environment says counts more than the plan, and that more than the defaults.
        assert (found["vm_id"], found["cores"], found["memory_mb"], found["kind"]) == ("h1", 3.0, 300.0, "harvest")
        agent = Served(served.process, short_dir / "a.sock")
        assert (await agent.call("POST", "/v1/evict", {"notice_s": 0}))[0] == 204
        await until(lambda: ("h1.2", "joined") in happened(short_dir))
        assert (await state(served, short_dir))["vm_id"] == "h1.2"


async def test_a_service_that_was_killed_goes_on_with_a_new_id(short_dir: Path) -> None:
    for vm_id, orderly in (("r1", False), ("r1.2", True), ("r1", True)):
        async with service(short_dir, vm_id="r1", kind="regular") as served:
            assert (await state(served, short_dir))["vm_id"] == vm_id
            if orderly:
                assert await served.stop() == 0
            else:
                served.process.kill()


async def test_a_service_is_healthy_while_its_vm_is_away(short_dir: Path) -> None:
    assert health(short_dir).returncode == 1
    path = plan(short_dir, lives=[life(0, (0, 4), end_s=1), life(5000, (0, 4))])
    async with service(short_dir, vm_id="h1", lives=path, notice_s=0) as served:
        await until(lambda: ("h1", "gone") in happened(short_dir))
        await until(lambda: ("VM is away", "h1") in messages(short_dir))
        away = health(short_dir)
        assert (away.returncode, away.stdout) == (0, "the VM is away, between two lives\n")
        served.process.send_signal(signal.SIGTERM)  # in the middle of its absence
        assert await served.ended() == 0
    gone = health(short_dir)
    assert gone.returncode == 1
    assert "not served" in gone.stdout
    assert "Traceback" not in gone.stderr


async def test_a_service_is_healthy_while_its_vm_is_served(short_dir: Path) -> None:
    async with service(short_dir, vm_id="h1", cores=2.5) as served:
        await state(served, short_dir)
        served_too = health(short_dir)
        assert (served_too.returncode, served_too.stdout) == (0, "h1 has 2.5 cores\n")


async def test_the_name_of_the_host_is_the_default_id(short_dir: Path) -> None:
    async with service(short_dir) as served:
        assert (await state(served, short_dir))["vm_id"] == os.uname().nodename


def test_a_vm_of_no_named_size_has_what_the_machine_has() -> None:
    settings, _ = configure({"FALLOW_CORES": "0", "FALLOW_MEMORY_MB": "0"})
    machine_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
    assert settings.cores == len(os.sched_getaffinity(0))
    assert 0.79 * machine_mb < settings.memory_mb <= 0.8 * machine_mb


async def test_a_plan_that_is_wrong_ends_it_in_words(short_dir: Path) -> None:
    env = {"FALLOW_LIVES": str(plan(short_dir, lives=[{}])), "FALLOW_SOCKET": str(short_dir / "a.sock")}
    done = output_of("env", *(f"{k}={v}" for k, v in env.items()), sys.executable, "-m", "harvest_agent.service")
    assert done.returncode == 2
    assert "not a VM's life" in done.stderr
    assert "Traceback" not in done.stderr


def test_ids_count_on_until_they_may_be_forgotten(tmp_path: Path) -> None:
    assert [VmIds(tmp_path / "leases", "h2").next() for _ in range(3)] == ["h2", "h2.2", "h2.3"]
    assert VmIds(tmp_path / "leases", "h3").next() == "h3"
    VmIds(tmp_path / "leases", "h2").forget()
    assert VmIds(tmp_path / "leases", "h2").next() == "h2"
