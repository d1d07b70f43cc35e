"""``virtc completion``: prints the script with which a shell completes virtc's commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from vc_core.cli import output

_SHELLS = ("bash", "zsh", "fish")


@click.command(cls=output.Command)
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that makes a shell complete virtc's commands, options and pods.

    Example: eval "$(virtc completion bash)"
    """
    completer = get_completion_class(shell)
    assert completer is not None, "click completes the shells of the choice"
    output.echo(completer(context.find_root().command, {}, "virtc", "_VIRTC_COMPLETE").source())
