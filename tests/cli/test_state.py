"""The state folder: versions, locks, keys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fallow.infra.tenant_keys import OPENWHISK_GUEST
from fallow_cli.errors import CliError
from fallow_cli.state import RunningCluster, StateDir, guest_key, new_key


def test_keys_have_openwhisks_form_and_are_kept(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "s")
    state.prepare()
    key = state.secret("guest")
    assert re.fullmatch(r"[0-9a-f-]{36}:[A-Za-z0-9]{64}", key)
    assert state.secret("guest") == key
    assert (tmp_path / "s" / "guest.key").stat().st_mode & 0o777 == 0o600
    assert new_key() != new_key()


def test_a_guest_key_that_everybody_knows_is_refused(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.prepare()
    assert guest_key(state) == state.secret("guest")
    (tmp_path / "guest.key").write_text(OPENWHISK_GUEST + "\n")
    with pytest.raises(CliError, match=r"guest\.key is refused\n.*public repository"):
        guest_key(state)


def test_a_folder_of_another_version_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("99\n")
    with pytest.raises(CliError, match="state version '99'"):
        StateDir(tmp_path).prepare()
    assert [p.name for p in tmp_path.iterdir()] == ["version"]


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(CliError, match="no state folder"):
        StateDir(tmp_path).prepare()
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_two_clusters_cannot_share_a_folder(tmp_path: Path) -> None:
    first, second = StateDir(tmp_path), StateDir(tmp_path)
    first.prepare()
    first.lock()
    with pytest.raises(CliError, match="running from"):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()


def test_what_up_writes_is_read_back(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    assert state.read_cluster() is None
    running = RunningCluster(
        urls=["http://127.0.0.1:1"], key="k", operator_key="o", pid=1, run_dir="/tmp/x", fleet_socket="/tmp/x/f"
    )
    state.write_cluster(running)
    assert state.read_cluster() == running
    (tmp_path / "cluster.json").write_text("{")
    with pytest.raises(CliError, match="cannot read"):
        state.read_cluster()
