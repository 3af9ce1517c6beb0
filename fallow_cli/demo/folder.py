"""Where a demo keeps its state: the folder that was asked for, or one that goes with it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from fallow_cli.errors import CliError
from fallow_cli.state import StateDir


@contextlib.contextmanager
def state_folder(chosen: Path | None) -> Iterator[StateDir]:
    """The chosen state folder, or a temporary one that is kept only if the demo fails."""
    if chosen is not None:
        yield StateDir(chosen)
        return
    path = Path(tempfile.mkdtemp(prefix="fallow-demo-", dir="/tmp"))
    try:
        yield StateDir(path)
    except CliError:
        click.echo(f"fallow: logs are kept in {path / 'logs'}", err=True)
        raise
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    shutil.rmtree(path, ignore_errors=True)
