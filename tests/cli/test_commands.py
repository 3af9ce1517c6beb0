"""Commands that need no cluster: what they send, what they refuse, what they say."""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fallow_cli.action_document import definition
from fallow_cli.client import Answer, operator_target, server_words, tenant_target
from fallow_cli.cmd_vm import Duration
from fallow_cli.demo.injector import moments
from fallow_cli.entities import entity_path
from fallow_cli.errors import CliError
from fallow_cli.machine import free_ports, vm_memory_mb
from fallow_cli.main import cli
from fallow_cli.state import RunningCluster, StateDir
from fallow_cli.vm_plan import plan_from_traces


@pytest.fixture(autouse=True)
def _no_cluster_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FALLOW_URL", "FALLOW_AUTH", "FALLOW_OPERATOR_AUTH", "WSK_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FALLOW_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))


def run(*args: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, args)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_the_target_is_the_environment_then_the_cluster_then_wskprops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CliError, match="fallow up"):
        tenant_target()
    (tmp_path / ".wskprops").write_text("APIHOST=http://wsk:1\nAUTH=u:k\n")
    assert (tenant_target().url, tenant_target().key) == ("http://wsk:1", "u:k")
    state = StateDir(tmp_path / "state")
    state.prepare()
    state.write_cluster(
        RunningCluster(urls=["http://up:2"], key="u:up", operator_key="o:o", pid=1, run_dir="", fleet_socket="")
    )
    assert (tenant_target().url, tenant_target().key) == ("http://up:2", "u:up")
    assert operator_target().key == "o:o"
    monkeypatch.setenv("FALLOW_URL", "http://env:3/")
    monkeypatch.setenv("FALLOW_AUTH", "u:env")
    assert (tenant_target().url, tenant_target().key) == ("http://env:3", "u:env")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("echo", "/api/v1/namespaces/_/actions/echo"),
        ("pkg/echo", "/api/v1/namespaces/_/actions/pkg/echo"),
        ("/guest/echo", "/api/v1/namespaces/guest/actions/echo"),
        ("/guest/pkg/a b", "/api/v1/namespaces/guest/actions/pkg/a%20b"),
    ],
)
def test_action_names_become_paths(name: str, path: str) -> None:
    assert entity_path(name, "action") == path


@pytest.mark.parametrize("name", ["", "/guest", "a/b/c", "a//b", "/"])
def test_names_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(CliError, match="no action name"):
        entity_path(name, "action")


def defined(**given: Any) -> dict[str, Any]:
    options = dict.fromkeys(
        ("file", "kind", "main", "memory", "timeout", "logsize", "concurrency", "param", "annotation")
    )
    return definition(**{**options, **given})


def test_a_blackbox_needs_no_file(tmp_path: Path) -> None:
    assert defined(image="a/b:1") == {"exec": {"kind": "blackbox", "image": "a/b:1"}}
    file = tmp_path / "run.sh"
    file.write_text("#!/bin/sh\n")
    with_code = {"kind": "blackbox", "image": "a/b", "code": "#!/bin/sh\n", "main": "go"}
    assert defined(image="a/b", file=file, main="go") == {"exec": with_code}
    file.write_bytes(b"PK\x03\x04...")
    assert defined(image="a/b", file=file)["exec"]["code"] == "UEsDBC4uLg=="


def test_an_image_is_no_runtime_kind() -> None:
    with pytest.raises(CliError, match="--docker and --kind python:3"):
        defined(image="a/b", kind="python:3")
    assert defined(image="a/b", kind="blackbox")["exec"]["image"] == "a/b"


@pytest.mark.parametrize(("text", "seconds"), [("10s", 10.0), ("500ms", 0.5), ("2m", 120.0), ("1.5", 1.5)])
def test_durations(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("vm", "evict", "h1", "--notice", "soon"), "no duration"),
        (("vm", "resize", "h1", "0"), "0"),
        (("demo", "--evictions", "many"), "none, trace or a number"),
        (("up", "--port", "70000"), "70000"),
        (("action", "create", "x"), "needs a FILE"),
        (("action", "create", "x", "absent.py"), "cannot read absent.py"),
    ],
)
def test_wrong_arguments_are_named(args: tuple[str, ...], words: str) -> None:
    code, output = run(*args)
    assert code != 0
    assert words in output
    assert "Traceback" not in output


def test_an_unknown_runtime_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    code, output = run("action", "create", "x", str(tmp_path / "a.txt"))
    assert code == 1
    assert "--kind" in output


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CliError, match=f"port {port}"):
            free_ports(port, 1)
    assert len(set(free_ports(0, 3))) == 3


def test_memory_is_shared_and_never_tiny() -> None:
    assert vm_memory_mb(5, available_mb=10_000) == 1200
    assert vm_memory_mb(100, available_mb=1000) == 256


def test_the_servers_words_reach_the_person() -> None:
    answer = Answer(status=404, headers={}, body=b'{"error":"no such thing","code":"abc"}')
    assert server_words(answer) == "no such thing (HTTP 404, code abc)"
    assert "502" in server_words(Answer(status=502, headers={}, body=b"<html>"))


def test_evictions_are_spread_over_the_middle_and_seeded() -> None:
    chosen = moments(3, 60.0, random.Random(1))
    assert chosen == sorted(chosen) == moments(3, 60.0, random.Random(1))
    assert all(12.0 <= t <= 48.0 for t in chosen)
    assert moments(0, 60.0, random.Random(1)) == []


def test_vm_traces_become_vms_with_their_lives(tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    folder.mkdir()
    (folder / "1.txt").write_text("0 8\n60 4\n120 0\n300 6\n")
    (folder / "2.txt").write_text("0 16\n")
    vms = {vm.id: vm for vm in plan_from_traces(folder, regular_cores=4, memory_mb=512)}
    assert set(vms) == {"r1", "h1", "h1.2", "h2"}
    assert (vms["r1"].kind, vms["h1"].cores, vms["h1.2"].cores, vms["h2"].memory_mb) == ("regular", 8, 6, 512)


@pytest.mark.parametrize(("text", "where"), [("0 8\n60 x\n", "1.txt:2:4"), ("0 8\n60\n", "1.txt:2"), ("", "1.txt")])
def test_a_wrong_vm_trace_is_named_by_file_and_line(tmp_path: Path, text: str, where: str) -> None:
    (tmp_path / "1.txt").write_text(text)
    with pytest.raises(CliError, match=where):
        plan_from_traces(tmp_path, regular_cores=4, memory_mb=512)


def test_a_wrong_invocation_trace_ends_the_demo_before_anything_starts(tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text("app,func,end_timestamp,duration\na,f,1.0,0.5\na,f,oops,0.5\n")
    code, output = run("demo", "--invocations", str(trace), "--out", str(tmp_path / "out"))
    assert code == 1
    assert "t.csv:3" in output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(shell: str) -> None:
    code, output = run("completion", shell)
    assert code == 0
    assert "_FALLOW_COMPLETE" in output
