"""What a demo shows while it runs: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from fallow_cli.client import Client, list_vms
from fallow_cli.errors import CliError
from loadtest.replay import Progress as ReplayProgress

POLL_S = 0.5
LINE_EVERY_S = 5.0


@dataclass
class View:
    """The latest figures: the replay's, and the cluster's cores."""

    replay: ReplayProgress | None = None
    cores: dict[str, float] = field(default_factory=dict)

    def text(self) -> str:
        p = self.replay
        if p is None:
            return "starting"
        cores = sum(self.cores.values())
        return (
            f"{p.sent} sent, {p.rate_per_s:.1f}/s, {p.in_flight} in flight, warm {p.warm}, cold {p.cold}, "
            f"errors {p.failed}, {len(self.cores)} VMs with {cores:g} cores"
        )


async def _follow_cores(client: Client, view: View) -> None:
    while True:
        with contextlib.suppress(CliError):  # one missed look does not matter: the next is due in half a second
            view.cores = {vm["id"]: vm["cores"] for vm in await list_vms(client) if vm["usable"]}
        await asyncio.sleep(POLL_S)


@contextlib.asynccontextmanager
async def shown(view: View, client: Client, *, total: int, quiet: bool) -> AsyncIterator[None]:
    """Shows `view` until left, on standard error."""
    async with asyncio.TaskGroup() as group:
        follower = group.create_task(_follow_cores(client, view))
        painter = None if quiet else group.create_task(_paint(view, total))
        try:
            yield
        finally:
            follower.cancel()
            if painter is not None:
                painter.cancel()


async def _paint(view: View, total: int) -> None:
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        while True:
            await asyncio.sleep(LINE_EVERY_S)
            click.echo(view.text(), err=True)
    columns = (
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=total)
        while True:
            bar.update(task, completed=view.replay.sent if view.replay else 0, description=view.text())
            await asyncio.sleep(0.2)
