"""``virtc completion``: what a shell needs to complete our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that makes a shell complete virtc's commands, options and pods.

    Example: eval "$(virtc completion bash)"
    """
    made_by = get_completion_class(shell)
    assert made_by is not None, "click knows the shells of the choice"
    click.echo(made_by(context.find_root().command, {}, "virtc", "_VIRTC_COMPLETE").source())
