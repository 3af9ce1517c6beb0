"""A policy of a user's own: found by `module:Class` or by an entry point, in words where it is wrong."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from fallow.core.policies.guarded import Guarded
from fallow.own_policies import find_policy, policy_names
from fallow_cli.main import cli

FILE = '''
from dataclasses import replace
from fallow.core.model import VmId
from fallow.core.policies.power_of_two import PowerOfTwo

class Own(PowerOfTwo):
    """Two choices, by another name."""

class Stray(PowerOfTwo):
    def place(self, call, kind, view, now_s):
        return replace(super().place(call, kind, view, now_s), vm_id=VmId("h99"))

class Broken(PowerOfTwo):
    def __init__(self, rng):
        raise RuntimeError("no luck")

class Empty:
    def __init__(self, rng): ...
'''
SHORT = ("--rate", "2", "--duration", "20")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with policies and the metadata of a package that announces one."""
    (tmp_path / "strangers.py").write_text(FILE)
    (tmp_path / "unreadable.py").write_text("import nothing_of_that_name\n")
    package = tmp_path / "strangers-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[fallow.policies]\nannounced = strangers:Own\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    yield tmp_path
    sys.modules.pop("strangers", None)


@pytest.mark.parametrize("name", ["strangers:Own", "announced"])
def test_it_is_found_and_guarded(folder: Path, name: str) -> None:
    policy = find_policy(name, random.Random(1))
    assert isinstance(policy, Guarded)
    assert policy.name == name
    assert "announced" in policy_names()
    result = CliRunner().invoke(cli, ["simulate", "--policy", name, *SHORT])
    assert result.exit_code == 0, result.output
    assert name in result.output


@pytest.mark.parametrize("command", ["simulate", "up", "demo"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("strangers:Nobody", "module 'strangers' has no class 'Nobody'"),
        ("nowhere:Own", "module 'nowhere' cannot be imported: No module named 'nowhere'"),
        ("unreadable:Own", "module 'unreadable' cannot be imported: No module named 'nothing_of_that_name'"),
        ("strangers:Broken", "policy 'strangers:Broken' cannot be made: RuntimeError: no luck"),
        ("strangers:Empty", "is no policy: it lacks vm_joined, vm_usable, vm_left, arrived, completed, place"),
        (":Own", "policy ':Own' is not of the form module:Class"),
        ("unheard", "known: announced, hash, jsq, mws, mws-published, p2c, or your own as module:Class"),
    ],
)
def test_what_cannot_be_found_is_refused_before_anything_starts(
    folder: Path, command: str, name: str, words: str
) -> None:
    result = CliRunner().invoke(cli, [command, "--policy", name])
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())


@pytest.mark.parametrize("policies", ["strangers:Stray", "mws,strangers:Stray"])
def test_a_wrong_policy_ends_the_simulation_in_words(folder: Path, policies: str) -> None:
    result = CliRunner().invoke(cli, ["simulate", "--policy", policies, *SHORT])
    assert result.exit_code == 1
    assert "policy 'strangers:Stray' chose VM h99, which is unknown" in result.output
    assert "Traceback" not in result.output
