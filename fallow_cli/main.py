"""The `fallow` command."""

from __future__ import annotations

import sys

import click

from fallow import __version__
from fallow_cli.cmd_action import action
from fallow_cli.cmd_activation import activation, why
from fallow_cli.cmd_calibrate import calibrate
from fallow_cli.cmd_cluster import down, status, up
from fallow_cli.cmd_compare import compare
from fallow_cli.cmd_demo import demo
from fallow_cli.cmd_key import key
from fallow_cli.cmd_limits import limits
from fallow_cli.cmd_namespace import list_all, namespace
from fallow_cli.cmd_package import package
from fallow_cli.cmd_replay import replay
from fallow_cli.cmd_reproduce import reproduce
from fallow_cli.cmd_rule import rule
from fallow_cli.cmd_service import env, setup
from fallow_cli.cmd_simulate import simulate
from fallow_cli.cmd_trigger import trigger
from fallow_cli.cmd_vm import vm


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="fallow")
def cli() -> None:
    """Functions on harvest VMs: start a local cluster, deploy, invoke, and see what evictions do.

    Client commands use FALLOW_URL and FALLOW_AUTH, else the cluster that `fallow up` started, else ~/.wskprops.
    """


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script: eval "$(fallow completion bash)"."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "fallow", "_FALLOW_COMPLETE").source())


for command in (
    up,
    down,
    status,
    demo,
    compare,
    calibrate,
    action,
    package,
    trigger,
    rule,
    namespace,
    list_all,
    activation,
    why,
    vm,
    key,
    limits,
    replay,
    simulate,
    reproduce,
    setup,
    env,
):
    cli.add_command(command)


def main() -> None:
    """Entry point. Errors take at most three lines; a Ctrl-C ends quietly with status 130."""
    try:
        sys.exit(cli.main(standalone_mode=False, prog_name="fallow"))
    except click.UsageError as e:
        command = e.ctx.command_path if e.ctx is not None else "fallow"
        click.echo(f"fallow: {e.format_message()}\n  see `{command} --help`", err=True)
        sys.exit(e.exit_code)
    except click.ClickException as e:
        e.show()
        sys.exit(e.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)


if __name__ == "__main__":
    main()
