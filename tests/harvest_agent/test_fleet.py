"""The emulated host as its users meet it: a process with a socket, and real agents below it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from fallow.traces.vms import Life
from harvest_agent import host as machine
from harvest_agent.cgroups import CgroupError
from harvest_agent.fleet_config import parse_config

from .vms import Served, cgroups, events, fleet, invoker_command, output_of, still, tagged, until


async def wait_for(served: Served, condition: Any) -> dict[str, dict[str, Any]]:
    """Polls /v1/vms until the condition holds for its VMs by id."""
    while True:
        _, answer = await served.call("GET", "/v1/vms")
        vms = {vm["id"]: vm for vm in answer["vms"]}
        if condition(vms):
            return vms


def remnants(pid: int) -> list[Path]:
    """What a fleet and all its agents leave where they are killed at once: here made by hand, under its name."""
    try:
        trees = [base / machine.AUTO_NAME.format(pid) for base in machine.bases() if base.parts[-1:] != ("unified",)]
        for tree in trees:
            (tree / "h1").mkdir(parents=True)
    except (CgroupError, PermissionError):
        return []  # an ordinary user, who leaves nothing
    return trees


def up(vms: dict[str, dict[str, Any]]) -> set[str]:
    return {vm_id for vm_id, vm in vms.items() if vm["phase"] == "up" and "cores" in vm}


def life(vm_id: str, join_s: float, *steps: tuple[float, float], end_s: float | None = None) -> dict[str, Any]:
    return Life(vm_id=vm_id, join_s=join_s, steps=steps, end_s=end_s).to_json()  # type: ignore[arg-type]


async def test_vms_start_run_and_leave_nothing(short_dir: Path) -> None:
    vms = [{"id": "r1", "kind": "regular", "cores": 3}, {"id": "h1", "cores": 4, "memory_mb": 300}]
    async with fleet(short_dir, vms=vms, invoker=invoker_command(short_dir, busy=1), core_scale=0.1) as host:
        found = await wait_for(host, lambda vms: up(vms) == {"r1", "h1"})
        assert (found["r1"]["cores"], found["r1"]["kind"], found["h1"]["memory_mb"]) == (3.0, "regular", 300.0)
        await until(lambda: len(tagged(short_dir)) == 6)
        assert (await host.call("POST", "/v1/stop"))[0] == 204
        assert await host.ended() == 0
        assert tagged(short_dir) == {}
        assert cgroups(host.pid) == []
    assert (short_dir / "state/logs/h1.log").exists()
    assert not (short_dir / "run/fleet.sock").exists()


async def test_traces_wait_for_play_and_lives_follow_each_other(short_dir: Path) -> None:
    vms = [
        {"id": "h1", "life": life("h1", 0, (0, 2), (20, 4), end_s=60)},
        {"id": "h1.2", "life": life("h1.2", 70, (0, 5))},
    ]
    config = {"vms": vms, "hold": True, "vm_speedup": 100, "notice_s": 0.2, "invoker": invoker_command(short_dir)}
    async with fleet(short_dir, **config) as host:
        found = await wait_for(host, lambda vms: up(vms) == {"h1"})
        assert found["h1.2"]["phase"] == "planned"
        assert (await host.call("POST", "/v1/play", {}))[0] == 204
        assert (await host.call("POST", "/v1/play", {}))[0] == 204
        found = await wait_for(host, lambda vms: up(vms) == {"h1.2"})
        assert found["h1.2"]["cores"] == 5.0
        found = await wait_for(host, lambda vms: vms["h1"]["phase"] == "ended")
        assert found["h1"]["exit_code"] == 75
    happened = [(e["vm"], e["event"]) for e in events(short_dir / "state/vms/events.jsonl")]
    assert [what for vm, what in happened if vm == "h1"] == ["joined", "cores", "notice", "evicted", "gone"]
    assert [what for vm, what in happened if vm == "h1.2"] == ["joined", "gone"]


async def test_a_target_is_reached_once(short_dir: Path) -> None:
    provider = {"cores": 6, "memory_mb": 256, "max_vms": 3, "delay_s": 0.05}
    vms = [{"id": "r1", "kind": "regular"}, {"id": "h1"}]
    async with fleet(short_dir, vms=vms, provider=provider) as host:
        await wait_for(host, lambda vms: up(vms) == {"r1", "h1"})
        assert await host.call("PUT", "/v1/target", {"vms": 2}) == (200, {"vms": 1, "ordered": 1})
        assert await host.call("PUT", "/v1/target", {"vms": 2}) == (200, {"vms": 1, "ordered": 1})
        found = await wait_for(host, lambda vms: up(vms) == {"r1", "h1", "h2"})
        assert (found["h2"]["cores"], found["h2"]["kind"]) == (6.0, "harvest")
        assert await host.call("PUT", "/v1/target", {"vms": 9}) == (200, {"vms": 2, "ordered": 1})  # max_vms
        await wait_for(host, lambda vms: up(vms) == {"r1", "h1", "h2", "h3"})
        assert (await host.call("PUT", "/v1/target", {"vms": -1}))[0] == 400
        assert (await host.call("PUT", "/v1/target", {"vms": 1.5}))[0] == 400


async def test_without_a_provider_no_vm_can_be_had(short_dir: Path) -> None:
    async with fleet(short_dir, vms=[]) as host:
        status, answer = await host.call("PUT", "/v1/target", {"vms": 1})
        assert status == 409
        assert "no provider" in answer["error"]


async def test_an_agent_that_dies_is_cleaned_up(short_dir: Path) -> None:
    vms = [{"id": "h1"}, {"id": "h2"}]
    async with fleet(short_dir, vms=vms, invoker=invoker_command(short_dir, busy=1), core_scale=0.1) as host:
        await wait_for(host, lambda vms: up(vms) == {"h1", "h2"})
        await until(lambda: len(tagged(short_dir)) == 6)
        agents = output_of("pgrep", "-P", str(host.pid))
        os.kill(min(int(pid) for pid in agents.stdout.split()), signal.SIGKILL)
        found = await wait_for(host, lambda vms: len(up(vms)) == 1)
        dead = ({"h1", "h2"} - up(found)).pop()
        assert found[dead]["exit_code"] == -9
        await until(lambda: len(tagged(short_dir)) == 3)
        await until(lambda: not any((path / dead).exists() for path in cgroups(host.pid)))
        gone = [e for e in events(short_dir / "state/vms/events.jsonl") if e["event"] == "gone"]
        assert [(e["vm"], e["by"], e["code"]) for e in gone] == [(dead, "crash", -9)]


async def test_signals_again_and_again_leave_nothing_all_the_same(short_dir: Path) -> None:
    """Also while a VM is silent, and so frozen. The death of a parent with several threads is such a burst."""
    config = {"vms": [{"id": "h1"}, {"id": "h2"}], "core_scale": 0.1, "link_loss_s": 600, "notice_s": 0}
    async with fleet(short_dir, **config, invoker=invoker_command(short_dir, busy=1)) as host:
        await wait_for(host, lambda vms: up(vms) == {"h1", "h2"})
        await until(lambda: len(tagged(short_dir)) == 6)
        one = Served(host.process, short_dir / "run/h1/agent.sock")
        assert (await one.call("POST", "/v1/evict", {}))[0] == 204
        await until(lambda: len(still(short_dir)) == 3)
        while host.process.poll() is None:
            host.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.005)
        assert tagged(short_dir) == {}
        assert cgroups(host.pid) == []


async def test_a_killed_fleet_takes_its_vms_along(short_dir: Path) -> None:
    config = {"vms": [{"id": "h1"}], "invoker": invoker_command(short_dir, busy=1), "core_scale": 0.1}
    async with fleet(short_dir, **config) as host:
        await wait_for(host, lambda vms: up(vms) == {"h1"})
        await until(lambda: len(tagged(short_dir)) == 3)
        host.process.kill()
        await until(lambda: tagged(short_dir) == {})
        await until(lambda: cgroups(host.pid) == [])  # the last agent out removed them
        left = remnants(host.pid)
    (short_dir / "run/fleet.sock").unlink()  # so that `ready` waits for the successor's
    async with fleet(short_dir, **config) as successor:
        await wait_for(successor, lambda vms: up(vms) == {"h1"})
        assert not any(path.exists() for path in left)
        assert (short_dir / "state/vms/events.jsonl.1").exists()
        second = output_of(sys.executable, "-m", "harvest_agent.fleet", "--config", str(short_dir / "fleet.json"))
        assert second.returncode == 1
        assert f"the fleet with pid {successor.pid} still uses" in second.stderr
        assert up(await wait_for(successor, up)) == {"h1"}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"vms": {}}, "vms must be a list"),
        ({"vms": [{"id": ""}]}, r"vms\[0\].id"),
        ({"vms": [{"id": "h1"}, {"id": "h1"}]}, "'h1' stands there twice"),
        ({"vms": [{"id": "h1", "core": 2}]}, "unknown key 'core'"),
        ({"vms": [{"id": "h1", "cores": 0}]}, "cores is 0"),
        ({"vms": [{"id": "h1", "cores": True}]}, "cores is True"),
        ({"vms": [{"id": "h1", "kind": "cloud"}]}, "cloud"),
        ({"vms": [{"id": "h1", "life": {"steps": []}}]}, "not a VM's life"),
        ({"provider": {"max_vms": 1.5}}, "whole number"),
        ({"env": {"A": 1}}, "env must be"),
        ({"hold": 1}, "hold is 1"),
        ({"backend": "podman"}, "backend is 'podman'"),
        ({"backend": "docker"}, "cluster must say"),
        ({"run_dir": 7}, "run_dir is 7"),
        ({"colour": "red"}, "unknown key 'colour'"),
    ],
)
def test_a_wrong_config_names_the_key(change: dict[str, Any], what: str) -> None:
    good = {"vms": [{"id": "h1", "life": None}], "run_dir": "/tmp/r", "state_dir": "/tmp/s", "provider": None}
    assert parse_config(good).vms[0].id == "h1"
    with pytest.raises(ValueError, match=what):
        parse_config({**good, **change})


def test_a_missing_key_or_file_is_said_in_words(short_dir: Path) -> None:
    with pytest.raises(ValueError, match="run_dir"):
        parse_config({"vms": []})
    (short_dir / "c.json").write_text(json.dumps({"vms": []})[:-1])
    done = output_of(sys.executable, "-m", "harvest_agent.fleet", "--config", str(short_dir / "c.json"))
    assert done.returncode == 1
    assert "c.json cannot be read as JSON" in done.stderr
