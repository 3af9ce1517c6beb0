"""Names of policies and strategies as options: what help tells, what is refused before anything starts."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

import fallow.core.policies  # noqa: F401 - registers the policies
from fallow.core.eviction import strategies
from fallow.core.policies.base import policies
from fallow_cli.main import cli


@pytest.mark.parametrize("command", ["up", "demo"])
def test_help_names_every_policy_and_strategy(command: str) -> None:
    text = "".join(CliRunner().invoke(cli, [command, "--help"]).output.split())  # lines break in names with a hyphen
    for name in (*policies(), *strategies()):
        assert name in text


@pytest.mark.parametrize("command", ["up", "demo"])
@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--policy", "round", "unknown policy 'round'; known: hash, jsq, mws, mws-published, p2c, or your own"),
        ("--strategy", "hope", "unknown strategy 'hope'; known: bounded, live-and-let-die, no-failures, "),
        ("--strategy", "bounded", "strategy 'bounded' needs a percentile, such as bounded:99 or bounded:99.9"),
        ("--strategy", "bounded:101", "'bounded:101': the percentile is 101: it must be above 0 and at most 100"),
        ("--strategy", "no-failures:1", "strategy 'no-failures' takes no argument, but was given '1'"),
    ],
)
def test_wrong_names_are_told_what_there_is(command: str, option: str, value: str, words: str) -> None:
    result = CliRunner().invoke(cli, [command, option, value])
    assert result.exit_code == 2
    assert words in result.output
