"""`fallow up` as a user meets it: the whole path of a call, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from support.cluster import cluster_up, processes_with

FALLOW = str(Path(sys.executable).parent / "fallow")


async def run(*args: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        FALLOW,
        *args,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def list_tmp() -> list[Path]:
    return list(Path("/tmp").glob("fallow-*"))


def cgroups_named(text: str) -> list[str]:
    return [d for d, _, _ in os.walk("/sys/fs/cgroup") if text in d]


async def test_a_blocking_echo_and_its_record(short_dir: Path) -> None:
    async with cluster_up(short_dir, "--vms", "1") as up:
        await up.deploy("echo")
        for warm in (False, True):
            status, body = await up.invoke("echo", {"text": "hé", "n": 1})
            assert status == 200
            assert body["response"] == {
                "status": "success",
                "success": True,
                "result": {"text": "hé", "n": 1},
                "size": body["response"]["size"],
            }
            assert ("initTime" in {a["key"] for a in body["annotations"]}) is not warm
            record = await up.record(body["activationId"])
            assert record["response"] == body["response"]
            assert record["end"] >= record["start"] > 0


async def test_nothing_is_left_behind(short_dir: Path) -> None:
    async with cluster_up(short_dir, "--vms", "2") as up:
        run_dir = next(
            p for p in (up.state_dir / "cluster.json").read_text().split('"') if p.startswith("/tmp/fallow-")
        )
        await up.deploy("sleep")
        accepted = [await up.invoke("sleep", {"seconds": 60}, blocking=False) for _ in range(3)]
        assert {status for status, _ in accepted} == {202}

        async def running() -> bool:
            return sum(vm["running"] for vm in (await up.vms()).values()) == 3

        await up.until(running)
        assert processes_with(run_dir)
    assert up.process.returncode == 0
    assert processes_with(run_dir) == []
    assert run_dir not in [str(p) for p in list_tmp()]
    assert cgroups_named(Path(run_dir).name) == []
    assert not (up.state_dir / "cluster.json").exists()


async def test_a_killed_up_takes_everything_with_it(short_dir: Path) -> None:
    async with cluster_up(short_dir, "--vms", "1") as up:
        run_dir = next(
            p for p in (up.state_dir / "cluster.json").read_text().split('"') if p.startswith("/tmp/fallow-")
        )
        await up.deploy("echo")
        await up.invoke("echo", {})
        up.process.send_signal(signal.SIGKILL)
        await up.process.wait()
        async with asyncio.timeout(20):
            while processes_with(run_dir):
                await asyncio.sleep(0.1)


async def test_accepted_calls_survive_a_restart(short_dir: Path) -> None:
    async with cluster_up(short_dir, "--vms", "1") as up:
        await up.deploy("sleep")
        _, body = await up.invoke("sleep", {"seconds": 2}, blocking=False)
        up.process.send_signal(signal.SIGKILL)
        await up.process.wait()
        run_dir = next(
            p for p in (up.state_dir / "cluster.json").read_text().split('"') if p.startswith("/tmp/fallow-")
        )
        async with asyncio.timeout(20):
            while processes_with(run_dir):
                await asyncio.sleep(0.1)
    async with cluster_up(short_dir, "--vms", "1") as up:
        record = await up.record(body["activationId"], within_s=30)
        assert record["response"]["success"]


async def test_the_client_commands_against_a_running_cluster(short_dir: Path) -> None:
    async with cluster_up(short_dir, "--vms", "1") as up:
        env = {"FALLOW_STATE_DIR": str(up.state_dir)}
        source = Path(__file__).parents[2] / "functions" / "actions" / "echo.py"
        assert (await run("action", "create", "echo", str(source), env=env))[0] == 0
        code, out, _ = await run("action", "invoke", "echo", "-p", "a", "1", "-r", env=env)
        assert (code, out.split()) == (0, ["{", '"a":', "1", "}"])
        code, _, err = await run("action", "create", "echo", str(source), env=env)
        assert code == 1
        assert "already exists" in err
        code, out, _ = await run("activation", "list", "--json", env=env)
        assert '"name": "echo"' in out
        code, out, _ = await run("vm", "list", env=env)
        assert "h1" in out
        code, _, err = await run("vm", "evict", "h9", env=env)
        assert code == 1
        assert "h9" in err
        assert "Traceback" not in err


async def test_mistakes_get_short_words(short_dir: Path) -> None:
    bare = {"FALLOW_STATE_DIR": str(short_dir / "none"), "HOME": str(short_dir)}
    code, _, err = await run("action", "list", env=bare)
    assert (code, len(err.splitlines())) == (1, 2)
    assert "fallow up" in err
    code, _, err = await run("action", "list", env={**bare, "FALLOW_URL": "http://127.0.0.1:1", "FALLOW_AUTH": "a:b"})
    assert code == 1
    assert "cannot reach" in err
    old = short_dir / "old"
    old.mkdir()
    (old / "version").write_text("99\n")
    code, _, err = await run("up", "--port", "0", "--state-dir", str(old))
    assert code == 1
    assert "'99'" in err
    async with cluster_up(short_dir, "--vms", "0") as up:
        port = up.url.rsplit(":", 1)[1]
        code, _, err = await run("up", "--port", port, "--state-dir", str(short_dir / "second"))
        assert code == 1
        assert f"port {port}" in err
        code, _, err = await run("up", "--port", "0", "--state-dir", str(up.state_dir))
        assert code == 1
        assert "running from" in err
        code, out, _ = await run("status", "--json", env={"FALLOW_STATE_DIR": str(up.state_dir)})
        assert code == 0, "the refused one took nothing from the cluster that runs"
        assert up.url in out


async def test_settings_reach_the_processes_and_wrong_ones_are_named(short_dir: Path) -> None:
    settings = short_dir / "fallow.toml"
    settings.write_text('[controller]\npolicy = "mws"\nmax_memory_mb = 300\n')
    async with cluster_up(short_dir, "--vms", "0", "--config", str(settings)) as up:
        path = f"{up.url}/api/v1/namespaces/_/actions/big"
        document = {"exec": {"kind": "python:3", "code": "def main(a): return a"}, "limits": {"memory": 301}}
        async with up.session.put(path, json=document) as r:
            assert r.status == 400
            assert "300" in await r.text()
    settings.write_text("[controller]\nmax_memroy_mb = 300\n")
    code, _, err = await run("up", "--port", "0", "--state-dir", str(short_dir / "x"), "--config", str(settings))
    assert (code, "max_memroy_mb" in err, "max_memory_mb" in err) == (1, True, True)
    state = str(short_dir / "x")
    code, _, err = await run("up", "--port", "0", "--state-dir", state, env={"FALLOW_NONSENSE": "1"})
    assert code == 1
    assert "FALLOW_NONSENSE" in err
    code, _, err = await run("up", "--port", "0", "--state-dir", state, "--policy", "best")
    assert code == 2
    assert "mws" in err
    assert len(err.splitlines()) <= 3
