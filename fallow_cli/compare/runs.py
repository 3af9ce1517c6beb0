"""The runs of a comparison: which, in what order, and how each is made from the same preparation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fallow.report.html import write_report
from fallow.report.summary import summarise
from fallow_cli.demo.folder import state_folder
from fallow_cli.demo.prepare import DemoOptions, Prepared, prepare
from fallow_cli.demo.run import run_demo
from fallow_cli.errors import CliError


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One demo of a comparison."""

    policy: str
    strategy: str
    seed: int

    @property
    def folder(self) -> str:
        """The name of its folder under --out."""
        return f"{self.policy}-{self.strategy.replace(':', '-')}-seed{self.seed}"

    def __str__(self) -> str:
        return f"policy {self.policy}, strategy {self.strategy}, seed {self.seed}"


def in_turns(policies: Sequence[str], strategies: Sequence[str], seeds: Sequence[int]) -> list[Run]:
    """Seed by seed, so that a machine that drifts does so for all variants alike; each seed begins with another one."""
    variants = [(policy, strategy) for strategy in strategies for policy in policies]
    turns = []
    for number, seed in enumerate(seeds):
        first = number % len(variants)
        for policy, strategy in variants[first:] + variants[:first]:
            turns.append(Run(policy=policy, strategy=strategy, seed=seed))
    return turns


def prepare_all(options: DemoOptions, seeds: Sequence[int]) -> dict[int, Prepared]:
    """One preparation a seed, before anything runs: the variants share it, and with it plan, VMs and their memory.

    Raises CliError.
    """
    return {seed: prepare(replace(options, seed=seed)) for seed in seeds}


def carry_out(run: Run, options: DemoOptions, prepared: Prepared, out: Path, *, quiet: bool) -> dict[str, Any]:
    """Makes one run and writes its report into its own folder under `out`; returns the summary.

    Raises CliError where it could not be had, KeyboardInterrupt on Ctrl-C; leaves no process behind.
    """
    own = replace(options, policy=run.policy, strategy=run.strategy, seed=run.seed)
    with_run = replace(prepared, cluster=replace(prepared.cluster, policy=run.policy, strategy=run.strategy))
    with state_folder(None) as state:
        data = asyncio.run(run_demo(own, with_run, state, quiet=quiet))
    summary = summarise(data)
    write_report(data, summary, out / run.folder)
    return summary


def carry_out_all(
    turns: Sequence[Run],
    make: Callable[[Run], dict[str, Any]],
    say: Callable[[str], None],
) -> tuple[list[dict[str, Any]], BaseException | None]:
    """Makes the runs in turn until one fails or is interrupted.

    Returns the summaries of those that finished, and what ended it early: a CliError, a KeyboardInterrupt, or None.
    """
    summaries: list[dict[str, Any]] = []
    try:
        for number, run in enumerate(turns, 1):
            say(f"run {number} of {len(turns)}: {run}")
            summaries.append(make(run))
    except (CliError, KeyboardInterrupt) as e:
        return summaries, e
    return summaries, None
