"""What `up` and `demo` check before anything starts: names of policies and strategies, settings of the processes."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import click

from fallow.core.eviction import make_strategy
from fallow.core.model import VmKind
from fallow.infra.settings import AgentSettings, ControllerSettings, InvokerSettings, SettingsError, load
from fallow.report.price import DISCOUNTS, cost_rate
from fallow_cli.errors import CliError

AUTO = "auto"
RUNTIMES = ("process", "docker")
RUNTIME_HELP = "What containers are: processes, or a Docker Engine's containers."
POLICY_HELP = "Placement policy: mws, mws-published, jsq, hash, p2c, an installed one, or your own as module:Class"
STRATEGY_HELP = "Eviction strategy: prefer-regular, no-failures, bounded:P (P = 99, 99.9, ...) or live-and-let-die"


class CoreScale(click.FloatRange):
    """Real cores an emulated one; None, for auto, = as fits the machine."""

    name = "number or auto"

    def __init__(self) -> None:
        super().__init__(0.001, 64)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == AUTO else super().convert(value, param, ctx)


def python_option(command: Any) -> Any:
    """--python: which interpreter simulates."""
    return click.option(
        "--python",
        metavar="INTERPRETER",
        callback=lambda ctx, param, value: value or None,
        envvar="FALLOW_SIMULATOR_PYTHON",
        show_envvar=True,
        help="The interpreter that simulates, one with NumPy: the same results, on PyPy several times as fast.",
    )(command)


def known_policy(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    from fallow.own_policies import find_policy

    try:
        if value is not None:
            find_policy(value, random.Random(0))  # as every process of the cluster will
    except ValueError as e:
        raise click.BadParameter(str(e)) from None
    return value


def known_strategy(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    try:
        if value is not None:
            make_strategy(value, 30.0)
    except ValueError as e:
        raise click.BadParameter(str(e)) from None
    return value


def harvest_price(cores: float) -> float:
    """Price of one core-second of a harvest VM of so many cores, relative to a regular one, at discount Typical."""
    return round(cost_rate(VmKind.HARVEST, cores, DISCOUNTS["Typical"]) / cores, 4) if cores else 1.0


def check_settings(config: Path | None) -> None:
    """Raises CliError for a wrong key or value in the settings file or the environment, before anything starts."""
    file = config or (Path(os.environ["FALLOW_CONFIG"]) if os.environ.get("FALLOW_CONFIG") else None)
    sections = {"controller": ControllerSettings, "invoker": InvokerSettings, "agent": AgentSettings}
    try:
        for section, cls in sections.items():
            load(cls, section=section, file=file, env=os.environ, flags={})
    except SettingsError as e:
        raise CliError(str(e)) from None
