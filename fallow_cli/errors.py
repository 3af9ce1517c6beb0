"""The one error a command shows to a person."""

from __future__ import annotations

import click


class CliError(click.ClickException):
    """What happened, which value, what to do next: at most three lines, exit status 1."""

    def show(self, file: object = None) -> None:
        click.echo(
            "\n".join(f"fallow: {line}" if i == 0 else f"  {line}" for i, line in enumerate(self.lines())), err=True
        )

    def lines(self) -> list[str]:
        return str(self.message).strip().splitlines()[:3] or ["failed"]
