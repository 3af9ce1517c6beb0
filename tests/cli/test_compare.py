"""`fallow compare` without a cluster: the order of the runs, what is refused, what an interruption leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fallow_cli.cmd_demo import demo
from fallow_cli.compare import runs
from fallow_cli.compare.runs import Run, carry_out_all, in_turns
from fallow_cli.demo.injector import choose
from fallow_cli.errors import CliError
from fallow_cli.main import cli


def test_variants_take_turns_seed_by_seed() -> None:
    turns = in_turns(["mws", "jsq"], ["a", "b"], [1, 2])
    assert [(t.seed, t.policy, t.strategy) for t in turns] == [
        (1, "mws", "a"), (1, "jsq", "a"), (1, "mws", "b"), (1, "jsq", "b"),
        (2, "jsq", "a"), (2, "mws", "b"), (2, "jsq", "b"), (2, "mws", "a"),
    ]  # fmt: skip


def test_every_run_has_a_folder_of_its_own() -> None:
    turns = in_turns(["mws", "jsq"], ["bounded:99", "bounded:99.9", "no-failures"], [1, 2])
    assert len({turn.folder for turn in turns}) == len(turns)
    assert turns[0].folder == "mws-bounded-99-seed1"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (
            ("--policies", "mws,round"),
            "unknown policy 'round'; known: hash, jsq, mws, mws-published, p2c, or your own as module:Class",
        ),
        (("--strategies", "prefer-regular,bounded:0"), "the percentile is 0"),
        (("--strategy", "hope"), "unknown strategy 'hope'"),
        (("--policies", "mws,,hash"), "'mws,,hash' has an empty item"),
        (("--seeds", "1,2,x"), "'x' is no whole number"),
        (("--seeds", "1,2,1"), "'1' is named twice"),
        (("--seeds", "1,01"), "'01' is named twice"),
        (("--evictions", "many"), "none, trace or a number"),
        (("--json", "--markdown"), "exclude each other"),
    ],
)
def test_wrong_arguments_are_named(args: tuple[str, ...], words: str) -> None:
    result = CliRunner().invoke(cli, ["compare", *args])
    assert result.exit_code == 2
    assert words in result.output


def test_it_has_every_option_of_the_demo() -> None:
    here = {name for param in cli.commands["compare"].params for name in param.opts}
    theirs = {name for param in demo.params for name in param.opts}
    assert theirs - here == {"--state-dir"}


RUN = Run(policy="mws", strategy="prefer-regular", seed=1)


@pytest.mark.parametrize("error", [CliError("no cluster"), KeyboardInterrupt()])
def test_what_ends_it_early_leaves_what_has_finished(error: BaseException) -> None:
    made: list[int] = []

    def make(run: Run) -> dict[str, Any]:
        if len(made) == 2:
            raise error
        made.append(run.seed)
        return {"seed": run.seed}

    said: list[str] = []
    summaries, ended_by = carry_out_all(in_turns(["mws"], ["a"], [5, 6, 7, 8]), make, said.append)
    assert summaries == [{"seed": 5}, {"seed": 6}]
    assert ended_by is error
    assert said[-1] == "run 3 of 4: policy mws, strategy a, seed 7"


def play(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, results: list[Any], *args: str) -> Result:
    """The command with canned runs in place of real ones."""
    given = iter(results)

    def carry_out(run: Run, *_: Any, **__: Any) -> dict[str, Any]:
        result = next(given)
        if isinstance(result, BaseException):
            raise result
        return {**result, "policy": run.policy, "strategy": run.strategy, "seed": run.seed}

    monkeypatch.setattr(runs, "carry_out", carry_out)
    return CliRunner().invoke(
        cli, ["compare", "--policies", "mws,hash", "--seeds", "1", "--out", str(tmp_path / "out"), *args]
    )


def test_an_interruption_shows_the_runs_before_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, canned: dict[str, Any]
) -> None:
    result = play(monkeypatch, tmp_path, [canned, KeyboardInterrupt()], "--duration", "5")
    assert "stopped after 1 of 2 runs" in result.output
    assert "invocations      100" in result.output
    assert result.exit_code != 0
    written = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [variant["policy"] for variant in written["variants"]] == ["mws"]


def test_it_prints_a_table_markdown_or_json(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, canned: dict[str, Any]
) -> None:
    plain = play(monkeypatch, tmp_path, [canned, canned])
    assert plain.exit_code == 0
    assert plain.stdout.splitlines()[0].split() == ["mws", "hash"]
    table = play(monkeypatch, tmp_path, [canned, canned], "--markdown")
    assert "|  | mws | hash |" in table.stdout
    document = play(monkeypatch, tmp_path, [canned, canned], "--json")
    assert json.loads(document.stdout)["variants"][1]["policy"] == "hash"


def test_lost_calls_are_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, canned: dict[str, Any]) -> None:
    assert play(monkeypatch, tmp_path, [canned, {**canned, "lost": 1}]).exit_code == 1


@pytest.fixture
def canned() -> dict[str, Any]:
    times = {"p50": 1.0, "p95": 2.0, "p99": 3.0}
    return {
        "invocations": 100, "succeeded": 100, "failed": 0, "lost": 0, "cold_starts": 10, "warm_starts": 90,
        "evictions": 1, "cut_off": {"calls": 0, "unforeseen": 0, "failed": 0}, "replaced": 0,
        "placements": {"long_harvest": 0, "long_regular": 0},
        "latency_ms": times, "wait_ms": times, "late_ms": times, "duration_s": 5.0, "speedup": 10.0, "notice_s": 3.0,
        "core_scale": 0.1, "invocation_source": "generated", "vm_source": "generated", "retries": True,
        "history": False, "cpu_enforced": True,
    }  # fmt: skip


def vm(name: str, running: int = 1, kind: str = "harvest", usable: bool = True) -> dict[str, Any]:
    return {"id": name, "kind": kind, "usable": usable, "running": running}


def test_the_same_lots_evict_the_same_vm_wherever_it_is_busy() -> None:
    names = [f"h{n}" for n in range(1, 6)]
    lots = [f"1/evictions/{n}" for n in range(200)]
    chosen = [choose([vm(name) for name in names], lot) for lot in lots]
    ids = [one["id"] for one in chosen if one is not None]
    assert set(ids) == set(names)
    assert all(20 <= ids.count(name) <= 60 for name in names), "each has an equal chance"
    for lot, victim in zip(lots, ids, strict=True):
        fewer = [vm(name) for name in reversed(names) if name == victim or name in ("h1", "h3")]
        assert choose([*fewer, vm("r1", 9, "regular"), vm("h9", 0), vm("h8", usable=False)], lot) == vm(victim)
    assert choose([vm("r1", kind="regular"), vm("h1", 0)], "x") is None
